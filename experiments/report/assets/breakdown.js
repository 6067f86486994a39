// Time on the critical path by category: the selected plan above the reference, and what shrank.

function breakdownPanel(section) {
  const place = el("div", { class: "plot" });
  section.append(
    legend(data.categories.map((name) => [`c-${name}`, name])),
    place,
    el("p", { class: "small" },
      "What the step waits for, by category, over the expected step. compute: operators with MACs; " +
      "memory: their time beyond computing; cpu: operators without MACs; idle: nothing that the " +
      "step waits for runs."),
  );
  onSelect((plan) => drawBreakdown(place, plan));
}

function drawBreakdown(place, plan) {
  const width = widthOf(place);
  const left = 92;
  const rows = plan === reference ? [reference] : [plan, reference];
  const most = Math.max(...rows.map((one) => one.time_ns)) / 1e6;
  const toX = scale(0, most * 1.02, left, width - 14);
  const changes = data.categories.map((name, k) => plan.breakdown_ns[k] - reference.breakdown_ns[k]);
  const top = rows.length * 34 + 8;
  const height = top + 46 + data.categories.length * 22 + 62;
  const node = canvas(width, height, "Time by category");
  rows.forEach((one, row) => {
    const y = 6 + row * 34;
    node.append(label(left - 8, y + 17, clipped(planName(one), left - 8), { "text-anchor": "end" }));
    let from = 0;
    data.categories.forEach((name, k) => {
      const part = one.breakdown_ns[k];
      if (!part) return;
      const box = bar(toX(from / 1e6), toX((from + part) / 1e6), y, 26, `c-${name}`);
      tipped(box, () => [name, planName(one), ms(part), `${percent(part / one.time_ns)} of the step`]);
      node.append(box);
      const room = toX((from + part) / 1e6) - toX(from / 1e6);
      if (room > 34) {
        const middle = toX((from + part / 2) / 1e6);
        node.append(label(middle, y + 17, digits(part / 1e6, 3), { "text-anchor": "middle", class: `on on-${name}` }));
      }
      from += part;
    });
  });
  node.append(axisX(toX, 0, most * 1.02, top, width / 110, "critical path, ms"));
  if (rows.length > 1) node.append(changeBars(changes, left, width, top + 62));
  place.replaceChildren(node);
}

function changeBars(changes, left, width, top) {
  const far = Math.max(...changes.map((one) => Math.abs(one)), 1) / 1e6;
  const toX = scale(-far * 1.5, far * 1.5, left, width - 14);
  const node = svg("g");
  changes.forEach((change, k) => {
    const name = data.categories[k];
    const y = top + k * 22;
    node.append(label(left - 8, y + 13, name, { "text-anchor": "end" }));
    if (change) node.append(bar(toX(0), toX(change / 1e6), y, 17, `c-${name}`));
    const end = toX(change / 1e6) + (change < 0 ? -5 : 5);
    const side = change < 0 ? "end" : "start";
    node.append(label(end, y + 13, change ? signed(change / 1e6) : "0", { "text-anchor": side, class: "value" }));
  });
  const bottom = top + changes.length * 22 + 2;
  node.append(
    svg("line", { x1: toX(0), x2: toX(0), y1: top - 4, y2: bottom, class: "tick" }),
    axisX(toX, -far * 1.5, far * 1.5, bottom, width / 130, `change against ${reference.name}, ms`),
  );
  return node;
}
