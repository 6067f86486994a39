// Two timelines above one axis: a row per core, context, queue and channel; zoom and pan.

const LANE = 13;
const STRIP = 30;
const HEAD = 20 + LANE + 4;  // name of the plan, and its critical path
const decoded = new Map();

function tasksOf(plan) {
  // Columns of a plan's timeline: tasks by rising start, and the tasks of each lane.
  if (decoded.has(plan.id)) return decoded.get(plan.id);
  const { kind, start, stretch, slots, critical } = plan.timeline;
  const kinds = data.tasks.kinds;
  const begin = [];
  const end = [];
  let now = 0;
  kind.forEach((one, k) => {
    now += start[k];
    begin.push(now);
    end.push(now + kinds.alone_ns[one] + stretch[k]);
  });
  const lanes = new Map();
  kind.forEach((one, k) => {
    for (let slot = 0, mask = slots[k]; mask > 0; slot += 1, mask = Math.floor(mask / 2)) {
      if (mask % 2 === 0) continue;
      const lane = `${data.tasks.units[kinds.unit[one]]} ${slot}`;
      if (!lanes.has(lane)) lanes.set(lane, []);
      lanes.get(lane).push(k);
    }
  });
  const found = { kind, begin, end, stretch, lanes, critical: new Set(critical) };
  decoded.set(plan.id, found);
  return found;
}

function laneNames(shown) {
  // Rows that some shown plan uses, in the order of the machine, and the units that none uses.
  const lanes = [];
  const idle = [];
  let y = 0;
  for (const [unit, slots] of shown[0].timeline.units) {
    const unitName = data.tasks.units[unit];
    const rows = Array.from({ length: slots }, (_, slot) => `${unitName} ${slot}`);
    const used = rows.filter((row) => shown.some((plan) => tasksOf(plan).lanes.has(row)));
    if (!used.length) idle.push(unitName);
    for (const name of used) {
      lanes.push({ name, y });
      y += LANE;
    }
    if (used.length) y += 3;
  }
  return { lanes, idle, tall: y };
}

function ganttPanel(section) {
  const place = el("div", {
    class: "plot gantt", tabindex: 0, role: "application",
    "aria-label": "Timelines; plus and minus zoom, arrows pan, 0 shows all",
  });
  const says = el("p", { class: "small" });
  const range = el("output", { class: "range" });
  const view = { from: 0, to: 1, most: 1, dim: false, geometry: null };
  const draw = () => drawGantt(place, view, range);
  const move = (from, to) => {
    const size = Math.min(Math.max(to - from, 1000), view.most);
    view.from = Math.min(Math.max(0, from), view.most - size);
    view.to = view.from + size;
    draw();
  };
  const zoom = (factor, at = (view.from + view.to) / 2) =>
    move(at - (at - view.from) * factor, at + (view.to - at) * factor);
  const pan = (share) => {
    const step = (view.to - view.from) * share;
    move(view.from + step, view.to + step);
  };
  const dim = el("input", { type: "checkbox", onchange: () => {
    view.dim = dim.checked;
    draw();
  } });
  section.append(
    el("div", { class: "controls" },
      button("+", "Zoom in", () => zoom(0.5)),
      button(MINUS, "Zoom out", () => zoom(2)),
      button("\u2190", "Earlier", () => pan(-0.25)),
      button("\u2192", "Later", () => pan(0.25)),
      button("all", "Show the whole step", () => move(0, view.most)),
      el("label", { class: "choice" }, dim, "fade what is not on the critical path"),
      range),
    legend([...data.categories.filter((name) => name !== "idle").map((name) => [`c-${name}`, name]),
      ["hatched", "longer than alone: DDR is shared"]]),
    place,
    says,
  );
  steer(place, view, { move, zoom, pan });
  onSelect((plan) => {
    const shown = ganttPlans(plan);
    const most = Math.max(1, ...shown.map((one) => one.timeline.makespan_ns));
    if (view.most !== most) Object.assign(view, { from: 0, to: most, most });
    says.textContent = ganttWords(plan, shown);
    draw();
  });
}

