// How far to trust it: bound and gap, evidence behind the times, progress of the search.

function evidencePanel(section) {
  const place = el("div", { class: "plot" });
  section.append(
    legend(data.evidence.map((kind) => [`e-${kind}`, kind])),
    place,
    el("p", { class: "small" },
      "Share of the critical path by how well the constants behind it are known; a time that " +
      "several constants multiply into counts for the weakest of them."),
  );
  onSelect((plan) => {
    const rows = plan === reference ? [reference] : [plan, reference];
    const width = widthOf(place);
    const left = 92;
    const toX = scale(0, 100, left, width - 18);
    const node = canvas(width, rows.length * 34 + 50, "Evidence shares");
    rows.forEach((one, row) => {
      const y = 6 + row * 34;
      node.append(label(left - 8, y + 17, clipped(planName(one), left - 8), { "text-anchor": "end" }));
      let from = 0;
      data.evidence.forEach((kind, k) => {
        const part = 100 * one.evidence[k];
        if (!part) return;
        const box = bar(toX(from), toX(from + part), y, 26, `e-${kind}`);
        node.append(tipped(box, () => [kind, planName(one), percent(part / 100)]));
        if (toX(part) - toX(0) > 40) {
          const text = percent(part / 100, 0);
          node.append(label(toX(from + part / 2), y + 17, text, { "text-anchor": "middle", class: `on on-${kind}` }));
        }
        from += part;
      });
    });
    node.append(axisX(toX, 0, 100, rows.length * 34 + 10, width / 90, "share of the critical path, %"));
    place.replaceChildren(node);
  });
}

function progressPanel(section) {
  const place = el("div", { class: "plot" });
  section.append(place);
  const { manifest, bound } = data;
  const facts = [
    `${data.progress.length ? data.progress[data.progress.length - 1][1].toLocaleString("en") : 0} plans evaluated`,
    manifest.seconds ? `in ${digits(manifest.seconds, 3)} s` : null,
  ].filter((one) => one !== null);
  section.append(el("p", { class: "small" }, `${facts.join(" ")}.`));
  if (bound) {
    const gap = bound.gap ?? chosen.time_ns / bound.time_ns - 1;
    section.append(el("p", {},
      el("strong", {}, `No plan of the searched space is faster than ${ms(bound.time_ns)}`),
      `: the chosen plan is at most ${percent(gap)} above the optimum. ${bound.method ? `By ${bound.method}.` : ""}`));
  } else {
    section.append(el("p", {}, "No lower bound was computed: how far the best possible plan is from this one is not known."));
  }
  onSelect(() => drawProgress(place));
}

function drawProgress(place) {
  if (data.progress.length < 2) {
    place.replaceChildren();
    return;
  }
  const width = widthOf(place);
  const [height, left, bottom, top] = [230, 64, 44, 14];
  const bound = data.bound?.time_ns;
  const last = data.progress[data.progress.length - 1];
  const known = [...data.progress.map((row) => row[2]), reference.time_ns, ...(bound ? [bound] : [])];
  const [y0, y1] = padded(known.map((one) => one / 1e6), 0.08, 0);
  const thousands = last[1] >= 1e5;
  const unit = thousands ? 1e3 : 1;
  const toX = scale(0, last[1] / unit, left, width - 16);
  const toY = scale(y0, y1, height - bottom, top);
  const node = canvas(
    width, height, "Best time by plans evaluated",
    axisX(toX, 0, last[1] / unit, height - bottom, width / 110, `plans evaluated${thousands ? ", thousands" : ""}`),
    axisY(toY, y0, y1, left, 5, "best step, ms", width - left - 16),
  );
  const steps = data.progress.map((row) => [toX(row[1] / unit), toY(row[2] / 1e6)]);
  const corners = steps.slice(1).map(([x, y]) => `H${x}V${y}`).join("");
  node.append(svg("path", { d: `M${steps[0][0]} ${steps[0][1]}${corners}`, class: "stairs strong" }));
  const lines = [[reference.time_ns, reference.name, "join"], ...(bound ? [[bound, "lower bound", "bound"]] : [])];
  for (const [time, text, kind] of lines) {
    const y = toY(time / 1e6);
    node.append(
      svg("line", { x1: left, x2: width - 16, y1: y, y2: y, class: kind }),
      label(width - 18, y - 4, `${text}, ${ms(time)}`, { "text-anchor": "end", class: "direct" }),
    );
  }
  place.replaceChildren(node);
}
