// The page: header, the bar with the selected plan, then panel by panel.

const THEMES = ["auto", "light", "dark"];

function themeButton() {
  const root = document.documentElement;
  let at = 0;
  const node = el("button", { type: "button", id: "theme" }, "theme: auto");
  node.addEventListener("click", () => {
    at = (at + 1) % THEMES.length;
    if (at) root.dataset.theme = THEMES[at];
    else delete root.dataset.theme;
    node.textContent = `theme: ${THEMES[at]}`;
  });
  return node;
}

function header() {
  const { model, device, batch, objectives, limits } = data.title;
  const within = Object.entries(limits).map(([name, value]) => {
    const { unit, scale: by } = measureOf(name);
    return `${name} at most ${digits(value / by)} ${unit}`;
  });
  const facts = [`batch ${batch}`, `objectives: ${objectives.join(", ")}`, ...within];
  return el("header", {},
    el("div", { class: "titles" },
      el("h1", {}, `${model} on ${device}`),
      el("p", {}, `Policy search, ${facts.join("; ")}. `, el("strong", {}, "Predicted, not measured."))),
    themeButton());
}

function selectionBar() {
  const pick = el("select", { id: "plan", onchange: () => select(pick.value) },
    ...[["front", "the front"], ["baseline", "baselines"]].map(([role, text]) =>
      el("optgroup", { label: text },
        ...data.plans.filter((plan) => plan.role === role).map((plan) =>
          el("option", { value: plan.id },
            `${planName(plan)}${plan === chosen ? " (chosen)" : ""}: ${measured(plan, "time_ns")}`)))));
  const says = el("span", { class: "says", role: "status" });
  onSelect((plan) => {
    pick.value = plan.id;
    const faster = plan === reference ? "" : ` (${digits(times(plan), 4)} x as fast as ${reference.name})`;
    const others = Object.keys(MEASURES).slice(1)
      .map((key) => measured(plan, key)).join("; ");
    says.replaceChildren(el("strong", {}, measured(plan, "time_ns")), `${faster}; ${others}`);
  });
  const back = el("button", { type: "button", onclick: () => select(chosen.id) }, "the chosen one");
  return el("div", { class: "selection" }, el("label", { class: "choice" }, "Selected plan", pick), back, says);
}

function panel(main, title, wide, build) {
  const section = el("section", { class: wide ? "wide" : false }, el("h2", {}, title));
  main.append(section);
  build(section);
}

function remarks() {
  const lines = [
    data.hvx_only ? "HVX only: the matrix unit (HMX) of this DSP is not modelled." : null,
    ...data.remarks,
    ...data.notes.map((note) => `Calibrated on something else: ${note}`),
  ].filter((line) => line !== null);
  return lines.length ? el("ul", { class: "small" }, ...lines.map((line) => el("li", {}, line))) : null;
}

function build() {
  const main = el("main");
  document.getElementById("page").append(header(), selectionBar(), main);
  panel(main, "The front", false, frontPanel);
  panel(main, "One technique after the other", false, waterfallPanel);
  panel(main, `Where the time goes, beside ${reference.name}`, false, breakdownPanel);
  panel(main, "Search and bound", false, progressPanel);
  panel(main, `Timeline beside ${reference.name}`, true, ganttPanel);
  panel(main, "Sensitivity to each constant", true, tornadoPanel);
  panel(main, "Does the gain survive what is not known?", false, robustnessPanel);
  panel(main, "What the times rest on", false, evidencePanel);
  panel(main, `What the plan decides differently than ${reference.name}`, true, changesPanel);
  if (data.verified) panel(main, "Trained for real", true, verifiedPanel);
  panel(main, "The front as a table", true, (section) => plansPanel(section, "front"));
  panel(main, "Baselines", true, (section) => plansPanel(section, "baseline"));
  panel(main, "Make it again", true, manifestPanel);
  const notes = remarks();
  if (notes) main.append(el("section", { class: "wide" }, el("h2", {}, "Remarks"), notes));
  drawAll();
  let width = innerWidth;
  let timer = 0;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (innerWidth !== width) {
        width = innerWidth;
        drawAll();
      }
    }, 120);
  });
}

build();