function ganttPlans(plan) {
  const both = plan === reference ? [reference] : [plan, reference];
  return both.filter((one) => one.timeline);
}

function ganttWords(plan, shown) {
  const missing = plan.timeline ? "" :
    `The timeline of ${planName(plan)} is left out to keep this page small; the chosen plan has one. `;
  const parts = shown.map((one) => {
    const { makespan_ns: whole, weight, whole: all } = one.timeline;
    return `${planName(one)}: ${ms(whole)} (${percent(weight / all)} of steps are like this one; ` +
      `expected over all ${ms(one.time_ns)})`;
  });
  return `${missing}The likeliest step of each plan. ${parts.join("; ")}. ` +
    "Ctrl and the wheel, or the wheel once the plot has the focus, zoom; dragging pans; + \u2212 \u2190 \u2192 0 do so by key.";
}

function steer(place, view, { move, zoom, pan }) {
  const timeAt = (event) => {
    const { left, right } = view.geometry;
    const share = (event.clientX - place.getBoundingClientRect().left - left) / (right - left);
    return view.from + Math.min(1, Math.max(0, share)) * (view.to - view.from);
  };
  place.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== place) return;
    event.preventDefault();
    zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 240))), timeAt(event));
  }, { passive: false });
  let drag = null;
  place.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, from: view.from, to: view.to };
    place.setPointerCapture(event.pointerId);
  });
  place.addEventListener("pointerup", () => { drag = null; });
  place.addEventListener("pointercancel", () => { drag = null; });
  place.addEventListener("pointermove", (event) => {
    if (drag) {
      const { left, right } = view.geometry;
      const by = ((drag.x - event.clientX) / (right - left)) * (drag.to - drag.from);
      move(drag.from + by, drag.to + by);
      hideTip();
    } else hoverTask(place, view, event);
  });
  place.addEventListener("pointerleave", () => {
    hideTip();
    place.querySelector(".outline")?.setAttribute("visibility", "hidden");
  });
  const keys = {
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => move(0, view.most),
    ArrowLeft: () => pan(-0.25), ArrowRight: () => pan(0.25),
  };
  place.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
}

function drawGantt(place, view, range) {
  const shown = ganttPlans(state.selected);
  if (!shown.length) {
    place.replaceChildren();
    return;
  }
  const width = widthOf(place);
  const [left, right] = [62, width - 12];
  const { lanes, idle, tall } = laneNames(shown);
  const paneHeight = HEAD + tall + 3 + STRIP + 14;
  const height = shown.length * paneHeight + 40;
  const toX = scale(view.from, view.to, left, right);
  const node = canvas(width, height, "Timelines of tasks", hatching());
  const panes = shown.map((plan, k) => {
    const top = k * paneHeight;
    node.append(paneOf(plan, top, { lanes, tall }, { toX, left, right, view }));
    return { plan, top: top + HEAD };
  });
  const toMs = scale(view.from / 1e6, view.to / 1e6, left, right);
  const bottom = shown.length * paneHeight - 6;
  node.append(
    axisX(toMs, view.from / 1e6, view.to / 1e6, bottom, width / 110, "time in the step, ms"),
    svg("rect", { class: "outline", visibility: "hidden" }),
  );
  view.geometry = { left, right, panes, lanes, toX };
  range.textContent = `${digits(view.from / 1e6)} to ${digits(view.to / 1e6)} ms` +
    (idle.length ? `; unused by both: ${idle.join(", ")}` : "");
  place.replaceChildren(node);
}

function hatching() {
  const lines = svg("path", { d: "M-1 1l2-2M0 4l4-4M3 5l2-2", class: "hatchline" });
  const pattern = { id: "hatch", width: 4, height: 4, patternUnits: "userSpaceOnUse" };
  return svg("defs", {}, svg("pattern", pattern, lines));
}

