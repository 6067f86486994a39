// Tables: what the selected plan changes, the front, the baselines; and how to make it again.

const ALWAYS = 40;

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
  const shown = { all: false };
  const draw = () => {
    const plan = state.selected;
    const changes = changesOf(plan);
    if (!changes.length) {
      place.replaceChildren(el("p", {}, plan === reference
        ? "This is the plan that others are compared with."
        : `It decides everything as ${reference.name} does.`));
      return;
    }
    const by = [...countBy(changes, (one) => one.aspect)];
    const kinds = by.map(([aspect, count]) => `${aspect} ${count}`).join(", ");
    const rows = (shown.all ? changes : changes.slice(0, ALWAYS)).map((one) =>
      ({ cells: [one.aspect, one.subject, one.there, one.here] }));
    const rest = changes.length - ALWAYS;
    const toggle = rest > 0
      ? el("button", { type: "button", onclick: () => { shown.all = !shown.all; draw(); } },
        shown.all ? "show fewer" : `show ${rest} more`)
      : null;
    place.replaceChildren(
      el("p", { class: "small" },
        `${changes.length} choices differ (${kinds}). A dash: there is no such subject in that plan.`),
      table(["aspect", "subject", reference.name, planName(plan)], rows, []),
      ...(toggle ? [el("div", { class: "controls" }, toggle)] : []),
    );
  };
  section.append(place);
  onSelect(draw);
}

function plansPanel(section, role) {
  const place = el("div");
  const known = Object.keys(MEASURES).filter((key) => data.plans.some((plan) => plan[key] !== null));
  const rows = data.plans.filter((plan) => plan.role === role)
    .sort((a, b) => a.time_ns - b.time_ns || (a.id < b.id ? -1 : 1));
  const numeric = [1, 2, 3, 4, 5, 6].filter((k) => k <= known.length + 1);
  const heads = ["plan", ...known.map((key) => `${MEASURES[key].name}, ${MEASURES[key].unit}`), `${reference.name} / it`,
    ...(role === "baseline" ? ["what it is"] : [])];
  section.append(place);
  onSelect((selected) => {
    const cells = (plan) => [
      el("button", { type: "button", class: "link", onclick: () => select(plan.id) },
        planName(plan) + (plan === chosen ? " (chosen)" : "")),
      ...known.map((key) => plan[key] === null ? ABSENT : digits(plan[key] / MEASURES[key].scale)),
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

const ABSENT = "\u2013";

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
