// Copying, theme, state, drawing when visible, wiring.
async function copyText(text, button) {
  try { await navigator.clipboard.writeText(text); }
  catch { copyOldWay(text); }
  document.documentElement.dataset.copied = text;
  if (!button) return;
  const label = button.textContent;
  button.textContent = "Copied";
  button.classList.add("done");
  setTimeout(() => { button.textContent = label; button.classList.remove("done"); }, 1400);
}
function copyOldWay(text) {
  const area = node("textarea", { style: "position:fixed;opacity:0" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
function download(name, text) {
  const link = node("a", { href: URL.createObjectURL(new Blob([text])), download: name });
  document.documentElement.dataset.downloaded = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
const dark = matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;
const themeNow = () => chosenTheme || (dark.matches ? "dark" : "light");
function applyTheme(theme = themeNow()) {
  document.documentElement.dataset.theme = theme;
  for (const plot of all(".plot")) if (plot.data) Plotly.relayout(plot, { template: D.templates[theme] });
  showFront(false);
}

// ---------------------------------------------------------------- state
function select(row) {
  state.row = row;
  if (state.other === row) state.other = null;
  refresh();
}
function refresh() {
  showPanel(); showLayers(); showBars(); showCompared(); showFront(false); showCandidates(); writeHash();
}
function writeHash() {
  const words = new URLSearchParams();
  if (state.row !== D.selected && state.row !== null) words.set("p", C.policy_id[state.row]);
  if (state.other !== null) words.set("q", C.policy_id[state.other]);
  if (state.x !== D.costs[0]) words.set("x", state.x);
  if (state.y !== D.quality) words.set("y", state.y);
  if (chosenTheme) words.set("theme", chosenTheme);
  history.replaceState(null, "", words.size ? `#${words}` : location.pathname + location.search);
}
function readHash() {
  if (!location.hash.includes("=")) return;
  const words = new URLSearchParams(location.hash.slice(1));
  const row = ROW_OF.get(words.get("p"));
  if (row !== undefined) state.row = row;
  state.other = ROW_OF.get(words.get("q")) ?? null;
  if (AXES[words.get("x")]?.cost) state.x = words.get("x");
  if (AXES[words.get("y")] && !AXES[words.get("y")].cost) state.y = words.get("y");
  if (D.costs.includes(state.x)) state.cost = state.x;
  if (["light", "dark"].includes(words.get("theme"))) chosenTheme = words.get("theme");
}
function chooseCost(cost) {
  state.cost = cost;
  for (const part of all(".variant")) part.classList.toggle("active", part.dataset.cost === cost);
  for (const button of all("[data-choose]")) button.setAttribute("aria-pressed", button.dataset.choose === cost);
  drawVisible();
}
function setAxes(x, y) {
  Object.assign(state, { x, y });
  if (D.costs.includes(x)) chooseCost(x);
  byId("axis-x").value = x;
  byId("axis-y").value = y;
  showFront(true);
  showCandidates();
  writeHash();
}

// ---------------------------------------------------------------- drawing when visible
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) drawOne(entry.target);
}, { rootMargin: "400px" });
function drawOne(plot) {
  seen.unobserve(plot);
  let figure = FIGURES[plot.id];
  if (!figure || plot.data) return;
  figure.layout.template = D.templates[themeNow()];
  figure.layout.autosize = true;
  if (plot.clientWidth < 500) narrow(figure);
  if (plot.id.startsWith("fig-front")) figure = frontView(figure, true);
  Plotly.newPlot(plot, figure.data, figure.layout, CONFIG);
  listen(plot);
  if (plot.id.startsWith("fig-front")) { showWalk(); mark("front-drawn"); }
  if (plot.id.startsWith("fig-policy")) showBars();
  if (plot.id.startsWith("fig-bits") && byId("bits-order").value !== "execution") orderBits(byId("bits-order").value);
}
function narrow(figure) {
  figure.layout.margin = { l: 4, r: 6, t: 28, b: 4 };
  for (const trace of figure.data) if (trace.colorbar) Object.assign(trace, { showscale: false, xgap: 0 });
  const ticks = figure.layout.xaxis?.tickvals;
  if (ticks?.length > 4) for (const key of ["tickvals", "ticktext"])
    figure.layout.xaxis[key] = figure.layout.xaxis[key].filter((_, i) => i % 3 === 0);
  for (const key of Object.keys(figure.layout).filter((name) => name.startsWith("yaxis")))
    if (figure.layout[key].ticktext)
      figure.layout[key].ticktext = figure.layout[key].ticktext.map((text) => text.length > 14 ? `…${text.slice(-13)}` : text);
}
// Layers of the heat maps are categories named by their position: listing them anew moves rows.
function orderBits(name) {
  const order = D.orders[name];
  const blockOf = (i) => D.space.layers[i][0].split(".").slice(0, -1).join(".");
  const breaks = name === "block" ? order.flatMap((layer, i) => i && blockOf(layer) !== blockOf(order[i - 1]) ? [i - 0.5] : []) : [];
  for (const plot of all(".plot[id^='fig-bits']")) {
    if (!plot.data) continue;
    const change = { shapes: [] };
    plot.data.forEach((_, panel) => {
      const suffix = panel ? String(panel + 1) : "";
      change[`yaxis${suffix}.categoryarray`] = order.map(String);
      change.shapes.push(...breaks.map((at) => ({ type: "line", xref: `x${suffix} domain`, yref: `y${suffix}`,
        x0: 0, x1: 1, y0: at, y1: at, line: { width: 2, color: D.accent } })));
    });
    Plotly.relayout(plot, change);
  }
}
const ORDER_NAMES = { execution: "as executed", block: "by block" };
function afterPaint(action) {
  if (document.hidden) action();
  else requestAnimationFrame(() => setTimeout(action));
}
function mark(name) { afterPaint(() => performance.mark(name)); }
function drawVisible() {
  for (const plot of all(".plot")) if (!plot.data) seen.observe(plot);
}

// ---------------------------------------------------------------- wiring
function options(select, pairs, value) {
  select.replaceChildren(...pairs.map(([key, text]) => node("option", { value: key }, text)));
  select.value = value;
}
function prepareControls() {
  if (byId("axis-x")) {
    options(byId("axis-x"), D.axes.filter((axis) => axis.cost).map((axis) => [axis.name, axis.label]), state.x);
    options(byId("axis-y"), D.axes.filter((axis) => !axis.cost).map((axis) => [axis.name, axis.label]), state.y);
  }
  if (byId("policy-cost"))
    options(byId("policy-cost"), D.axes.filter((axis) => D.tables[axis.name]).map((axis) => [axis.name, shortLabel(axis)]),
      D.tables[state.cost] ? state.cost : Object.keys(D.tables)[0]);
  if (byId("bits-order"))
    options(byId("bits-order"), Object.keys(D.orders).map((name) => [name, ORDER_NAMES[name] || `by ${name}, most sensitive first`]), "execution");
  options(byId("filter-strategy"), [["", "all strategies"], ...D.strategies.map((name) => [name, name])], "");
}
const ACTIONS = {
  override: (button) => copyText(override(state.row), button),
  citation: (button) => copyText(citation(state.row), button),
  link: (button) => { history.replaceState(null, "", `#p=${C.policy_id[state.row]}`); copyText(location.href, button); },
  download: () => download(`${C.policy_id[state.row]}.json`, policyJson(state.row)),
};
function onClick(event) {
  const target = event.target.closest("button, tr[data-row]");
  if (!target) return;
  const { export: id, select: chosen, choose, sort, action, row, text } = target.dataset;
  if (text) copyText(text, target);
  else if (id) copyText(exportCommand(ROW_OF.get(id)), target);
  else if (chosen) { select(ROW_OF.get(chosen)); byId("front").scrollIntoView(); }
  else if (choose) { if (byId("axis-x")) setAxes(choose, state.y); else chooseCost(choose); }
  else if (sort) { list.down = list.sort === sort && !list.down; list.sort = sort; showCandidates(); }
  else if (action) ACTIONS[action](target);
  else if (row !== undefined) { select(Number(row)); focusRow(row); }
}
function focusRow(row) { all(`#candidate-table tr[data-row="${row}"]`)[0]?.focus({ preventScroll: true }); }
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, select, textarea, summary, button");
  if (event.key === "Enter" && event.target.dataset?.row !== undefined) {
    select(Number(event.target.dataset.row));
    focusRow(state.row);
  }
  if (typing) return;
  const keys = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), t: toggleTheme, "?": () => byId("keys").showModal(),
    c: () => state.row !== null && copyText(exportCommand(state.row), all("#panel [data-export]")[0]) };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}