function paneOf(plan, top, { lanes, tall }, { toX, left, right, view }) {
  const tasks = tasksOf(plan);
  const node = svg("g");
  node.append(label(left, top + 13, `${planName(plan)}, ${ms(plan.timeline.makespan_ns)}`, { class: "panename" }));
  const first = top + 20;
  node.append(label(left - 6, first + 10, "critical", { "text-anchor": "end" }));
  const shapes = new Shapes(toX, left, right);
  for (const k of tasks.critical) shapes.add(tasks, k, first, LANE - 3, true);
  for (const { name, y: below } of lanes) {
    const y = top + HEAD + below;
    node.append(
      label(left - 6, y + 10, name, { "text-anchor": "end" }),
      svg("line", { x1: left, x2: right, y1: y + LANE - 0.5, y2: y + LANE - 0.5, class: "lane" }),
    );
    shapes.newLane();
    for (const k of tasks.lanes.get(name) ?? []) {
      if (tasks.begin[k] > view.to) break;
      shapes.add(tasks, k, y, LANE - 2, !view.dim || tasks.critical.has(k));
    }
  }
  node.append(shapes.node());
  const end = toX(plan.timeline.makespan_ns);
  if (end > left && end <= right + 1) {
    node.append(svg("line", { x1: end, x2: end, y1: first - 4, y2: top + HEAD + tall, class: "end" }));
  }
  node.append(ddrStrip(plan, tasks, top + HEAD + tall + 3, { left, right, view }));
  return node;
}

class Shapes {
  // One path per category: thousands of bars are drawn at once.
  constructor(toX, left, right) {
    Object.assign(this, { toX, left, right, paths: new Map(), stretched: [], names: [], last: -1 });
  }

  newLane() {
    this.last = -1;
  }

  add(tasks, k, y, height, strong) {
    const x1 = Math.max(this.left, this.toX(tasks.begin[k]));
    const x2 = Math.min(this.right, this.toX(tasks.end[k]));
    if (x2 < this.left || x1 > this.right || x2 - this.last < 0.3) return;
    this.last = x2;
    const kind = tasks.kind[k];
    const name = `c-${data.categories[data.tasks.kinds.category[kind]]}${strong ? "" : " faded"}`;
    if (!this.paths.has(name)) this.paths.set(name, []);
    const gap = x2 - x1 > 3 ? 0.6 : 0;
    const size = Math.max(0.4, x2 - x1 - gap);
    const box = (from, wide) => `M${from.toFixed(2)} ${y}h${wide.toFixed(2)}v${height}h${(-wide).toFixed(2)}z`;
    this.paths.get(name).push(box(x1, size));
    if (tasks.stretch[k] > 0) {
      const from = Math.max(this.left, this.toX(tasks.end[k] - tasks.stretch[k]));
      if (x2 - from > 0.5) this.stretched.push(box(from, Math.max(0, x1 + size - from)));
    }
    if (x2 - x1 > 44 && strong) {
      const text = clipped(data.tasks.names[data.tasks.kinds.name[kind]], x2 - x1 - 6, 5.4);
      const category = data.categories[data.tasks.kinds.category[kind]];
      if (text) this.names.push(label(x1 + 3, y + height - 2.5, text, { class: `on on-${category}` }));
    }
  }

  node() {
    const found = svg("g", { class: "bars" });
    for (const [name, parts] of this.paths) found.append(svg("path", { d: parts.join(""), class: name }));
    if (this.stretched.length) {
      found.append(svg("path", { d: this.stretched.join(""), class: "stretched", fill: "url(#hatch)" }));
    }
    found.append(...this.names);
    return found;
  }
}

