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
  const ranges = [["close", "around the chosen plan"], ["near", `front and ${reference.name}`],
    ["all", "all baselines"]];
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
  const value = (plan, key) => plan[key] / MEASURES[key].scale;
  const [[x0, x1], [y0, y1]] = rangesOf(range, [x, y], value);
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
  const drawn = [...baselines, ...front.filter((plan) => plan !== state.selected)];
  if (state.selected.role === "front") drawn.push(state.selected);
  const names = [];
  const taken = [];
  for (const plan of drawn.filter(inside)) {
    const [px, py] = at(plan);
    const shape = plan.role === "front" ? svg("circle", { cx: px, cy: py, r: 5.5 })
      : svg("path", { d: `M${px} ${py - 6}l6 6l-6 6l-6-6z` });
    node.append(pointOf(plan, shape, x, y));
    taken.push({ left: px - 5, right: px + 5, top: py - 5, bottom: py + 5 });
    if (plan === chosen) names.unshift(["chosen", px, py, true]);
    else if (plan.role === "baseline") names.push([plan.name, px, py, plan === reference]);
  }
  for (const [text, px, py, must] of names) nameBeside(node, text, px, py, taken, must);
  const hidden = drawn.filter((plan) => !inside(plan)).length;
  if (hidden) {
    const text = `${hidden} plan${hidden > 1 ? "s" : ""} outside this range`;
    node.append(label(width - edge.right, edge.top - 4, text, { "text-anchor": "end", class: "aside" }));
  }
  const focused = document.activeElement?.dataset?.plan;
  place.replaceChildren(node);
  if (focused) node.querySelector(`[data-plan="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function rangesOf(range, keys, value) {
  const front = data.plans.filter((plan) => plan.role === "front");
  const marked = [chosen, reference, state.selected];
  const most = (key) => 1.15 * Math.max(...marked.map((plan) => plan[key]));
  const close = front.filter((plan) => keys.every((key) => plan[key] <= most(key)));
  const shown = { close: [...close, ...marked], near: [...front, ...marked], all: data.plans }[range];
  return keys.map((key) => padded(shown.map((plan) => value(plan, key)), 0.08, 0));
}

function nameBeside(node, text, x, y, taken, must) {
  // A direct label on the first side where it covers nothing; left out where there is none.
  const size = text.length * 6.3;
  const sides = [
    [x + 10, y + 4, "start", 0], [x - 10, y + 4, "end", -size],
    [x, y - 11, "middle", -size / 2], [x, y + 19, "middle", -size / 2],
  ];
  const boxes = sides.map(([at, base, , shift]) =>
    ({ left: at + shift, right: at + shift + size, top: base - 9, bottom: base + 2 }));
  const limits = node.viewBox.baseVal;
  const free = boxes.findIndex((box) => box.left > 66 && box.right < limits.width &&
    !taken.some((one) => one.left < box.right && one.right > box.left &&
      one.top < box.bottom && one.bottom > box.top));
  if (free < 0 && !must) return;
  const [at, base, anchor] = sides[Math.max(free, 0)];
  taken.push(boxes[Math.max(free, 0)]);
  node.append(label(at, base, text, { "text-anchor": anchor, class: "direct" }));
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
