// The front: two measures against each other, baselines marked, the staircase of what is best.

function frontPanel(section) {
  const place = el("div", { class: "plot" });
  const wanted = data.title.objectives.length > 1 ? data.title.objectives : ["time", "energy"];
  const shown = { x: keyOf(wanted[0]), y: keyOf(wanted[1]), range: "near" };
  const options = Object.keys(MEASURES).map((key) => [key, MEASURES[key].name]);
  const redraw = () => drawFront(place, shown);
  const change = (field) => (value) => {
    shown[field] = value;
    redraw();
  };
  const ranges = [["near", `front and ${reference.name}`], ["all", "all baselines"]];
  section.append(
    el(
      "div",
      { class: "controls" },
      choice("x", options, shown.x, change("x")),
      choice("y", options, shown.y, change("y")),
      choice("show", ranges, shown.range, change("range")),
    ),
    place,
    legend([["front", "front"], ["best", "best of the two shown"], ["baseline", "baseline"]]),
  );
  onSelect(redraw);
}

function staircase(points, x, y) {
  // Points that no other beats in both measures shown, by rising x.
  const sorted = [...points].sort((a, b) => a[x] - b[x] || a[y] - b[y]);
  const best = [];
  for (const plan of sorted) {
    if (!best.length || plan[y] < best[best.length - 1][y]) best.push(plan);
  }
  return best;
}

function drawFront(place, { x, y, range }) {
  const width = widthOf(place);
  const height = Math.min(420, Math.max(300, width * 0.62));
  const edge = { left: 64, right: 20, top: 16, bottom: 44 };
  const front = data.plans.filter((plan) => plan.role === "front");
  const baselines = data.plans.filter((plan) => plan.role === "baseline");
  const near = baselines.filter((plan) => range === "all" || plan === reference || plan === state.selected);
  const value = (plan, key) => plan[key] / MEASURES[key].scale;
  const of = (key) => padded([...front, ...near].map((plan) => value(plan, key)), 0.08, 0);
  const [[x0, x1], [y0, y1]] = [of(x), of(y)];
  const toX = scale(x0, x1, edge.left, width - edge.right);
  const toY = scale(y0, y1, height - edge.bottom, edge.top);
  const at = (plan) => [toX(value(plan, x)), toY(value(plan, y))];
  const inside = (plan) =>
    value(plan, x) >= x0 && value(plan, x) <= x1 && value(plan, y) >= y0 && value(plan, y) <= y1;
  const name = (key) => `${MEASURES[key].name}, ${MEASURES[key].unit}`;
  const node = canvas(
    width, height, `Front: ${name(y)} against ${name(x)}`,
    axisX(toX, x0, x1, height - edge.bottom, width / 110, name(x), height - edge.bottom - edge.top),
    axisY(toY, y0, y1, edge.left, 6, name(y), width - edge.right - edge.left),
  );
  const steps = staircase(front, x, y).map(at);
  if (steps.length > 1) {
    const corners = steps.slice(1).map(([px, py]) => `H${px}V${py}`).join("");
    node.append(svg("path", { d: `M${steps[0][0]} ${steps[0][1]}${corners}`, class: "stairs" }));
  }
  const taken = [];
  for (const plan of baselines.filter(inside)) {
    const [px, py] = at(plan);
    node.append(pointOf(plan, svg("path", { d: `M${px} ${py - 6}l6 6l-6 6l-6-6z` }), x, y));
    nameBeside(node, plan.name, px, py, taken, width);
  }
  const drawn = front.filter((plan) => plan !== state.selected);
  if (state.selected.role === "front") drawn.push(state.selected);
  for (const plan of drawn) {
    const [cx, cy] = at(plan);
    node.append(pointOf(plan, svg("circle", { cx, cy, r: 5.5 }), x, y));
    if (plan === chosen) nameBeside(node, "chosen", cx, cy, taken, width);
  }
  const hidden = baselines.filter((plan) => !inside(plan)).length;
  if (hidden) {
    const text = `${hidden} baseline${hidden > 1 ? "s" : ""} outside this range`;
    node.append(label(width - edge.right, edge.top - 4, text, { "text-anchor": "end", class: "aside" }));
  }
  const focused = document.activeElement?.dataset?.plan;
  place.replaceChildren(node);
  if (focused) node.querySelector(`[data-plan="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function nameBeside(node, text, x, y, taken, width) {
  // A direct label, moved down while it would cover another; it stays within the plot.
  const size = text.length * 6.4;
  const right = x + 10 + size < width;
  let top = y + 4;
  const hits = () => taken.some((one) => Math.abs(one.top - top) < 12 && Math.abs(one.x - x) < size + 10);
  while (hits()) top += 12;
  taken.push({ top, x });
  const attributes = { "text-anchor": right ? "start" : "end", class: "direct" };
  node.append(label(right ? x + 10 : x - 10, top, text, attributes));
}

function pointOf(plan, shape, x, y) {
  const classes = [plan.role];
  if (plan === state.selected) classes.push("selected");
  if (plan === chosen) classes.push("chosen");
  fill(shape, {
    class: `point ${classes.join(" ")}`,
    tabindex: 0,
    role: "button",
    "data-plan": plan.id,
    "aria-label": `${planName(plan)}: ${measured(plan, x)}, ${measured(plan, y)}`,
    "aria-pressed": plan === state.selected ? "true" : "false",
    onclick: () => select(plan.id),
    onkeydown: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      select(plan.id);
    },
  }, []);
  return tipped(shape, () => [
    planName(plan),
    ...Object.keys(MEASURES).map((key) => `${MEASURES[key].name}: ${measured(plan, key)}`),
    plan === reference ? null : `${digits(times(plan), 3)} x as fast as ${reference.name}`,
    ...changeLines(plan, 5),
    plan === state.selected ? null : "click to select",
  ]);
}

function changeLines(plan, count) {
  if (!plan.change) return [plan.summary];
  const groups = groupsOf(plan);
  const lines = [groups.length ? `against ${reference.name}:` : `decides as ${reference.name} does`];
  for (const one of groups.slice(0, count)) {
    const many = one.subjects.length > 1 ? `${one.subjects.length} x ` : "";
    lines.push(`\u2003${many}${one.what || one.aspect}: ${one.before} \u2192 ${one.after}`);
  }
  if (groups.length > count) lines.push(`\u2003and ${groups.length - count} more kinds of change`);
  return lines;
}
