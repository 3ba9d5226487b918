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
      text: options.choices[code] };
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

