// All candidates: filter, sort, pages, CSV.
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