function toggleTheme() {
  chosenTheme = themeNow() === "dark" ? "light" : "dark";
  applyTheme();
  writeHash();
}
function on(id, type, action) { byId(id)?.addEventListener(type, action); }
function wire() {
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  on("theme", "click", toggleTheme);
  on("help", "click", () => byId("keys").showModal());
  on("reproduce", "click", (event) => copyText(D.command, event.currentTarget));
  on("axis-x", "change", (event) => setAxes(event.target.value, state.y));
  on("axis-y", "change", (event) => setAxes(state.x, event.target.value));
  on("show-test", "change", () => showFront(false));
  on("show-error", "change", () => showFront(false));
  on("reset-view", "click", () => showFront(true));
  on("walk", "input", (event) => select(frontRows(state.x, state.y)[Number(event.target.value)]));
  on("policy-cost", "change", showBars);
  on("bits-order", "change", (event) => orderBits(event.target.value));
  for (const id of ["filter", "filter-strategy", "filter-front"])
    on(id, "input", () => { list.page = 0; showCandidates(); });
  on("previous", "click", () => { list.page -= 1; showCandidates(); });
  on("next", "click", () => { list.page += 1; showCandidates(); });
  on("csv", "click", () => download(`${D.study}-candidates.csv`, csv()));
  dark.addEventListener("change", () => applyTheme());
  addEventListener("hashchange", () => { if (!location.hash.includes("=")) return; readHash(); setAxes(state.x, state.y); refresh(); });
  addEventListener("beforeprint", () => { all(".plot").forEach((plot) => plot.offsetParent && drawOne(plot)); applyTheme("light"); });
  addEventListener("afterprint", () => applyTheme());
}

document.documentElement.classList.add("js");
document.body.append(tip);
readHash();
document.documentElement.dataset.theme = themeNow();
prepareControls();
const front = all(".plot[id^='fig-front']")[0];
if (front) drawOne(front);
wire();
// The front is painted first; a hidden page paints nothing and has no reason to wait.
afterPaint(() => {
  chooseCost(state.cost);
  showPanel();
  showLayers();
  showCandidates();
  drawVisible();
  document.documentElement.dataset.ready = "yes";
});
