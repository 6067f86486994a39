// Axes, frames, legends, and small controls that several plots share.

function ticks(low, high, count) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) {
    found.push(k * step);
  }
  return { values: found, places: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function scale(low, high, from, to) {
  const factor = (to - from) / (high - low || 1);
  const place = (value) => from + (value - low) * factor;
  place.invert = (pixel) => low + (pixel - from) / factor;
  return place;
}

function padded(values, share, floor = null) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = (high - low || Math.abs(high) || 1) * share;
  return [floor === null ? low - margin : Math.max(floor, low - margin), high + margin];
}

function tickText(value, places) {
  return value.toFixed(places).replace("-", MINUS);
}

function axisX(place, low, high, y, count, text, grid = 0) {
  const { values, places } = ticks(low, high, count);
  const node = svg("g", { class: "axis" });
  for (const value of values) {
    const x = place(value);
    node.append(
      svg("line", { x1: x, x2: x, y1: y - grid, y2: y + 4, class: grid ? "grid" : "tick" }),
      label(x, y + 16, tickText(value, places), { "text-anchor": "middle" }),
    );
  }
  const [from, to] = [place(low), place(high)];
  node.append(svg("line", { x1: from, x2: to, y1: y, y2: y, class: "tick" }));
  if (text) node.append(label((from + to) / 2, y + 33, text, { "text-anchor": "middle", class: "name" }));
  return node;
}

function axisY(place, low, high, x, count, text, grid = 0) {
  const { values, places } = ticks(low, high, count);
  const node = svg("g", { class: "axis" });
  for (const value of values) {
    const y = place(value);
    node.append(
      svg("line", { x1: x - 4, x2: x + grid, y1: y, y2: y, class: grid ? "grid" : "tick" }),
      label(x - 8, y + 4, tickText(value, places), { "text-anchor": "end" }),
    );
  }
  const [from, to] = [place(low), place(high)];
  node.append(svg("line", { x1: x, x2: x, y1: from, y2: to, class: "tick" }));
  if (text) {
    const middle = (from + to) / 2;
    const turn = `rotate(-90 ${x - 48} ${middle})`;
    node.append(
      label(x - 48, middle, text, { transform: turn, "text-anchor": "middle", class: "name" }),
    );
  }
  return node;
}

function canvas(width, height, what, ...children) {
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": what },
    ...children,
  );
}

function bar(x1, x2, y, height, kind) {
  const [left, right] = x1 < x2 ? [x1, x2] : [x2, x1];
  return svg("rect", { x: left, y, width: Math.max(right - left, 0.5), height, class: kind });
}

function legend(items) {
  const rows = items.map(([kind, text]) =>
    el("span", { class: "key" }, el("i", { class: `swatch ${kind}` }), text),
  );
  return el("div", { class: "legend" }, ...rows);
}

function choice(text, options, current, change) {
  const node = el(
    "select",
    { onchange: () => change(node.value) },
    ...options.map(([value, shown]) =>
      el("option", { value, selected: value === current }, shown),
    ),
  );
  return el("label", { class: "choice" }, text, node);
}

function button(text, what, press) {
  return el("button", { type: "button", "aria-label": what, title: what, onclick: press }, text);
}

function widthOf(node) {
  return Math.max(280, Math.floor(node.clientWidth));
}

function clipped(text, width, each = 6.1) {
  const room = Math.floor(width / each);
  if (text.length <= room) return text;
  return room < 3 ? "" : `${text.slice(0, room - 1)}\u2026`;
}
