"""Why candidates failed: grouped by message, with counts and one trace each."""

from __future__ import annotations

from dataclasses import dataclass

from reports.data import ReportData
from reports.html import Html, el, join, table_html
from search.failures import summary


@dataclass(frozen=True)
class Failure:
    """Candidates that failed for one reason.

    Attributes:
        message: the reason.
        count: candidates.
        trials: ``<strategy>-<seed>`` of those, without repetition.
        policy_id: the first of them.
        trace: where that one was raised, a line per frame; may be empty.
    """

    message: str
    count: int
    trials: tuple[str, ...]
    policy_id: str
    trace: str


def failures(data: ReportData) -> list[Failure]:
    """Reasons, the most frequent first."""
    rows = data.table[data.table["status"] != "ok"]
    reasons = rows["error"].fillna("").map(summary)
    found = []
    for message, part in rows.groupby(reasons, sort=False):
        first = part.iloc[0]
        trials = dict.fromkeys(
            f"{s}-{seed}" for s, seed in zip(part["strategy"], part["seed"], strict=True)
        )
        trace = str(first["error"] or "").partition("\n")[2]
        found.append(
            Failure(str(message), len(part), tuple(trials), str(first["policy_id"]), trace)
        )
    return sorted(found, key=lambda item: -item.count)


def failures_card(data: ReportData) -> Html:
    """The table of reasons, and one trace per reason to unfold."""
    found = failures(data)
    if not found:
        return el("div", "Nothing failed.", class_="card missing")
    rows = [
        (item.message, str(item.count), ", ".join(item.trials), Html(el("code", item.policy_id)))
        for item in found
    ]
    table = table_html(("reason", "candidates", "in", "first policy"), rows, "Failures by reason")
    scroll = el(
        "div", table, class_="scroll", tabindex="0", role="region", aria_label="Failures by reason"
    )
    return el("div", el("h3", "Failures by reason"), scroll, *map(_trace, found), class_="card")


def _trace(item: Failure) -> Html | None:
    if not item.trace:
        return None
    summary_line = el("summary", join(["Where: ", item.message]))
    return el("details", summary_line, el("pre", item.trace, tabindex="0"))
