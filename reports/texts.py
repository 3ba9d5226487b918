"""A run as text for scripts and pull requests: Markdown, CSV and JSON."""

from __future__ import annotations

import json
from typing import Any

from reports import numbers
from reports.answer import Answer, answers, verdict
from reports.data import ReportData
from reports.fronts import cost_objective
from reports.health import check_health
from reports.payload import cost_columns

FORMATS = ("html", "md", "csv", "json")


def as_csv(data: ReportData) -> str:
    """Every candidate of every trial, unrounded."""
    return data.table.to_csv(index=False, lineterminator="\n")


def as_json(data: ReportData) -> str:
    """Verdicts, picked points, fronts, hypervolumes and findings."""
    content = {
        "schema_version": 1,
        "study": data.name,
        "state": data.state,
        "quality": data.quality,
        "verdicts": {cost: vars(verdict(data, cost)) for cost in data.costs},
        "picks": [_pick(item) for cost in data.costs for item in answers(data, cost)],
        "fronts": {cost: list(ids) for cost, ids in data.front.fronts.items()},
        "hypervolume": data.front.hypervolume,
        "latency_error": data.latency_error(),
        "findings": [
            {"level": item.level.name, "title": item.title, "detail": item.detail}
            for item in check_health(data)
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _pick(item: Answer) -> dict[str, Any]:
    return {
        "role": item.role,
        "cost": item.cost,
        "policy_id": item.policy_id,
        "label": item.label,
        "values": {k: v for k, v in item.entry.items() if k not in ("test", "codes")},
        "test": dict(item.test) if item.test else None,
        "relative_cost": item.relative_cost,
    }


def as_markdown(data: ReportData) -> str:
    """Headline, table of picked points and baselines, findings."""
    lines = [f"# {data.name}", ""]
    for cost in data.costs:
        said = verdict(data, cost)
        lines += [f"**{said.headline}.** {said.detail}", ""]
    lines += _points(data)
    findings = [item for item in check_health(data) if item.level > 0]
    lines += ["", "## Health", ""] if findings else []
    lines += [f"- {item.level.name}: {item.title}. {item.detail}".rstrip() for item in findings]
    return "\n".join(_escaped(line) for line in lines) + "\n"


def _points(data: ReportData) -> list[str]:
    costs = [cost for cost in cost_columns(data) if cost in data.costs]
    heads = [
        "point",
        "accuracy",
        data.quality,
        *(cost_objective(c).title for c in costs),
        "policy",
    ]
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    named = [(data.front.policies[i]["tag"], i) for i in data.front.baselines]
    named += [(item.title, item.policy_id) for c in data.costs for item in answers(data, c)]
    for name, policy_id in dict.fromkeys(named):
        entry = data.front.policies[policy_id]
        shown = entry.get("test", entry)
        cells = [name, numbers.accuracy(shown), numbers.loss(shown, data.quality)]
        cells += [numbers.cost(cost, entry.get(cost)) for cost in costs]
        rows.append("| " + " | ".join([*cells, f"`{policy_id}`"]) + " |")
    return rows


def _escaped(line: str) -> str:
    return line.replace("<", "&lt;")


WRITERS = {"md": as_markdown, "csv": as_csv, "json": as_json}
