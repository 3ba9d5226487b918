"""Figures on the page: cards, the front with its panel, the selected policy, the candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reports.data import ReportData
from reports.exports import exports_card
from reports.failures import failures_card
from reports.figure import Drawn
from reports.html import Html, el, join, table_html
from reports.kernels import kernels_card, ops_card
from reports.sections import section

Layout = Callable[[ReportData, Sequence[Drawn]], Html]


def figure_card(item: Drawn, active: bool = True) -> Html:
    """One figure with its alternative text and table, or the reason why it is not there."""
    classes = ["card", *(["variant"] if item.cost else []), *(["active"] if active else [])]
    return el("figure", *figure_body(item), class_=" ".join(classes), data_cost=item.cost or None)


def figure_body(item: Drawn) -> list[object]:
    """What a figure's card holds."""
    if item.error:
        message = (
            f"This figure could not be drawn: {item.error}. The data is in the run directory."
        )
        return [el("p", message, class_="error")]
    if item.missing:
        return [el("p", item.missing, class_="missing")]
    return _plot(item)


def figure_id(item: Drawn) -> str:
    """Element id of a drawn figure, unique on the page."""
    return f"fig-{item.name}" + (f"-{item.cost.replace('@', '-')}" if item.cost else "")


def _plot(item: Drawn) -> list[object]:
    name = figure_id(item)
    height = item.figure.layout.height or item.height
    plot = el(
        "div", id=name, class_="plot", role="img", aria_label=item.alt, style=f"height:{height}px"
    )
    note = item.table.note if item.table else ""
    caption = el("figcaption", note, class_="muted small") if note else None
    return [plot, caption, data_table(item), snippet(item)]


def snippet(item: Drawn) -> Html | None:
    """Text worth copying that belongs to a figure, folded."""
    if item.table is None or not item.table.snippet:
        return None
    button = el("button", "Copy", data_text=item.table.snippet)
    summary = el("summary", "Rules that keep the most sensitive layers wide")
    return el("details", summary, el("pre", item.table.snippet, tabindex="0"), button)


def data_table(item: Drawn) -> Html | None:
    """The numbers behind a figure, folded."""
    if item.table is None:
        return None
    words = f"{item.title}, {figure_id(item).removeprefix('fig-').replace('-', ' ')}"
    rows = table_html(item.table.columns, item.table.rows, f"Data: {words}")
    scroll = el(
        "div", rows, class_="scroll", tabindex="0", role="region", aria_label=f"Data: {words}"
    )
    return el("details", el("summary", "Data"), scroll)


def plain_cards(data: ReportData, items: Sequence[Drawn]) -> Html:
    """Cards below each other; of several costs one is shown at a time."""
    return join(figure_card(item, item.cost in ("", data.costs[0])) for item in items)


def paired_cards(data: ReportData, items: Sequence[Drawn]) -> Html:
    """Cards side by side where there is room."""
    return el("div", plain_cards(data, items), class_="pair")


def front_cards(data: ReportData, items: Sequence[Drawn]) -> Html:
    """The main figure with axis selectors, the walk along it, and the panel of the selection."""
    main = items[0]
    tables = [
        el(
            "div",
            data_table(item),
            class_="variant" + (" active" if item is main else ""),
            data_cost=item.cost,
        )
        for item in items
    ]
    if main.figure is None:
        return figure_card(main)
    plot = _plot(main)[0]
    tools = el(
        "div",
        el("label", "Cost ", el("select", id="axis-x")),
        el("label", "Quality ", el("select", id="axis-y")),
        el("label", el("input", type="checkbox", id="show-test", checked=True), "test split"),
        el("label", el("input", type="checkbox", id="show-error"), "95 % bars"),
        el("button", "Reset view", id="reset-view", class_="push"),
        class_="tools",
    )
    walk = el(
        "label",
        el("span", "Walk along the front", class_="muted"),
        el("input", type="range", id="walk", min=0, max=0, value=0),
        id="walk-label",
    )
    caption = el(
        "p",
        "Click a point to select it, shift-click a second one to compare. ",
        main.table.note if main.table else "",
        class_="muted small",
    )
    figure = el("figure", tools, plot, walk, caption, *tables, class_="card")
    return el("div", figure, panel(), class_="duo")


