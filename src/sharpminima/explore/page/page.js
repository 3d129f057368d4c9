// Starts the page: charts are drawn when they come near the window, claims are filtered, points lead to their training.

const CHARTS = {};
const SPECS = JSON.parse(document.getElementById("charts").textContent);
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    CHARTS[target.dataset.chart].draw();
  }
}, { rootMargin: "400px" });
document.querySelectorAll("figure.chart").forEach((figure) => {
  CHARTS[figure.dataset.chart] = new Chart(figure, SPECS[figure.dataset.chart]);
  near.observe(figure);
});

// What a net is, in words that can be copied, and the way to its training.
function show(chart, point) {
  const { meta } = chart.drawn()[point.curveNumber], facts = point.customdata;
  const [run, draw, level, removed, left] = facts, [folder, file] = facts.slice(-2);
  const curve = element("button", { type: "button", textContent: "Show its training" });
  curve.addEventListener("click", () => train(meta, String(run), draw, level));
  chart.figure.querySelector(".picked").replaceChildren(
    element("b", { textContent: `${meta.title}, run ${run}, draw ${draw}` }),
    `: ${removed.toFixed(2)} % removed, ${left.toLocaleString("en")} parameters left, test error ${point.y.toFixed(2)} %. `,
    element("code", { textContent: folder + file }), " ", curve);
}

function train(meta, run, draw, level) {
  const chart = CHARTS.curves, names = [`${run}.${draw}`, run];
  const wanted = { net: meta.net, method: meta.method, strategy: meta.strategy, level };
  for (const [name, value] of Object.entries(wanted)) {
    if (value !== undefined && chart.chosen[name]) chart.chosen[name] = new Set([value]);
  }
  const runs = chart.possible(chart.controls.findIndex((control) => control.name === "run"));
  chart.chosen.run = new Set([names.find((name) => runs.has(name))]);
  chart.update();
  document.getElementById("curves").scrollIntoView();
}

const filter = document.getElementById("claims-filter");
function filterClaims() {
  const verdicts = new Set([...filter.querySelectorAll("[name=verdict]:checked")].map((box) => box.value));
  const words = filter.elements.words.value.toLowerCase().split(/\s+/);
  const claims = [...document.querySelectorAll(".claim")];
  for (const claim of claims) {
    const text = claim.textContent.toLowerCase();
    claim.hidden = !verdicts.has(claim.dataset.verdict) || !words.every((word) => text.includes(word));
  }
  const shown = claims.filter((claim) => !claim.hidden).length;
  document.getElementById("claims-count").textContent = `${shown} of ${claims.length} claims`;
}
filter.addEventListener("input", filterClaims);
filter.addEventListener("submit", (event) => event.preventDefault());
filterClaims();
