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

// A gain in the objective that was searched for, if it is drawn: energy, else time.
const DRAWN = data.title.objectives[0] === "energy"
  ? { what: "energy", wins: "uses less", of: (gain) => ({ low: gain.energy_low, median: gain.energy_median,
      high: gain.energy_high, wins: gain.energy_wins, verdict: gain.energy_verdict }) }
  : { what: "time", wins: "faster", of: (gain) => gain };
const VERDICT_CLASSES = { "within the noise": "noise", "uses less": "faster", "uses more": "slower" };

function robustnessPanel(section) {
  const { robustness } = data;
  if (!robustness) {
    section.append(el("p", {}, "The plans were not compared over resampled constants: search with --robust."));
    return;
  }
  const place = el("div", { class: "plot" });
  const first = robustness.gains.some((gain) => gain.plan === chosen.name)
    ? chosen.name : robustness.spreads[0].plan;
  const gains = robustness.gains.filter((gain) => gain.plan === first);
  section.append(
    el("p", {}, `How much of each plan's ${DRAWN.what} ${shownName(first)} saves, in ${robustness.worlds} worlds of resampled ` +
      "constants and jittered task times, as the search stated; the same worlds for both."),
    place,
    el("ul", { class: "small" }, ...robustness.notes.map((note) => el("li", {}, note))),
  );
  onSelect(() => drawGains(place, gains, first));  // again when the width changed
}

function drawGains(place, gains, first) {
  const width = widthOf(place);
  const [left, right] = [Math.min(150, width * 0.3), width - 14];
  const [low, high] = padded([0, ...gains.map(DRAWN.of).flatMap((one) => [100 * one.low, 100 * one.high])], 0.06);
  const toX = scale(low, high, left, right);
  const height = gains.length * 44 + 50;
  const node = canvas(width, height, "Gain over resampled constants",
    axisX(toX, low, high, height - 44, width / 100, `${DRAWN.what} saved, % (dot: median; line: 90 %)`, height - 50));
  gains.forEach((gain, k) => {
    const y = 8 + k * 44;
    const at = (share) => toX(100 * share);
    const one = DRAWN.of(gain);
    const group = svg("g", { class: VERDICT_CLASSES[one.verdict] ?? one.verdict },
      svg("rect", { x: left, y, width: right - left, height: 40, class: "hit" }),
      svg("line", { x1: at(one.low), x2: at(one.high), y1: y + 28, y2: y + 28, class: "span" }),
      svg("circle", { cx: at(one.median), cy: y + 28, r: 4.5 }),
      label(left + 4, y + 14, `${one.verdict}; P(${DRAWN.wins}) ${percent(one.wins, 0)}`, { class: "direct" }));
    tipped(group, () => [
      `${shownName(first)} against ${shownName(gain.rival)}`, one.verdict,
      `time: ${percent(gain.median)} (90 %: ${percent(gain.low)} to ${percent(gain.high)})`,
      `faster in ${percent(gain.wins)} of the worlds`,
      `energy: ${percent(gain.energy_median)} (90 %: ${percent(gain.energy_low)} to ${percent(gain.energy_high)})`,
    ]);
    node.append(group, label(left - 8, y + 32, clipped(shownName(gain.rival), left - 10), { "text-anchor": "end" }));
  });
  node.append(svg("line", { x1: toX(0), x2: toX(0), y1: 4, y2: height - 44, class: "tick" }));
  place.replaceChildren(node);
}

// The proof is over the whole space: limits only leave some of its plans out.
function withoutLimits() {
  const names = Object.keys(data.title.limits);
  return names.length ? ` It leaves out the limits on ${names.join(", ")}: these may make the best plan within ` +
    "them slower, and the true gap smaller." : "";
}

function progressPanel(section) {
  const place = el("div", { class: "plot" });
  section.append(place);
  const { manifest, run, bound } = data;
  section.append(el("p", { class: "small" },
    `${manifest.evaluations.toLocaleString("en")} plans scored in ${manifest.shards} shards, ` +
    `${digits(run.shard_seconds, 3)} s of work in all; ${manifest.problem.searcher}, seed ${manifest.problem.seed}.`));
  if (bound) {
    section.append(el("p", {},
      el("strong", {}, `No plan of the searched space is faster than ${ms(bound.time_ns)}`),
      `: of the step of the quickest plan found a better one could save at most ${percent(bound.gap)} (the gap). ` +
        `Proven by ${bound.method}, as the search stated.` + withoutLimits()));
    const parts = Object.entries(bound.parts ?? {});
    if (parts.length) {
      section.append(table(["what binds there", "ms"],
        parts.map(([name, ns]) => ({ cells: [name, digits(ns / 1e6)] })), [1]));
    }
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
  const key = keyOf(data.title.objectives[0]);
  const { name, unit: sized, scale: by } = MEASURES[key];
  const bound = key === "time_ns" ? data.bound?.time_ns : undefined;
  const last = data.progress[data.progress.length - 1];
  const known = [...data.progress.map((row) => row[2]), reference[key], ...(bound ? [bound] : [])];
  const [y0, y1] = padded(known.map((one) => one / by), 0.08, 0);
  const thousands = last[1] >= 1e5;
  const unit = thousands ? 1e3 : 1;
  const toX = scale(0, last[1] / unit, left, width - 16);
  const toY = scale(y0, y1, height - bottom, top);
  const node = canvas(
    width, height, `Least ${name} by plans evaluated`,
    axisX(toX, 0, last[1] / unit, height - bottom, width / 110, `plans evaluated${thousands ? ", thousands" : ""}`),
    axisY(toY, y0, y1, left, 5, `least ${name}, ${sized}`, width - left - 16),
  );
  const steps = data.progress.map((row) => [toX(row[1] / unit), toY(row[2] / by)]);
  const corners = steps.slice(1).map(([x, y]) => `H${x}V${y}`).join("");
  node.append(svg("path", { d: `M${steps[0][0]} ${steps[0][1]}${corners}`, class: "stairs strong" }));
  const lines = [[reference[key], reference.name, "join"], ...(bound ? [[bound, "lower bound", "bound"]] : [])];
  for (const [value, text, kind] of lines) {
    const y = toY(value / by);
    node.append(
      svg("line", { x1: left, x2: width - 16, y1: y, y2: y, class: kind }),
      label(width - 18, y - 4, `${text}, ${digits(value / by)} ${sized}`, { "text-anchor": "end", class: "direct" }),
    );
  }
  place.replaceChildren(node);
}

function verifiedPanel(section) {
  const { base, rows, notes } = data.verified;
  const share = (value) => percent(value, 2);
  const cells = (row) => [
    row.plans.map(shownName).join(", "),
    `${share(row.accuracy)} (${share(row.low)} to ${share(row.high)})`,
    row.plans.includes(base) ? "" : `${share(row.difference)} (${share(row.difference_low)} to ${share(row.difference_high)})`,
    row.plans.includes(base) ? "the base" : row.clear ? "clear" : "within the noise",
    row.saturated_ppm === null ? "\u2013" : digits(row.saturated_ppm, 3),
    row.lost_ppm === null ? "\u2013" : digits(row.lost_ppm, 3),
    String(row.steps),
  ];
  section.append(
    el("p", {}, "Real training runs as the judge: plans that compute the same values are trained once. As the search stated."),
    table(["plans", "test accuracy, 95 %", `difference to ${shownName(base)}, 95 %`, "verdict", "saturated, ppm",
      "lost, ppm", "steps"], rows.map((row) => ({ cells: cells(row) })), [4, 5, 6]),
    el("ul", { class: "small" }, ...notes.map((note) => el("li", {}, note))),
  );
}
