// From the naive offload to the selected plan, one technique after the other.

function waterfallPanel(section) {
  if (!data.waterfalls.length) {
    section.append(el("p", {}, "This device has no DSP: there is no offload to start from."));
    return;
  }
  const place = el("div", { class: "plot" });
  const shown = { order: data.waterfalls[0].order };
  const redraw = () => {
    const fall = data.waterfalls.find((one) => one.order === shown.order);
    drawWaterfall(place, fall);
  };
  const orders = data.waterfalls.map((one) => [one.order, one.order]);
  section.append(
    el("div", { class: "controls" }, choice("techniques in", orders, shown.order, (value) => {
      shown.order = value;
      redraw();
    })),
    place,
    el("p", { class: "small" },
      "Each technique is kept only where it shortens the expected step at its turn; one that is " +
      "declined changes nothing and is offered again at the end."),
  );
  onSelect(redraw);
}

function waterfallBars(fall) {
  const bars = [{ name: "dsp-int8", from: 0, to: fall.times_ns[0], kind: "total", tell: "naive offload" }];
  fall.names.forEach((name, k) => {
    const [from, to] = [fall.times_ns[k], fall.times_ns[k + 1]];
    const kind = to < from ? "gain" : "same";
    const tell = data.techniques[name] + (from === to ? " (declined)" : "");
    bars.push({ name: `+ ${name}`, from, to, kind, tell });
  });
  const last = fall.times_ns[fall.times_ns.length - 1];
  bars.push({ name: "mandheling", from: 0, to: last, kind: "total", tell: "all four techniques" });
  const plan = state.selected;
  if (plan.name !== "mandheling" || plan.role !== "baseline") {
    const kind = plan.time_ns < last ? "gain" : "loss";
    const text = plan.role === "front" ? "+ search" : `to ${plan.name}`;
    bars.push({ name: text, from: last, to: plan.time_ns, kind, tell: "all that the plan changes" });
    bars.push({ name: planName(plan), from: 0, to: plan.time_ns, kind: "picked", tell: "selected plan" });
  }
  return bars;
}

function drawWaterfall(place, fall) {
  const bars = waterfallBars(fall);
  const width = widthOf(place);
  const edge = { left: 64, right: 12, top: 22, bottom: 76 };
  const height = 340;
  const top = Math.max(...bars.map((one) => Math.max(one.from, one.to))) / 1e6;
  const toY = scale(0, top * 1.06, height - edge.bottom, edge.top);
  const step = (width - edge.left - edge.right) / bars.length;
  const node = canvas(
    width, height, "Waterfall of techniques",
    axisY(toY, 0, top * 1.06, edge.left, 6, "expected step, ms", width - edge.left - edge.right),
  );
  const bound = data.bound?.time_ns;
  bars.forEach((one, k) => {
    const x = edge.left + k * step + step * 0.14;
    const [high, low] = [Math.max(one.from, one.to) / 1e6, Math.min(one.from, one.to) / 1e6];
    const box = svg("rect", {
      x, y: toY(high), width: step * 0.72, height: Math.max(1, toY(low) - toY(high)), class: `fall ${one.kind}`,
    });
    const whole = one.from === 0;
    const change = one.to - one.from;
    const text = whole ? digits(one.to / 1e6) : change ? signed(change / 1e6) : "0";
    tipped(box, () => [
      one.name, one.tell,
      whole ? ms(one.to) : `${signedMs(change)}: ${ms(one.from)} \u2192 ${ms(one.to)}`,
      whole ? null : `${digits(one.from / one.to, 3)} x`,
    ]);
    const turned = `rotate(-32 ${x + step * 0.4} ${height - edge.bottom + 14})`;
    node.append(
      box,
      label(x + step * 0.36, toY(high) - 5, text, { "text-anchor": "middle", class: "value" }),
      label(x + step * 0.4, height - edge.bottom + 14, clipped(one.name, 88),
        { "text-anchor": "end", transform: turned }),
    );
    if (k + 1 < bars.length) {
      const y = toY(one.to / 1e6);
      node.append(svg("line", { x1: x + step * 0.72, x2: x + step, y1: y, y2: y, class: "join" }));
    }
  });
  if (bound) {
    const y = toY(bound / 1e6);
    node.append(
      svg("line", { x1: edge.left, x2: width - edge.right, y1: y, y2: y, class: "bound" }),
      label(edge.left + 6, y - 4, `no plan below ${ms(bound)}`, { class: "direct" }),
    );
  }
  place.replaceChildren(node);
}
