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
    const groups = groupsOf(plan);
    if (!groups.length) {
      const why = plan === reference ? "This is the plan that others are compared with."
        : plan.change ? `It decides everything as ${reference.name} does.`
          : `A baseline: ${plan.summary}. Plans of the front are explained here.`;
      place.replaceChildren(el("p", {}, why));
      return;
    }
    const rows = groups.map((one) => ({ cells: [
      one.aspect, one.what, one.before, one.after, String(one.subjects.length),
      "before_ns" in one ? digits(one.before_ns / 1e6) : "",
      "after_ns" in one ? digits(one.after_ns / 1e6) : "",
      subjectList(one.subjects),
    ] }));
    const drawing = el("div", { class: "plot" });
    place.replaceChildren(
      drawing,
      el("p", { class: "small" },
        "Undoing: what the step would lose if that group alone were as before. Alone: what it " +
        "would gain as the only change. Changes that need each other bring more together; " +
        "neither adds up to the whole."),
      table(["aspect", "operators", reference.name, planName(plan), "subjects",
        "alone, ms: before", "after", "which"], rows, [4, 5, 6]),
      el("p", { class: "small" }, "A dash: there is no such subject in that plan. Alone: the time of " +
        "these operators by themselves, added up."),
    );
    drawContributions(drawing, plan.change.contributions);
  });
}

function drawContributions(place, rows) {
  if (!rows.length) return;
  const width = Math.min(widthOf(place), 760);
  const left = 172;
  const all = rows.flatMap((row) => [row.last_saves_ns, row.alone_saves_ns]).map((ns) => ns / 1e6);
  const [least, most] = [Math.min(0, ...all), Math.max(0, ...all)];
  const margin = (most - least || 1) * 0.16;
  const [low, high] = [least - (least < 0 ? margin : 0), most + margin];
  const toX = scale(low, high, left, width - 14);
  const bottom = rows.length * 38 + 4;
  const node = canvas(width, bottom + 40, "What each group of changes saves");
  rows.forEach((row, k) => {
    const y = 2 + k * 38;
    const name = `${row.group} (${row.changes})`;
    node.append(label(left - 8, y + 21, clipped(name, left - 8), { "text-anchor": "end" }));
    [["last_saves_ns", "undone", 2], ["alone_saves_ns", "single", 18]].forEach(([key, kind, down]) => {
      const x = toX(row[key] / 1e6);
      const side = row[key] < 0 ? -1 : 1;
      const box = bar(toX(0), x, y + down, 14, kind);
      node.append(
        tipped(box, () => [name, `${kind === "undone" ? "undoing it costs" : "alone it saves"} ${ms(row[key])}`]),
        label(x + 5 * side, y + down + 11, signed(row[key] / 1e6), { "text-anchor": side < 0 ? "end" : "start", class: "value" }),
      );
    });
  });
  node.append(
    svg("line", { x1: toX(0), x2: toX(0), y1: 0, y2: bottom, class: "tick" }),
    axisX(toX, low, high, bottom, width / 120, "step saved, ms"),
  );
  place.replaceChildren(legend([["undone", "last: undoing it costs"], ["single", "alone: as the only change"]]), node);
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
