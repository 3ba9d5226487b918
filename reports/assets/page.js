"use strict";
// Interaction of a report: selection, axes, tables, theme. State lives in the URL hash.
// All numbers come from the JSON block "data"; names go in as text nodes, never as markup.

const D = JSON.parse(document.getElementById("data").textContent);
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const C = D.columns;
const byId = (id) => document.getElementById(id);
const all = (query, root = document) => [...root.querySelectorAll(query)];
// Without a prototype: names come from the URL, and "__proto__" is not an axis.
const AXES = Object.assign(Object.create(null), Object.fromEntries(D.axes.map((axis) => [axis.name, axis])));
const ROWS = C.policy_id.map((_, row) => row);
const ROW_OF = new Map(C.policy_id.map((id, row) => [id, row]));
const ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const Z95 = 1.959963984540054;
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset" };
const state = { row: D.selected, other: null, cost: D.costs[0], x: D.costs[0], y: D.quality };

// ---------------------------------------------------------------- small helpers
function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "style") made.style.cssText = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
const MINUS = "\u2212";
const dash = (text) => String(text).replace("-", MINUS);
function number(value, half) {
  if (value === null || value === undefined || !isFinite(value)) return "–";
  if (half > 0) return dash(value.toFixed(Math.max(0, 1 - Math.floor(Math.log10(half)))));
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return digits <= 6 ? dash(value.toFixed(digits)) : value.toExponential(2);
}
function scaled(value, units) {
  let unit = 0;
  while (Math.abs(value) >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${number(value)} ${units[unit]}`;
}
function written(name, value) {
  if (value === null || value === undefined) return "–";
  const base = name.split("@")[0];
  if (base.endsWith("_bytes")) return scaled(value, ["B", "kB", "MB", "GB"]);
  if (base === "bops") return scaled(value, ["BOPs", "kBOPs", "MBOPs", "GBOPs", "TBOPs"]);
  if (base.startsWith("latency")) return `${number(value)} ms`;
  if (base === "energy_mj") return `${number(value)} mJ`;
  if (base === "accuracy") return `${(100 * value).toFixed(1)} %`;
  return number(value);
}
function change(value, base) {
  if (!base || value === null || value === undefined) return "";
  const part = 100 * (value / base - 1);
  const sign = part > 0 ? "+" : part < 0 ? MINUS : "±";
  return `${sign}${Math.abs(part).toFixed(Math.abs(part) >= 10 ? 0 : 1)} %`;
}
const codesOf = (row) => [...C.codes[row]].map((char) => ALPHABET.indexOf(char));
const isOk = (row) => C.ok[row] === 1;
const titleOf = (row) =>
  C.tag[row] || `w${C.mean_weight_bits[row].toFixed(1)}a${C.mean_activation_bits[row].toFixed(1)}`;
const strategyOf = (row) => D.strategies[D.strategy[row]];
const bitColour = (bits) => D.bits[Object.keys(D.bits).reduce((best, known) =>
  Math.abs(known - bits) < Math.abs(best - bits) ? known : best)];
function inkOn(colour) {
  const parts = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255);
  const [r, g, b] = parts.map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05) / 0.05 >= 4.58 ? "#000" : "#fff";
}

// ---------------------------------------------------------------- one policy, layer by layer
function layersOf(row) {
  const codes = codesOf(row);
  return D.space.layers.map(([name, op, weights, macs, group]) => {
    const options = D.space.groups[group];
    const code = codes[group];
    return { name, op, weights, macs, group, code, w: options.w[code], a: options.a[code],
      text: options.choices[code], hollow: options.hollow[code] };
  });
}
function shares(row, cost) {
  const layers = layersOf(row);
  const table = D.tables[cost];
  const byWeight = cost.startsWith("size") || !table;
  const mass = layers.map((layer) => (byWeight ? layer.weights : layer.macs));
  const total = {};
  layers.forEach((layer, i) => { total[layer.group] = (total[layer.group] || 0) + mass[i]; });
  const parts = layers.map((layer, i) => {
    const whole = table ? table[layer.group][layer.code] || 0 : total[layer.group];
    return (whole * mass[i]) / (total[layer.group] || 1);
  });
  const sum = parts.reduce((a, b) => a + b, 0) || 1;
  return parts.map((part) => part / sum);
}
function strip(row) {
  const bars = layersOf(row).map((layer) =>
    node("i", { style: `height:${(100 * Math.min(layer.w, 8)) / 8}%;background:${bitColour(layer.w)}` }));
  return node("div", { class: "strip", "aria-hidden": "true" }, ...bars);
}
function chip(bits) {
  const colour = bitColour(bits);
  return node("span", { class: "chip", style: `background:${colour};color:${inkOn(colour)}` },
    String(bits));
}
function tested(row, name) {
  const test = D.tests[row];
  return test ? test[name] : C[name][row];
}
function accuracyText(row) {
  const test = D.tests[row];
  if (!test) return written("accuracy", C.accuracy[row]);
  const half = (test.accuracy_high - test.accuracy_low) / 2;
  return `${(100 * test.accuracy).toFixed(1)} ± ${(100 * half).toFixed(1)} %`;
}
function lossText(row, name) {
  const value = tested(row, name);
  const half = name === "ce" ? Z95 * tested(row, "standard_error") : 0;
  if (!(half > 0)) return number(value);
  const digits = Math.max(0, 1 - Math.floor(Math.log10(half)));
  return `${number(value, half)} ± ${half.toFixed(digits)}`;
}

// ---------------------------------------------------------------- selection panel
function exportCommand(row) { return `bitfront-export run=${D.run} policy=${C.policy_id[row]}`; }
function policyJson(row) {
  const choices = Object.fromEntries(layersOf(row).map((layer) => [layer.name, layer.text]));
  return JSON.stringify({ schema_version: 1, policy_id: C.policy_id[row], choices }, null, 1) + "\n";
}
function override(row) {
  const rules = D.space.groups.map((group, g) => {
    const layer = D.space.layers.find((item) => item[4] === g)[0];
    const pattern = layer.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    return `{name:${quoted(`^${pattern}$`)},choices:[${quoted(group.choices[codesOf(row)[g]])}]}`;
  });
  return shellWord(`space.rules=[${rules.join(",")}]`);
}
// Hydra's quoted strings: only quotes, and backslashes before them, are escaped.
function quoted(text) { return `"${text.replace(/(\\*)"/g, '$1$1\\"').replace(/(\\+)$/, "$1$1")}"`; }
function shellWord(text) { return `'${text.replace(/'/g, "'\\''")}'`; }
function showPanel() {
  const row = state.row;
  const panel = byId("panel");
  if (!panel || row === null) return;
  const values = node("dl", { class: "values" });
  const add = (name, value, note) => values.append(node("dt", {}, name), node("dd", {}, value),
    note ? node("dd", { class: "note" }, note) : "");
  add("Accuracy", accuracyText(row));
  add("Cross-entropy", lossText(row, "ce"));
  add("KL to float", number(tested(row, "kl")));
  for (const axis of D.axes.filter((item) => item.cost)) {
    const value = C[axis.name][row];
    if (value === null) continue;
    const base = D.int8 === null ? null : C[axis.name][D.int8];
    const against = row === D.int8 ? "" : change(value, base);
    add(shortLabel(axis), written(axis.name, value), against && `${against} vs int8`);
  }
  add("Found by", `${strategyOf(row)}, seed ${C.seed[row]}`);
  add("Values from", D.tests[row] ? "test split" : "search-validation only");
  panel.replaceChildren(
    node("div", { class: "name" }, titleOf(row), node("code", {}, C.policy_id[row])),
    strip(row), values,
    node("div", { class: "actions" },
      node("button", { class: "main", "data-export": C.policy_id[row] }, "Copy export command"),
      node("button", { "data-action": "citation" }, "Copy citation"),
      node("button", { "data-action": "link" }, "Copy link")));
}
function shortLabel(axis) {
  const text = axis.label.split(" (")[0].split(",")[0].replace(" to the float model", " to float");
  return text[0].toUpperCase() + text.slice(1);
}
function citation(row) {
  return `bitfront study ${D.study}, policy ${C.policy_id[row]} (${titleOf(row)}), run ${D.run}`;
}
function showLayers() {
  const table = byId("layers");
  if (!table || state.row === null) return;
  const costs = D.axes.filter((axis) => axis.cost && D.tables[axis.name]);
  const parts = costs.map((axis) => shares(state.row, axis.name));
  const kinds = Object.keys(D.scores);
  const heads = ["Layer", "Op", "Weights", "w", "a", ...costs.map((a) => `Share of ${shortLabel(a).toLowerCase()}`),
    ...kinds.map((kind) => `Score ${kind}`), "Kernel"];
  const rows = layersOf(state.row).map((layer, i) => node("tr", {},
    node("td", { class: "name" }, layer.name), node("td", {}, layer.op),
    node("td", { class: "num" }, layer.weights.toLocaleString("en")),
    node("td", {}, chip(layer.w)), node("td", {}, chip(layer.a)),
    ...parts.map((part) => node("td", { class: "num" }, `${(100 * part[i]).toFixed(1)} %`,
      node("span", { class: "meter", style: `width:${Math.round(48 * part[i] / Math.max(...part))}px` }))),
    ...kinds.map((kind) => node("td", { class: "num" }, number(D.scores[kind][layer.group][layer.code]))),
    node("td", { class: "kernel", title: layer.hollow || null }, layer.hollow ? "storage only" : "genuine")));
  table.replaceChildren(
    node("caption", { class: "hidden" }, "Layers of the selected policy"),
    node("thead", {}, node("tr", {}, ...heads.map((head) => node("th", { scope: "col" }, head)))),
    node("tbody", {}, ...rows));
  byId("policy-name").replaceChildren(node("b", {}, titleOf(state.row)), " ",
    node("code", {}, C.policy_id[state.row]));
}
function showBars() {
  const plot = byId("fig-policy-" + D.costs[0]);
  const select = byId("policy-cost");
  if (!plot || !plot.data || state.row === null) return;
  const part = shares(state.row, select.value);
  const least = D.space.narrowest / part.length;
  const widths = part.map((value) => Math.max(value, least));
  const sum = widths.reduce((a, b) => a + b, 0);
  let left = 0;
  const centres = widths.map((value, i) => {
    widths[i] = (100 * value) / sum;
    left += widths[i];
    return left - widths[i] / 2;
  });
  const layers = layersOf(state.row);
  const top = Math.max(8, ...layers.map((layer) => Math.max(layer.w, layer.a)));
  const [bars, marks] = plot.data.map((trace) => ({ ...trace }));
  Object.assign(bars, { x: centres, width: widths, y: layers.map((layer) => layer.w),
    marker: { color: layers.map((layer) => bitColour(layer.w)) } });
  Object.assign(marks, { x: centres, y: layers.map((layer) => layer.a) });
  const layout = { ...plot.layout, yaxis: { ...plot.layout.yaxis, range: [0, Math.log10(top * 1.15)] } };
  layout.xaxis = { ...layout.xaxis, range: [0, 100], title: {
    text: `layers in order; width: share of ${shortLabel(AXES[select.value]).toLowerCase()} (%)` } };
  Plotly.react(plot, [bars, marks], layout, CONFIG);
}
function showCompared() {
  const place = byId("compared");
  if (!place) return;
  if (state.other === null) { place.replaceChildren(); return; }
  const [own, other] = [layersOf(state.row), layersOf(state.other)];
  const rows = own.flatMap((layer, i) => layer.text === other[i].text ? [] : [node("tr", {},
    node("td", { class: "name" }, layer.name), node("td", {}, layer.text), node("td", {}, other[i].text))]);
  place.replaceChildren(
    node("h3", { style: "margin:20px 0 8px" },
      `Compared with ${titleOf(state.other)} (${C.policy_id[state.other]}): ${rows.length} of ${own.length} layers differ`),
    node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Layers that differ" },
      node("table", {}, node("thead", {}, node("tr", {}, ...["Layer", C.policy_id[state.row],
        C.policy_id[state.other]].map((head) => node("th", { scope: "col" }, head)))),
      node("tbody", {}, ...rows))),
    node("button", { onclick: () => { state.other = null; refresh(); }, style: "margin-top:10px" },
      "Stop comparing"));
}

