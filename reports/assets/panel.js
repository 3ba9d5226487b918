// The selected policy: panel, layers, bars, comparison.
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
  if (D.metric === "bits_per_byte") add("Bits per byte", number(tested(row, "ce") / Math.LN2));
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
const deviceOf = (cost) => (cost.includes("@") ? ` on ${cost.split("@")[1]}` : "");
function originCell(cost, layer, code) {
  const { marks, of } = D.origins[cost];
  const [mark, reason] = marks[of[layer][code]];
  return node("td", { class: `kernel ${mark.replace(" ", "-")}`, title: reason || null }, mark);
}
function showLayers() {
  const table = byId("layers");
  if (!table || state.row === null) return;
  const costs = D.axes.filter((axis) => axis.cost && D.tables[axis.name]);
  const parts = costs.map((axis) => shares(state.row, axis.name));
  const kinds = Object.keys(D.scores);
  const timed = Object.keys(D.origins);
  const heads = ["Layer", "Op", "Weights", "w", "a", ...timed.map((cost) => `Kernel${deviceOf(cost)}`), ...costs.map((a) => `Share of ${shortLabel(a).toLowerCase()}`),
    ...kinds.map((kind) => `Score ${kind}`)];
  const rows = layersOf(state.row).map((layer, i) => node("tr", {},
    node("td", { class: "name" }, layer.name), node("td", {}, layer.op),
    node("td", { class: "num" }, layer.weights.toLocaleString("en")),
    node("td", {}, chip(layer.w)), node("td", {}, chip(layer.a)),
    ...timed.map((cost) => originCell(cost, i, layer.code)),
    ...parts.map((part) => node("td", { class: "num" }, `${(100 * part[i]).toFixed(1)} %`,
      node("span", { class: "meter", style: `width:${Math.round(48 * part[i] / Math.max(...part))}px` }))),
    ...kinds.map((kind) => node("td", { class: "num" }, number(D.scores[kind][layer.group][layer.code])))));
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

