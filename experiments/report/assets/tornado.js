// What one constant at either end of its spread does: to both plans, and to their ratio.

const FEW = 12;

function tornadoPanel(section) {
  const place = el("div", { class: "plot" });
  const more = el("button", { type: "button", "aria-expanded": "false" });
  const shown = { all: false };
  const redraw = () => {
    const count = drawTornado(place, shown.all);
    more.textContent = shown.all ? `show the ${FEW} largest` : `show all ${count}`;
    more.setAttribute("aria-expanded", String(shown.all));
  };
  more.addEventListener("click", () => {
    shown.all = !shown.all;
    redraw();
  });
  section.append(
    legend([["low", "5 % end of a constant's times (shorter)"], ["high", "95 % end (longer)"]]),
    place,
    el("div", { class: "controls" }, more),
    el("p", { class: "small" },
      "One constant at a time, the others at their values; the engine runs again. A coefficient " +
      "that several constants share moves them together; its colours are its own 5 % and 95 % ends. No share " +
      "goes beyond its limit, the measured peak. A ratio that hardly moves is a comparison that " +
      "does not depend on that constant. Sorted by the effect on the selected plan."),
  );
  onSelect(redraw);
}

function swingsOf(plan) {
  // Ends of a constant that a plan does not rest on: its time, unchanged.
  return (name) => plan.swings[name] ?? [plan.time_ns, plan.time_ns];
}

function tornadoRows(plan) {
  const [mine, theirs] = [swingsOf(plan), swingsOf(reference)];
  const rows = Object.keys(data.variates).map((name) => {
    const [a, b] = [mine(name), theirs(name)];
    const change = (ends, one) => ends.map((end) => end / one.time_ns - 1);
    const ratio = a.map((end, k) => b[k] / end / (reference.time_ns / plan.time_ns) - 1);
    return { name, columns: [change(a, plan), change(b, reference), ratio] };
  });
  const size = (row, k) => Math.max(...row.columns[k].map(Math.abs));
  const used = rows.filter((row) => row.columns.some((column) => column.some((one) => one !== 0)));
  return used.sort((a, b) => size(b, 0) - size(a, 0) || size(b, 1) - size(a, 1) || (a.name < b.name ? -1 : 1));
}

function drawTornado(place, all) {
  const plan = state.selected;
  const rows = tornadoRows(plan);
  const shown = all ? rows : rows.slice(0, FEW);
  const width = widthOf(place);
  const heads = plan === reference
    ? [`step of ${reference.name}`]
    : [`step of ${planName(plan)}`, `step of ${reference.name}`, `${reference.name} / ${planName(plan)}`];
  const beside = width >= 760;
  const names = beside ? 290 : Math.min(180, width * 0.42);
  const each = beside ? (width - names) / heads.length : width - names;
  const tall = 34 + shown.length * 20 + 44;
  const node = canvas(width, beside ? tall : tall * heads.length, "Sensitivity to each constant");
  const far = Math.max(0.01, ...shown.flatMap((row) => row.columns.slice(0, heads.length).flat().map(Math.abs)));
  heads.forEach((head, k) => {
    const [x, y] = beside ? [names + k * each, 0] : [names, k * tall];
    if (!k || !beside) namesOf(node, shown, names, y, plan);
    node.append(tornadoColumn(shown, k, head, far, x, y, each));
  });
  place.replaceChildren(node);
  return rows.length;
}

function namesOf(node, rows, width, top, plan) {
  rows.forEach((row, k) => {
    const text = clipped(shortPath(row.name), width - 16, 5.9);
    const item = label(width - 8, top + 34 + k * 20 + 13, text, { "text-anchor": "end", tabindex: 0 });
    node.append(tipped(item, () => tornadoTip(row, plan)));
  });
}

function tornadoColumn(rows, column, head, far, left, top, width) {
  const toX = scale(-far * 1.3, far * 1.3, left + 8, left + width - 12);
  const inPercent = scale(-far * 130, far * 130, left + 8, left + width - 12);
  const node = svg("g");
  node.append(label(left + width / 2, top + 16, clipped(head, width - 10), { "text-anchor": "middle", class: "panename" }));
  rows.forEach((row, k) => {
    const y = top + 34 + k * 20;
    const ends = row.columns[column];
    const order = Math.abs(ends[0]) > Math.abs(ends[1]) ? [0, 1] : [1, 0];  // the longer one behind
    const group = svg("g", {}, svg("rect", { x: left, y, width, height: 20, class: "hit" }));
    for (const end of order) {
      if (ends[end]) group.append(bar(toX(0), toX(ends[end]), y + 3, 13, end ? "high" : "low"));
    }
    for (const side of [-1, 1]) {
      const most = side < 0 ? Math.min(...ends) : Math.max(...ends);
      if (most * side < 0.0005) continue;
      const text = `${signed(100 * most, Math.abs(most) < 0.1 ? 2 : 3)}`;
      const anchor = side < 0 ? "end" : "start";
      group.append(label(toX(most) + 4 * side, y + 13.5, text, { "text-anchor": anchor, class: "value" }));
    }
    node.append(tipped(group, () => tornadoTip(row, state.selected)));
  });
  const bottom = top + 34 + rows.length * 20 + 2;
  node.append(
    svg("line", { x1: toX(0), x2: toX(0), y1: top + 28, y2: bottom, class: "tick" }),
    axisX(inPercent, -far * 130, far * 130, bottom, width / 46, "change, %"),
  );
  return node;
}

function tornadoTip(row, plan) {
  const one = data.variates[row.name];
  const heads = [planName(plan), reference.name, "ratio"];
  const line = (k) => `${heads[k]}: ${row.columns[k].map((end) => `${signed(100 * end)} %`).join(" and ")}`;
  return [
    row.name,
    `${one.value}, ${one.kind}; ends: a factor of ${digits(one.spread, 3)}`,
    ...(plan === reference ? [line(1)] : [line(0), line(1), line(2)]),
    one.source ? clipped(one.source, 900) : null,
  ];
}
