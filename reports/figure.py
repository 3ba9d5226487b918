"""What a figure is, and what becomes of one on a page.

A report calls, in this order: ``applicable`` (None, or the reason why the figure has nothing to
show), ``prepare`` (all logic, plain frozen data, tested without a browser), then ``plot``
(no logic), ``alt`` (one sentence for people who do not see the plot) and ``table`` (the numbers
behind it). A figure that raises becomes an error card; it never takes the page down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from search.pareto import Floats

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

I = TypeVar("I")  # noqa: E741 - info


@dataclass(frozen=True)
class Table:
    """Rows behind a figure; cells are written already.

    Attributes:
        columns: headings with units.
        rows: one tuple per row, as long as ``columns``.
        note: what was left out, if anything.
        snippet: text worth copying, for example rules for a configuration file.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    snippet: str = ""


class Figure(Protocol[I]):
    """One figure of one kind; in practice a frozen dataclass."""

    @property
    def name(self) -> str:
        """Slug; with the cost it is unique on a page and becomes the element's id."""
        ...

    @property
    def title(self) -> str:
        """Heading; variants of one figure share it."""
        ...

    @property
    def question(self) -> str:
        """What a reader asks of it."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    @property
    def cost(self) -> str:
        """Metric this variant belongs to, empty when it belongs to none."""
        ...

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there is nothing to show."""
        ...

    def prepare(self, data: ReportData) -> I:
        """Everything the plot needs, as frozen data."""
        ...

    def plot(self, info: I) -> go.Figure:
        """Draws ``info`` without further thought."""
        ...

    def alt(self, info: I) -> str:
        """One sentence that carries the message of the plot."""
        ...

    def table(self, info: I) -> Table:
        """The numbers behind the plot."""
        ...


@dataclass(frozen=True)
class Drawn:
    """A figure ready for a page.

    Attributes:
        name, title, question, height, cost: of the figure.
        figure: the plotly figure as plain data, None when there is none.
        alt: sentence for screen readers.
        table: numbers behind it, None when there are none.
        missing: why it does not apply, empty when it does.
        error: what went wrong, empty when nothing did.
    """

    name: str
    title: str
    question: str
    height: int
    cost: str = ""
    figure: Any = None
    alt: str = ""
    table: Table | None = None
    missing: str = ""
    error: str = field(default="")


def draw(figure: Figure[Any], data: ReportData) -> Drawn:
    """Runs a figure; a failure is caught and told on its card."""
    head = (figure.name, figure.title, figure.question)
    frame: dict[str, Any] = {"height": figure.height, "cost": figure.cost}
    try:
        reason = figure.applicable(data)
        if reason:
            return Drawn(*head, **frame, missing=reason)
        info = figure.prepare(data)
        plotted = figure.plot(info)
        return Drawn(
            *head, **frame, figure=plotted, alt=figure.alt(info), table=figure.table(info)
        )
    except Exception as cause:
        return Drawn(*head, **frame, error=f"{type(cause).__name__}: {cause}")


def compact(values: Floats) -> npt.NDArray[np.float32]:
    """Single precision, for smooth curves: half the weight, no visible difference."""
    return values.astype(np.float32)


def blank(height: int, **layout: Any) -> go.Figure:
    """An empty plotly figure without a template of its own; the page brings one."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": None, "height": height})
    figure.update_layout(**layout)
    return figure