// ---------------------------------------------------------------- the front
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
function showFront(reset) {
  const plot = byId("fig-front-" + D.costs[0]);
  if (!plot || !plot.data) return;
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
  Plotly.react(plot, traces, layout, CONFIG);
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
  if (plot.id.startsWith("fig-bits")) {
    const cost = plot.id.slice("fig-bits-".length).replace("-", "@");
    const row = (D.fronts[cost] || [])[point.x];
    const layer = layersOf(row)[point.y];
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

// ---------------------------------------------------------------- all candidates
const PAGE = 50;
const list = { sort: D.costs[0], down: false, page: 0 };
const COLUMNS = [["policy_id", "Policy"], ["strategy", "Strategy"], ["seed", "Seed"], ...D.axes.map((axis) =>
  [axis.name, shortLabel(axis)]), ["mean_weight_bits", "w bits"], ["mean_activation_bits", "a bits"]];
function matches(row, words, front) {
  const text = `${C.policy_id[row]} ${C.tag[row]} ${titleOf(row)} strategy:${strategyOf(row)} seed:${C.seed[row]} ${isOk(row) ? "ok" : "failed"}`;
  return words.every((word) => text.includes(word)) && (!front || front.has(row));
}
function chosenRows() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const strategy = byId("filter-strategy").value;
  const front = byId("filter-front").checked ? new Set(frontRows(state.x, state.y)) : null;
  const rows = ROWS.filter((row) => (!strategy || strategyOf(row) === strategy) && matches(row, words, front));
  const key = (row) => (list.sort === "strategy" ? strategyOf(row) : C[list.sort][row]);
  const sign = list.down ? -1 : 1;
  return rows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return sign * (x < y ? -1 : x > y ? 1 : 0) || a - b;
  });
}
function cellOf(row, name) {
  if (name === "policy_id") return node("td", {}, node("code", {}, C.policy_id[row]), C.tag[row] ? ` ${C.tag[row]}` : "");
  if (name === "strategy") return node("td", {}, isOk(row) ? strategyOf(row) : `${strategyOf(row)} (failed)`);
  const bits = name.endsWith("_bits");
  const value = C[name][row];
  return node("td", { class: "num" }, name === "seed" ? String(value) : bits ? value.toFixed(1) : written(name, value));
}
function showCandidates() {
  const rows = chosenRows();
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  list.page = Math.min(list.page, pages - 1);
  const head = COLUMNS.map(([name, title]) => node("th", { scope: "col", class: name.match(/policy_id|strategy/) ? "" : "num",
    "aria-sort": list.sort === name ? (list.down ? "descending" : "ascending") : null },
    node("button", { "data-sort": name }, title)));
  const body = rows.slice(list.page * PAGE, (list.page + 1) * PAGE).map((row) =>
    node("tr", { "data-row": row, tabindex: "0", class: row === state.row ? "selected" : "" },
      ...COLUMNS.map(([name]) => cellOf(row, name))));
  byId("candidate-table").replaceChildren(node("caption", { class: "hidden" }, "All candidates"),
    node("thead", {}, node("tr", {}, ...head)), node("tbody", {}, ...body));
  byId("candidate-count").textContent = `${rows.length} of ${ROWS.length}`;
  byId("page-number").textContent = `page ${list.page + 1} of ${pages}`;
  byId("previous").disabled = list.page === 0;
  byId("next").disabled = list.page >= pages - 1;
}
function csv() {
  const names = [...COLUMNS.map(([name]) => name), "ok", "tag", "codes"];
  const quoted = (value) => (value === null ? "" : /[",\n]/.test(value) ? `"${String(value).replace(/"/g, '""')}"` : value);
  const lines = chosenRows().map((row) => names.map((name) =>
    quoted(name === "strategy" ? strategyOf(row) : C[name][row])).join(","));
  return [names.join(","), ...lines].join("\n") + "\n";
}

// ---------------------------------------------------------------- copy, download, theme
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
  const figure = FIGURES[plot.id];
  if (!figure || plot.data) return;
  figure.layout.template = D.templates[themeNow()];
  figure.layout.autosize = true;
  if (plot.clientWidth < 500) narrow(figure);
  Plotly.newPlot(plot, figure.data, figure.layout, CONFIG);
  listen(plot);
  if (plot.id.startsWith("fig-front")) { showFront(true); mark("front-drawn"); }
  if (plot.id.startsWith("fig-policy")) showBars();
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
function mark(name) {
  requestAnimationFrame(() => setTimeout(() => performance.mark(name)));
}
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
chooseCost(state.cost);
showPanel();
showLayers();
showCandidates();
drawVisible();
document.documentElement.dataset.ready = "yes";
