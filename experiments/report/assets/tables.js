// Tables: what the selected plan changes, the front, the baselines; and how to make it again.

const FEW_SUBJECTS = 6;

function table(heads, rows, numeric) {
  const side = (k) => (numeric.includes(k) ? { class: "number" } : {});
  return el("div", { class: "scroll" },
    el("table", {},
      el("thead", {}, el("tr", {}, ...heads.map((head, k) => el("th", { scope: "col", ...side(k) }, head)))),
      el("tbody", {}, ...rows.map(({ cells, ...attributes }) =>
        el("tr", attributes, ...cells.map((cell, k) => el("td", side(k), cell)))))));
}

function changesPanel(section) {
  const place = el("div");
  section.append(place);
  onSelect((plan) => {
    const groups = new Map();
    for (const one of changesOf(plan)) {
      const key = JSON.stringify([one.aspect, one.there, one.here]);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(one.subject);
    }
    if (!groups.size) {
      place.replaceChildren(el("p", {}, plan === reference
        ? "This is the plan that others are compared with."
        : `It decides everything as ${reference.name} does.`));
      return;
    }
    const rows = [...groups].map(([key, subjects]) => {
      const [aspect, there, here] = JSON.parse(key);
      return { cells: [aspect, there, here, String(subjects.length), subjectList(subjects)] };
    });
    const count = plan.changes.length / 3;
    place.replaceChildren(
      el("p", { class: "small" },
        `${count} choice${count > 1 ? "s differ" : " differs"}. A dash: there is no such subject in that plan.`),
      table(["aspect", reference.name, planName(plan), "subjects", ""], rows, [3]),
    );
  });
}

function subjectList(subjects) {
  if (subjects.length <= FEW_SUBJECTS) return subjects.join(", ");
  const first = subjects.slice(0, FEW_SUBJECTS).join(", ");
  const rest = subjects.slice(FEW_SUBJECTS).join(", ");
  return el("details", {}, el("summary", {}, `${first}, and ${subjects.length - FEW_SUBJECTS} more`), rest);
}

function plansPanel(section, role) {
  const place = el("div");
  const known = Object.keys(MEASURES);
  const rows = data.plans.filter((plan) => plan.role === role)
    .sort((a, b) => a.time_ns - b.time_ns || (a.id < b.id ? -1 : 1));
  const numeric = [1, 2, 3, 4, 5];
  const heads = ["plan", ...known.map((key) => `${MEASURES[key].name}, ${MEASURES[key].unit}`), `${reference.name} / it`,
    ...(role === "baseline" ? ["what it is"] : [])];
  section.append(place);
  onSelect((selected) => {
    const cells = (plan) => [
      el("button", { type: "button", class: "link", onclick: () => select(plan.id) },
        planName(plan) + (plan === chosen ? " (chosen)" : "")),
      ...known.map((key) => digits(plan[key] / MEASURES[key].scale)),
      `${digits(times(plan), 4)} x`,
      ...(role === "baseline" ? [plan.summary] : []),
    ];
    place.replaceChildren(table(heads, rows.map((plan) => ({
      class: plan === selected ? "selected" : false,
      "aria-selected": plan === selected ? "true" : false,
      cells: cells(plan),
    })), numeric));
  });
}

function manifestPanel(section) {
  const lines = [];
  const walk = (value, path) => {
    if (value !== null && typeof value === "object" && Object.keys(value).length) {
      for (const [key, inner] of Object.entries(value)) walk(inner, path ? `${path}.${key}` : key);
    } else lines.push([path, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  };
  walk(data.manifest, "");
  const { command } = data.manifest;
  const text = `${JSON.stringify(data.manifest, null, 1)}\n`;
  section.append(
    el("p", {}, "The same command with the same versions gives the same front:"),
    el("pre", { class: "command" }, command),
    el("div", { class: "controls" }, copyButton("copy the command", command), copyButton("copy the manifest", text)),
    table(["field", "value"], lines.map((cells) => ({ cells })), []),
  );
}

function copyButton(text, content) {
  const node = el("button", { type: "button", class: "copy" }, text);
  const tell = (word) => {
    node.textContent = word;
    setTimeout(() => { node.textContent = text; }, 1500);
  };
  node.addEventListener("click", () => {
    copyText(content).then(() => tell("copied"), () => tell("not copied: select the text instead"));
  });
  return node;
}

async function copyText(content) {
  try {
    await navigator.clipboard.writeText(content);
  } catch {
    // A browser that keeps its clipboard from pages on disk still copies a selection.
    const area = el("textarea", { class: "offscreen" });
    area.value = content;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("refused");
  }
}