def panel() -> Html:
    """The selection's card; page.js fills it."""
    return el(
        "aside",
        el("p", "Selected policy", class_="muted"),
        el("div", id="panel", aria_live="polite"),
        class_="card pick",
        aria_label="Selected policy",
    )


def policy_cards(data: ReportData, items: Sequence[Drawn]) -> Html:
    """Bars of the selected policy and its table; page.js redraws both for every selection."""
    item = items[0]
    if item.figure is None:
        return figure_card(item)
    plot = _plot(item)[0]
    tools = el(
        "div",
        el("span", id="policy-name"),
        el("label", "Width ", el("select", id="policy-cost")),
        el("button", "Copy override", data_action="override", class_="push"),
        el("button", "Download policy", data_action="download"),
        class_="tools",
    )
    layers = el(
        "div",
        el("table", id="layers"),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Layers of the selected policy",
    )
    return el("figure", tools, plot, layers, el("div", id="compared"), class_="card")


def candidates_section(data: ReportData) -> Html:
    """The accessible route to everything: filter, sort, page, download."""
    tools = el(
        "div",
        el(
            "input",
            type="search",
            id="filter",
            placeholder="Filter: id, tag, w4, strategy:hawq",
            aria_label="Filter candidates",
        ),
        el("select", id="filter-strategy", aria_label="Strategy"),
        el("label", el("input", type="checkbox", id="filter-front"), "front only"),
        el("span", id="candidate-count", role="status"),
        el("button", "Download CSV", id="csv", class_="push"),
        class_="tools",
    )
    pager = el(
        "div",
        el("button", "Previous", id="previous"),
        el("span", id="page-number"),
        el("button", "Next", id="next"),
        class_="tools",
    )
    scroll = el(
        "div",
        el("table", id="candidate-table"),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="All candidates",
    )
    question = f"{len(data.unique)} distinct policies; select one to see it above."
    card = el("div", tools, scroll, pager, class_="card")
    return section("candidates", "All candidates", question, card)


def log_cards(data: ReportData, items: Sequence[Drawn]) -> Html:
    """The timeline, then why candidates failed."""
    return join([plain_cards(data, items), failures_card(data)])


def latency_cards(data: ReportData, items: Sequence[Drawn]) -> Html:
    """The end-to-end check, then what the table was made of."""
    return join([plain_cards(data, items), kernels_card(data)])


def op_cards(data: ReportData, items: Sequence[Drawn]) -> Html:
    """A small plot per op type, then all of them as a table."""
    return join([el("div", plain_cards(data, items), class_="trio"), ops_card(data)])


def deployed_cards(data: ReportData, items: Sequence[Drawn]) -> Html:
    """The picture where files were timed, then every export."""
    drawn = [item for item in items if item.figure is not None or item.error]
    return join([plain_cards(data, drawn), exports_card(data)])


def bits_cards(data: ReportData, items: Sequence[Drawn]) -> Html:
    """Heat maps with a choice of how layers are listed."""
    tools = el(
        "div",
        el("label", "Layers ", el("select", id="bits-order")),
        class_="tools",
    )
    return join([tools, plain_cards(data, items)])


SPECIAL: dict[str, Layout] = {
    "bits": bits_cards,
    "deployed": deployed_cards,
    "latency": latency_cards,
    "log": log_cards,
    "ops": op_cards,
    "front": front_cards,
    "policy": policy_cards,
    "hypervolume": paired_cards,
    "sensitivity": paired_cards,
}


def embedded(item: Drawn, data: ReportData) -> bool:
    """Whether the page holds the plot: one front is enough, its axes are changed in the page."""
    return item.name != "front" or item.cost == data.costs[0]
