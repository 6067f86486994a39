// What every panel uses: the data, the selected plan, elements, numbers as people read them.

const data = JSON.parse(document.getElementById("data").textContent);
const plans = new Map(data.plans.map((plan) => [plan.id, plan]));
const reference = plans.get(data.reference);
const chosen = plans.get(data.chosen);

// -- the selected plan: panels listen and draw themselves again ---------------------------------

const state = { selected: chosen };
const panels = [];

function onSelect(draw) {
  panels.push(draw);
}

function select(id) {
  if (!plans.has(id)) return;
  state.selected = plans.get(id);
  hideTip();
  drawAll();
}

function drawAll() {
  for (const draw of panels) draw(state.selected);
}

// -- elements: text is always set as text -------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null).map((child) => child));
  return node;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function label(x, y, text, attributes = {}) {
  return svg("text", { x, y, ...attributes }, text);
}

// -- numbers ------------------------------------------------------------------------------------

const MINUS = "\u2212";

function digits(value, count = 4) {
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(value))) + 1;
  const places = Math.max(0, Math.min(9, count - size));
  return value.toFixed(places).replace("-", MINUS);
}

function signed(value, count = 3) {
  return (value > 0 ? "+" : "") + digits(value, count);
}

const ms = (ns, count = 4) => `${digits(ns / 1e6, count)} ms`;
const signedMs = (ns) => `${signed(ns / 1e6)} ms`;
const percent = (share, places = 1) => `${(100 * share).toFixed(places).replace("-", MINUS)} %`;

const MEASURES = {
  time_ns: { name: "expected step time", unit: "ms", scale: 1e6 },
  energy_pj: { name: "energy per step", unit: "J", scale: 1e12 },
  risk_ppm: { name: "estimated risk", unit: "ppm", scale: 1 },
  memory_bytes: { name: "peak memory", unit: "MiB", scale: 1048576 },
};

function keyOf(objective) {
  return Object.keys(MEASURES).find((key) => key.startsWith(objective));
}

function measureOf(objective) {
  return MEASURES[keyOf(objective)];
}

function measured(plan, key) {
  return `${digits(plan[key] / MEASURES[key].scale)} ${MEASURES[key].unit}`;
}

function times(plan) {
  return reference.time_ns / plan.time_ns;
}

function planName(plan) {
  return plan.role === "baseline" ? plan.name : plan.id;
}

function shortPath(path) {
  // Constants are known by their last words; the full name is in the tooltip.
  const device = `${data.title.device}.`;
  return path.startsWith(device) ? path.slice(device.length) : path;
}

function shownName(name) {
  // Names within results of other parts: a plan of the front goes by its id.
  const plan = data.plans.find((one) => one.name === name);
  return plan ? planName(plan) : name;
}

function groupsOf(plan) {
  // What changed alike, for how many subjects; the most first.
  if (!plan.change) return [];
  const placed = plan.change.moved.map((one) => ({ ...one, aspect: "placement", what: one.family }));
  return [...plan.change.choices.map((one) => ({ ...one, what: "" })), ...placed]
    .sort((a, b) => b.subjects.length - a.subjects.length);
}

// -- tooltip ------------------------------------------------------------------------------------

const tip = document.getElementById("tip");

function showTip(lines, x, y) {
  tip.replaceChildren(
    ...lines.filter((line) => line !== null).map((line, k) => el(k ? "div" : "strong", {}, line)),
  );
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth ? Math.max(4, x - 14 - box.width) : x + 14;
  const top = y + 14 + box.height > innerHeight ? Math.max(4, y - 14 - box.height) : y + 14;
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

function hideTip() {
  tip.hidden = true;
}

function tipped(node, lines) {
  // Hover and keyboard focus tell the same.
  node.addEventListener("pointermove", (event) => showTip(lines(), event.clientX, event.clientY));
  node.addEventListener("pointerleave", hideTip);
  node.addEventListener("focus", () => {
    const box = node.getBoundingClientRect();
    showTip(lines(), box.right, box.bottom);
  });
  node.addEventListener("blur", hideTip);
  return node;
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});
