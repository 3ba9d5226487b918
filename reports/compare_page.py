"""The comparison page: overlaid fronts, attainment, hypervolume with intervals, differing keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import layout, numbers, theme
from reports.compare import Comparison, compare, merged, win_matrix
from reports.data import ReportData, axis_label, load_run
from reports.figure import Drawn, Figure, Table, blank, draw
from reports.figures.attainment import AttainmentFigure
from reports.figures.hypervolume import SPENT, HypervolumeFigure
from reports.fronts import cost_objective
from reports.html import Html, data_block, el, table_html
from reports.page import asset, document, library, plain_figure
from reports.sections import section
from search.files import write_text
from search.objectives import objective
from search.pareto import Floats

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class OverlaidInfo:
    """Fronts of several runs, ``(name, cost[n], quality[n])`` each."""

    cost: str
    quality: str
    x_label: str
    y_label: str
    fronts: tuple[tuple[str, Floats, Floats], ...]


@dataclass(frozen=True)
class OverlaidFigure:
    """Fronts of several runs over each other."""

    comparison: Comparison
    cost: str
    name: str = "fronts"
    title: str = "Fronts"
    question: str = "Which run offers more at each cost?"
    height: int = 500

    def applicable(self, data: ReportData) -> str | None:
        """None: runs without fronts are not compared."""
        return None

    def prepare(self, data: ReportData) -> OverlaidInfo:
        """Takes the stored front of every run."""
        parts = [(run.name, run.front_table(self.cost)) for run in self.comparison.runs]
        fronts = tuple(
            (name, rows[self.cost].to_numpy(float), rows[data.quality].to_numpy(float))
            for name, rows in parts
        )
        label = axis_label(self.cost, data.front.costs.get(self.cost))
        return OverlaidInfo(self.cost, data.quality, label, axis_label(data.quality), fronts)

    def plot(self, info: OverlaidInfo) -> go.Figure:
        """A staircase per run."""
        figure = blank(self.height, xaxis_title=info.x_label, yaxis_title=info.y_label)
        styles = theme.styles([name for name, _, _ in info.fronts])
        for name, x, y in info.fronts:
            style = styles[name]
            figure.add_scatter(
                x=x,
                y=y,
                name=numbers.plot_text(name),
                mode="lines+markers",
                line={"shape": "hv", "width": 1.75, "color": style.colour, "dash": style.dash},
                marker={"symbol": style.mark, "size": 7, "color": style.colour},
                hovertemplate=f"%{{x:.4s}}, {info.quality} %{{y:.4g}}<extra></extra>",
            )
        if not objective(info.quality).maximise:
            values = [float(value) for _, _, y in info.fronts for value in y]
            figure.update_yaxes(type="log", tickvals=theme.log_ticks(min(values), max(values)))
        if info.cost.endswith("_bytes"):
            figure.update_xaxes(tickformat="~s", ticksuffix="B")
        return figure

    def alt(self, info: OverlaidInfo) -> str:
        """Size of each front."""
        told = ", ".join(f"{name} with {len(x)} points" for name, x, _ in info.fronts)
        return f"Fronts of {info.quality} against {cost_objective(info.cost).title}: {told}."

    def table(self, info: OverlaidInfo) -> Table:
        """Every front point."""
        rows = tuple(
            (name, numbers.cost(info.cost, cost), numbers.number(float(value)))
            for name, x, y in info.fronts
            for cost, value in zip(x, y, strict=True)
        )
        return Table(("run", cost_objective(info.cost).title, info.quality), rows)


def render_comparison(paths: Sequence[Path], target: Path) -> Path:
    """Writes the comparison of several runs atomically to ``target``.

    Raises:
        DataError, UsageError: see :func:`reports.data.load_run` and
            :func:`reports.compare.compare`.
    """
    write_text(target, comparison_html(compare([load_run(path) for path in paths])))
    return target


def comparison_html(comparison: Comparison) -> str:
    """The whole page as text."""
    together = merged(comparison)
    parts: list[Html] = []
    figures: dict[str, object] = {}
    for cost in comparison.costs:
        drawn = [draw(figure, together) for figure in _figures(comparison, cost)]
        figures |= {
            layout.figure_id(d): plain_figure(d.figure) for d in drawn if d.figure is not None
        }
        parts.append(_cost_section(comparison, cost, drawn))
    names = [run.name for run in comparison.runs]
    body = [
        _top(names),
        el("main", _head(comparison), *parts, _differences(comparison)),
        data_block("figures", figures),
        data_block(
            "templates",
            {"light": theme.template(theme.LIGHT), "dark": theme.template(theme.DARK)},
        ),
        library(),
        el("script", Html(asset("plain.js"))),
    ]
    return document(f"{' vs '.join(names)} · bitfront", body)


def _figures(comparison: Comparison, cost: str) -> list[Figure[Any]]:
    curves = [HypervolumeFigure(cost, spent, f"hypervolume-{spent}") for spent in SPENT]
    return [OverlaidFigure(comparison, cost), AttainmentFigure(cost), *curves]


def _top(names: Sequence[str]) -> Html:
    return el(
        "header",
        el(
            "div",
            el("div", "bit", el("span", "front"), class_="brand grow"),
            el("div", el("b", "Comparison of "), ", ".join(names), class_="facts"),
            el("button", "◐", id="theme", class_="icon", aria_label="Light or dark"),
        ),
        class_="top",
    )


def _head(comparison: Comparison) -> Html:
    left_out = [
        el("li", f"{cost_objective(cost).title} is not compared: {why}.")
        for cost, why in comparison.left_out.items()
    ]
    rows = [
        (run.name, run.path, run.state, ", ".join(run.strategies()), len(run.table))
        for run in comparison.runs
    ]
    table = table_html(("run", "directory", "state", "strategies", "candidates"), rows, "Runs")
    return el(
        "section",
        el("h1", f"{len(comparison.runs)} runs of {_task(comparison)}"),
        el("ul", *left_out) if left_out else None,
        el("div", table, class_="card", style="margin-top:20px"),
        id="answer",
        class_="answer",
    )


def _task(comparison: Comparison) -> str:
    task = comparison.runs[0].manifest.get("task", {})
    return str(task.get("title") or task.get("name"))


def _cost_section(comparison: Comparison, cost: str, drawn: Sequence[Drawn]) -> Html:
    entrants = comparison.entrants[cost]
    rows = []
    for entrant in entrants:
        low, high = entrant.interval()
        middle = f"{sorted(entrant.finals)[len(entrant.finals) // 2]:.4f}"
        rows.append((entrant.name, len(entrant.finals), middle, f"{low:.4f} to {high:.4f}"))
    fewest = min(len(entrant.finals) for entrant in entrants)
    note = f"Seeds per strategy: {fewest}; indicative only, claims need 10." if fewest < 10 else ""
    wins = win_matrix(entrants)
    matrix = [
        (entrant.name, *("–" if i == j else f"{wins[i, j]:.2f}" for j in range(len(entrants))))
        for i, entrant in enumerate(entrants)
    ]
    body = [layout.figure_card(item) for item in drawn[:2]]
    body.append(el("div", *(layout.figure_card(item) for item in drawn[2:]), class_="pair"))
    columns = ("strategy", "seeds", "median hypervolume", "95 % bootstrap interval")
    tables = [
        el("h3", "Final hypervolume"),
        el("p", note, class_="muted") if note else None,
        _scrolled(table_html(columns, rows, f"Final hypervolume, {cost}"), f"hypervolume, {cost}"),
        el("h3", "Chance that the row beats the column"),
        _scrolled(
            table_html(("row", *(e.name for e in entrants)), matrix, "Wins"), f"wins, {cost}"
        ),
    ]
    title = cost_objective(cost).title
    name = f"cost-{cost.replace('@', '-')}"
    return section(name, title.capitalize(), "", *body, el("div", *tables, class_="card"))


def _scrolled(table: Html, name: str) -> Html:
    return el("div", table, class_="scroll", tabindex="0", role="region", aria_label=name)


def _differences(comparison: Comparison) -> Html:
    names = [run.name for run in comparison.runs]
    rows = [(key, *values) for key, values in comparison.differing.items()]
    table = table_html(("key", *names), rows, "Configuration keys that differ")
    body = _scrolled(table, "keys") if rows else el("p", "The configurations are the same.")
    return section(
        "keys", "Configuration", "Only keys that differ", el("div", body, class_="card")
    )
