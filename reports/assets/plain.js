"use strict";
// Draws the figures of a page without selections: comparisons. Follows the colour scheme.
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const TEMPLATES = JSON.parse(document.getElementById("templates").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;
const theme = () => chosen || (dark.matches ? "dark" : "light");
const plots = [...document.querySelectorAll(".plot")].filter((plot) => FIGURES[plot.id]);
function paint() {
  document.documentElement.dataset.theme = theme();
  for (const plot of plots) if (plot.data) Plotly.relayout(plot, { template: TEMPLATES[theme()] });
}
document.documentElement.dataset.theme = theme();
for (const plot of plots) {
  const { data, layout } = FIGURES[plot.id];
  Plotly.newPlot(plot, data, { ...layout, template: TEMPLATES[theme()], autosize: true },
    { displayModeBar: false, responsive: true });
}
document.getElementById("theme").addEventListener("click", () => {
  chosen = theme() === "dark" ? "light" : "dark";
  paint();
});
dark.addEventListener("change", paint);
document.documentElement.dataset.ready = "yes";