function ddrStrip(plan, tasks, top, { left, right, view }) {
  // Mean rate of the transfers under way, as a share of the bandwidth that all units share.
  const bins = Math.max(1, Math.floor((right - left) / 2));
  const size = (view.to - view.from) / bins;
  const bytes = new Float64Array(bins);
  const kinds = data.tasks.kinds;
  tasks.kind.forEach((kind, k) => {
    const moved = kinds.ddr_bytes[kind];
    const from = Math.min(tasks.begin[k] + kinds.lead_ns[kind], tasks.end[k]);
    if (!moved || tasks.end[k] <= from || tasks.end[k] < view.from || from > view.to) return;
    const rate = moved / (tasks.end[k] - from);
    const first = Math.max(0, Math.floor((from - view.from) / size));
    const last = Math.min(bins - 1, Math.floor((tasks.end[k] - view.from) / size));
    for (let bin = first; bin <= last; bin += 1) {
      const begin = view.from + bin * size;
      bytes[bin] += rate * Math.max(0, Math.min(tasks.end[k], begin + size) - Math.max(from, begin));
    }
  });
  const full = (plan.timeline.ddr_rate / 1000) * size;
  const height = (bin) => Math.min(1, bytes[bin] / full) * STRIP;
  const wide = (right - left) / bins;
  let path = `M${left} ${top + STRIP}`;
  for (let bin = 0; bin < bins; bin += 1) {
    path += `V${(top + STRIP - height(bin)).toFixed(2)}h${wide.toFixed(3)}`;
  }
  const what = `DDR in use; full height: ${digits(plan.timeline.ddr_rate / 1000, 3)} GB/s`;
  return svg("g", { class: "ddr" },
    svg("rect", { x: left, y: top, width: right - left, height: STRIP, class: "stripback" }),
    svg("path", { d: `${path}V${top + STRIP}z`, class: "stripfill" }),
    label(left - 6, top + STRIP / 2 + 4, "DDR", { "text-anchor": "end" }),
    svg("title", {}, what));
}

function taskAt(place, view, event) {
  const box = place.getBoundingClientRect();
  const { panes, lanes, toX } = view.geometry;
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const time = toX.invert(x);
  const near = 1.5 * (toX.invert(1) - toX.invert(0));
  for (const { plan, top } of panes) {
    const lane = lanes.find((one) => y >= top + one.y && y < top + one.y + LANE);
    if (!lane) continue;
    const tasks = tasksOf(plan);
    const under = (tasks.lanes.get(lane.name) ?? []).filter(
      (k) => tasks.begin[k] <= time + near && tasks.end[k] >= time - near);
    const inside = under.find((k) => tasks.begin[k] <= time && tasks.end[k] > time);
    const k = inside ?? under[0];
    if (k !== undefined) return { plan, tasks, k, y: top + lane.y };
  }
  return null;
}

function hoverTask(place, view, event) {
  const found = view.geometry ? taskAt(place, view, event) : null;
  const outline = place.querySelector(".outline");
  if (!found) {
    hideTip();
    outline?.setAttribute("visibility", "hidden");
    return;
  }
  const { plan, tasks, k, y } = found;
  const kinds = data.tasks.kinds;
  const kind = tasks.kind[k];
  const { left, right, toX } = view.geometry;
  const [x1, x2] = [Math.max(left, toX(tasks.begin[k])), Math.min(right, toX(tasks.end[k]))];
  fill(outline, { x: x1, y, width: Math.max(1, x2 - x1), height: LANE - 2, visibility: "visible" }, []);
  const moved = kinds.ddr_bytes[kind];
  showTip([
    data.tasks.names[kinds.name[kind]],
    `${planName(plan)}: ${data.categories[kinds.category[kind]]} on ${data.tasks.units[kinds.unit[kind]]}`,
    `${ms(tasks.begin[k])} to ${ms(tasks.end[k])}: ${ms(tasks.end[k] - tasks.begin[k])}`,
    tasks.stretch[k] > 0 ? `${ms(kinds.alone_ns[kind])} alone; sharing DDR adds ${ms(tasks.stretch[k])}` : null,
    moved ? `moves ${digits(moved / 1048576, 3)} MiB` : null,
    tasks.critical.has(k) ? "on the critical path" : "not on the critical path",
  ], event.clientX, event.clientY);
}
