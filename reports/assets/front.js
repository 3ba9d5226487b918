// The front, the walk along it, and the hover card.
function minimised(name, row) {
  const value = C[name][row];
  return AXES[name].maximise ? -value : value;
}
function frontRows(x, y) {
  if (D.fronts[x] && y === D.quality) return D.fronts[x];
  const usable = ROWS.filter((row) => isOk(row) && C.searchable[row] && C[x][row] !== null && C[y][row] !== null);
  usable.sort((a, b) => minimised(x, a) - minimised(x, b) || minimised(y, a) - minimised(y, b) || a - b);
  let best = Infinity;
  return usable.filter((row) => minimised(y, row) < best && ((best = minimised(y, row)), true));
}
function frontTraces(plot) {
  const rows = frontRows(state.x, state.y);
  const at = (list, name) => list.map((row) => C[name][row]);
  return plot.data.filter((trace) => trace.meta !== "selected").map((trace) => {
    const list = { front: rows, picks: trace.customdata, test: rows.filter((row) => D.tests[row]) }[trace.meta]
      || trace.customdata;
    const made = { ...trace, customdata: list, x: at(list, state.x), y: at(list, state.y) };
    if (trace.meta === "candidates")
      made.marker = { ...trace.marker, opacity: themeNow() === "dark" ? 0.85 : 0.55 };
    if (trace.meta === "picks") made.visible = D.costs.includes(state.x) && state.y === D.quality ? true : "legendonly";
    if (trace.meta === "test") {
      made.y = list.map((row) => D.tests[row][state.y]);
      made.visible = byId("show-test").checked;
      made.error_y = errorBars(list.map((row) => [D.tests[row].standard_error, D.tests[row].accuracy, D.tests[row].n]));
    }
    if (trace.meta === "front") {
      made.error_y = errorBars(list.map((row) => [C.standard_error[row], C.accuracy[row], C.n[row]]));
      made.error_y.visible = byId("show-error").checked && state.y !== "kl";
    }
    if (trace.meta === "picks") {
      const chosen = PICKS[state.x] || [];
      Object.assign(made, { customdata: chosen, x: at(chosen, state.x), y: at(chosen, state.y) });
    }
    return made;
  });
}
function errorBars(items) {
  const half = items.map(([error, share, n]) => state.y === "ce" ? Z95 * error
    : Z95 * Math.sqrt((share * (1 - share)) / Math.max(n, 1)));
  return { type: "data", array: half, thickness: 0.75, width: 0, color: D.muted, visible: state.y !== "kl" };
}
const PICKS = D.picks;
function selectedTrace() {
  const rows = [state.row, state.other].filter((row) => row !== null && C[state.x][row] !== null);
  return { type: "scatter", mode: "markers", name: "selected", meta: "selected", showlegend: false,
    customdata: rows, x: rows.map((row) => C[state.x][row]), y: rows.map((row) => C[state.y][row]),
    hoverinfo: "none", marker: { symbol: "circle", size: 11, color: D.accent, line: { width: 2 } } };
}
function axisLayout(name, vertical) {
  const axis = AXES[name];
  const made = { title: { text: axis.label + (vertical ? " on search-validation" : "") }, type: "linear",
    tickformat: axis.format, ticksuffix: axis.suffix, automargin: true, autorange: true };
  if (vertical && !axis.maximise) {
    const values = ROWS.filter(isOk).map((row) => C[name][row]).filter((value) => value > 0);
    if (Math.max(...values) > 4 * Math.min(...values)) Object.assign(made, { type: "log", tickvals: logTicks(values) });
  }
  return made;
}
function logTicks(values) {
  const low = Math.floor(Math.log10(Math.min(...values))) - 1;
  const powers = Array.from({ length: Math.ceil(Math.log10(Math.max(...values))) - low + 1 }, (_, i) => low + i);
  return powers.flatMap((power) => [1, 2, 3, 5].map((m) => Number(`${m}e${power}`)));
}
function firstView(traces, key, log) {
  const rows = traces.filter((trace) => ["front", "test"].includes(trace.meta) && trace.visible !== false);
  const front = rows.flatMap((trace) => trace[key]);
  const base = traces.filter((trace) => trace.meta === "baselines").flatMap((trace) => trace[key]);
  const high = Math.max(...front);
  const near = key === "x" ? base.filter((value) => value <= 1.34 * high) : base;
  if (key === "x" && D.int8 !== null) near.push(C[state.x][D.int8]);
  const values = [...front, ...near].filter((value) => value !== null && (!log || value > 0));
  let [low, top] = [Math.min(...values), Math.max(...values)];
  if (log) [low, top] = [Math.log10(low), Math.log10(top)];
  const pad = 0.05 * (top - low) || 0.05 * Math.abs(top) || 1;
  return [low - pad, top + pad];
}
// What the front shows now, from a plot or from the figure it will be drawn from.
function frontView(plot, reset) {
  const traces = [...frontTraces(plot), selectedTrace()];
  const layout = { ...plot.layout };
  if (reset) {
    for (const [key, name] of [["x", state.x], ["y", state.y]]) {
      const axis = axisLayout(name, key === "y");
      layout[`${key}axis`] = { ...axis, autorange: false, range: firstView(traces, key, axis.type === "log") };
    }
    layout.shapes = (D.limits[state.x] || []).map((limit) => ({ type: "line", x0: limit, x1: limit, y0: 0, y1: 1,
      yref: "paper", line: { dash: "dash", width: 1, color: D.muted } }));
  }
  return { data: traces, layout };
}
function showFront(reset) {
  const plot = byId("fig-front-" + D.costs[0]);
  if (!plot || !plot.data) return;
  const { data, layout } = frontView(plot, reset);
  Plotly.react(plot, data, layout, CONFIG);
  showWalk();
}
function showWalk() {
  const walk = byId("walk");
  const rows = frontRows(state.x, state.y);
  walk.max = Math.max(0, rows.length - 1);
  const place = rows.indexOf(state.row);
  if (place >= 0) walk.value = place;
  walk.setAttribute("aria-valuetext", state.row === null ? "nothing selected"
    : `${titleOf(state.row)}, ${written(state.x, C[state.x][state.row])}, ${written(state.y, C[state.y][state.row])}`);
}
function step(offset) {
  const rows = frontRows(state.x, state.y);
  if (!rows.length) return;
  const here = rows.indexOf(state.row);
  select(rows[here < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, here + offset))]);
}

// ---------------------------------------------------------------- hover card
const tip = node("div", { class: "tip", hidden: true });
function showTip(event, children) {
  tip.replaceChildren(...children);
  tip.hidden = false;
  const { clientX, clientY } = event;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(clientX + 16, innerWidth - width - 12))}px`;
  tip.style.top = `${clientY + 20 + height > innerHeight ? clientY - height - 14 : clientY + 18}px`;
}
function pointTip(row) {
  return [node("b", {}, titleOf(row)), " ", node("code", {}, C.policy_id[row]),
    node("div", {}, `${written(state.x, C[state.x][row])} · accuracy ${accuracyText(row)}`),
    node("div", {}, `cross-entropy ${lossText(row, "ce")} · ${strategyOf(row)}, seed ${C.seed[row]}`), strip(row)];
}
function hoverRow(plot, point) {
  if (point.data?.meta === "margin") return [null, null];
  if (plot.id.startsWith("fig-bits")) {
    const cost = plot.id.slice("fig-bits-".length).replace("-", "@");
    const row = (D.fronts[cost] || [])[point.x];
    const layer = layersOf(row)[Number(point.y)];
    return [row, [node("b", {}, layer.name), node("div", {}, `${layer.text} at ${titleOf(row)}`),
      node("div", {}, written(cost, C[cost][row]))]];
  }
  if (plot.id.startsWith("fig-policy")) {
    const layer = layersOf(state.row)[point.pointNumber];
    return [null, [node("b", {}, layer.name), node("div", {}, `${layer.text}, ${layer.op}`),
      node("div", {}, `${layer.weights.toLocaleString("en")} weights, ${(100 * shares(state.row, byId("policy-cost").value)[point.pointNumber]).toFixed(1)} % of the cost`)]];
  }
  if (point.customdata === undefined) return [null, null];
  return [point.customdata, pointTip(point.customdata)];
}
function listen(plot) {
  plot.on("plotly_hover", (event) => {
    const [, children] = hoverRow(plot, event.points[0]);
    if (children) showTip(event.event, children);
  });
  plot.on("plotly_unhover", () => { tip.hidden = true; });
  plot.on("plotly_click", (event) => {
    const [row] = hoverRow(plot, event.points[0]);
    if (row === null || row === undefined) return;
    if (event.event && event.event.shiftKey && row !== state.row) { state.other = row; refresh(); }
    else select(row);
  });
}

