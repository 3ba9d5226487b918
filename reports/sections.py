"""The parts of the page in reading order, as HTML; numbers come in written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports import numbers, theme
from reports.answer import (
    Answer,
    Difference,
    Verdict,
    answers,
    latency_error_text,
    measured_latency,
    verdict,
)
from reports.data import ReportData
from reports.exports import measured_claims
from reports.fronts import cost_objective
from reports.health import Finding, Level, check_health
from reports.html import Html, el, join, table_html
from search.objectives import objective

COST_WORDS = {
    "size_bytes": "Size",
    "latency_ms": "Latency",
    "bops": "Bit operations",
    "energy_mj": "Energy",
    "peak_bytes": "Peak activation memory",
}


def header(data: ReportData) -> Html:
    """The sticky line: what this is a report of, and the page's own switches."""
    manifest = data.manifest
    task, device = manifest.get("task", {}), manifest.get("device", {})
    failed = int((data.table["status"] != "ok").sum())
    facts = [
        task.get("title") or task.get("name"),
        device.get("name"),
        f"{len(data.table)} candidates" + (f" ({failed} failed)" if failed else ""),
        str(manifest.get("ended") or manifest.get("started") or "")[:10],
    ]
    line = join((str(fact) for fact in facts if fact), " · ")
    return el(
        "header",
        el(
            "div",
            el("div", "bit", el("span", "front"), class_="brand grow"),
            el("div", el("b", data.name), " · ", line, class_="facts"),
            el("button", "Reproduce", id="reproduce", title="Copy the command of this run"),
            el("button", "◐", id="theme", class_="icon", aria_label="Light or dark"),
            el("button", "?", id="help", class_="icon", aria_label="Keyboard help"),
        ),
        class_="top",
    )


def answer_section(data: ReportData) -> Html:
    """Three picked points per cost, and one sentence on what they mean."""
    verdicts = [verdict(data, cost) for cost in data.costs]
    lead = [_lead(item, index == 0) for index, item in enumerate(verdicts)]
    cards = [_cards(data, cost, index == 0) for index, cost in enumerate(data.costs)]
    return el(
        "section",
        el("p", _kicker(data), class_="kicker"),
        *lead,
        *(el("p", claim, class_="muted") for claim in measured_claims(data)[:MOST_CLAIMS]),
        cost_switch(data.costs),
        *cards,
        class_="answer",
        id="answer",
    )


MOST_CLAIMS = 1


def cost_switch(costs: Sequence[str]) -> Html | None:
    """Buttons that choose which cost the whole page talks about; None for a single cost."""
    if len(costs) < 2:
        return None
    buttons = (
        el(
            "button",
            cost_word(cost),
            data_choose=cost,
            aria_pressed="true" if index == 0 else "false",
        )
        for index, cost in enumerate(costs)
    )
    return el("div", *buttons, class_="segmented", role="group", aria_label="Cost")


def cost_word(cost: str) -> str:
    """Short word for a cost: ``Size``, ``Latency on board``."""
    name, _, device = cost.partition("@")
    word = COST_WORDS.get(name, cost_objective(name).title.capitalize())
    return f"{word} on {device}" if device else word


def _kicker(data: ReportData) -> str:
    split = (
        "test split" if any("test" in p for p in data.front.policies.values()) else "validation"
    )
    count = len(data.manifest.get("seeds", ())) or 1
    strategies = ", ".join(data.strategies()) or "baselines only"
    seeds = f"{count} seed{'s' if count != 1 else ''}"
    return (
        f"{strategies} · {seeds} · values on the {split} with 95 % intervals; int8 is uniform w8a8"
    )


def _lead(item: Verdict, first: bool) -> Html:
    return el(
        "div",
        el("h1" if first else "p", item.headline, class_="headline"),
        el("p", item.detail, class_="detail"),
        class_=f"lead variant{' active' if first else ''}",
        data_cost=item.cost,
    )


def _cards(data: ReportData, cost: str, first: bool) -> Html:
    found = answers(data, cost)
    body = [_card(data, item) for item in found]
    if not body:
        body = [el("div", "No point could be picked yet.", class_="card missing")]
    roles = {item.role for item in found}
    if found and "smallest" not in roles:
        body.append(
            el(
                "div",
                "No front point is within the accuracy tolerance of the float model.",
                class_="card missing",
            )
        )
    return el("div", *body, class_=f"cards variant{' active' if first else ''}", data_cost=cost)


def _card(data: ReportData, item: Answer) -> Html:
    return el(
        "article",
        el("div", item.title, class_="role"),
        el("div", item.label, el("code", item.policy_id), class_="name"),
        bit_strip(data, item.codes),
        el("dl", *_values(data, item), class_="values"),
        el(
            "div",
            el("button", "Copy export command", class_="main", data_export=item.policy_id),
            el("button", "Select", data_select=item.policy_id),
            class_="actions",
        ),
        class_=f"card pick {item.role}",
    )


def _values(data: ReportData, item: Answer) -> Iterable[Html]:
    shown = item.shown
    yield from _pair("Accuracy", numbers.accuracy(shown), _versus_points(item.accuracy))
    if data.quality != "accuracy":
        title = objective(data.quality).title
        yield from _pair(
            title[:1].upper() + title[1:],
            numbers.loss(shown, data.quality),
            _versus_loss(item.loss),
        )
    for cost in data.costs:
        base = data.front.policies.get(data.front.int8_id or "", {}).get(cost)
        value = item.entry.get(cost)
        note = f"{numbers.change(value, base)} vs int8" if base and value else ""
        if cost.startswith("latency_ms"):
            note = join([note, _latency_note(data, item.policy_id, cost)], ", ") if note else note
        word = cost_word(cost)
        if cost.startswith("latency_ms"):
            word += ", predicted"
        yield from _pair(word, numbers.cost(cost, value), note)


def _latency_note(data: ReportData, policy_id: str, cost: str) -> str:
    if "@" in cost:  # the check was run on the main device only
        return "error unchecked"
    measured = measured_latency(data, policy_id)
    if measured is not None:
        return f"measured {numbers.number(measured)} ms"
    error = data.latency_error()
    return "error unchecked" if error is None else f"table error {100 * error:.1f} %"


def _pair(name: str, value: str, note: str) -> tuple[Html, Html]:
    return el("dt", name), join([el("dd", value), el("dd", note, class_="note") if note else None])


def _versus_points(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return f"{numbers.points(difference.value)} vs int8, {_noise(difference)}"


def _versus_loss(difference: Difference | None) -> str:
    if difference is None:
        return ""
    half = (difference.high - difference.low) / 2
    digits = numbers.decimals(half) if half > 0 else 3
    text = numbers.signed(round(difference.value, digits), f"{abs(difference.value):.{digits}f}")
    return f"{text} vs int8, {_noise(difference)}"


def _noise(difference: Difference) -> str:
    if difference.within_noise:
        return "within noise"
    return "better" if difference.improved else "worse"


def bit_strip(data: ReportData, codes: str) -> Html:
    """A bar per layer, height and colour by weight bits; decoration, the table has the numbers."""
    taken = data.codes(codes)
    bits = [
        data.space.groups[g].all_choices[taken[g]].weight.bits
        for g in (data.space.group_of[layer.name] for layer in data.space.layers)
    ]
    bars = (
        el(
            "rect",
            x=index,
            y=8 - min(width, 8),
            width=0.86,
            height=min(width, 8),
            fill=theme.bits_colour(width),
        )
        for index, width in enumerate(bits)
    )
    shape = el(
        "svg",
        *bars,
        viewBox=f"0 0 {len(bits)} 8",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"weight bits per layer: {' '.join(str(width) for width in bits)}",
    )
    return el("div", shape, class_="strip")


def health_section(data: ReportData) -> Html:
    """Findings, the serious ones first; passed checks are folded away."""
    found = check_health(data)
    open_ones = [item for item in found if item.level > Level.PASS]
    passed = [item for item in found if item.level == Level.PASS]
    worst = max((item.level for item in found), default=Level.PASS)
    body = [el("ul", *map(_finding, open_ones))] if open_ones else []
    if passed:
        summary = el("summary", f"{len(passed)} checks passed")
        body.append(el("details", summary, el("ul", *map(_finding, passed))))
    words = {Level.PASS: "Nothing to worry about", Level.INFO: "Good to know before reading on"}
    title = words.get(worst, "Read this before trusting the numbers")
    return section("health", "Health", title, el("div", *body, class_="card health"))


def _finding(item: Finding) -> Html:
    name = item.level.name
    text = el("b", item.title) if item.level >= Level.WARN else item.title
    detail = el("span", f" {item.detail}", class_="muted") if item.detail else None
    return el("li", el("span", name, class_=f"tag {name.lower()}"), el("p", text, detail))


def section(name: str, title: str, question: str, *body: object) -> Html:
    """A titled part of the page."""
    head = el("div", el("h2", title), el("p", question) if question else None, class_="head")
    return el("section", head, *body, id=name)


def provenance_section(data: ReportData) -> Html:
    """What ran, on what, with which versions; how each number is computed."""
    manifest = data.manifest
    rows = [
        (name, _flat(value)) for name, value in manifest.items() if value not in (None, {}, [])
    ]
    rows.insert(0, ("state", data.state))
    costs = [
        (cost_objective(name).title, info.kind, info.detail)
        for name, info in data.front.costs.items()
    ]
    how = el("ul", *(el("li", text) for text in computed_how(data)))
    return section(
        "provenance",
        "Provenance",
        "What exactly ran, and how is each number computed?",
        el("div", el("h3", "How the numbers are computed"), how, class_="card"),
        el(
            "div",
            el("h3", "Costs"),
            table_html(("cost", "origin", "detail"), costs, "Origin of each cost"),
            el(
                "details",
                el("summary", "Manifest"),
                table_html(("field", "value"), rows, "Manifest"),
            ),
            el("details", el("summary", "Configuration"), el("pre", data.config or "not stored")),
            class_="card",
        ),
    )


def computed_how(data: ReportData) -> list[str]:
    """Formulae and interval methods in sentences."""
    return [
        "Accuracy intervals: Wilson score, 95 %. Differences of accuracies: Newcombe (1998), "
        "method 10, treating the two as independent: a claimed difference is on the safe side, "
        "'within noise' is lenient, so the largest loss it leaves open is printed.",
        "Cross-entropy intervals: 1.96 standard errors over samples; differences add both errors.",
        "Fronts are computed on search-validation; the test split is read once, for fronts, "
        "baselines and picks.",
        "Knee: the front point farthest below the chord between its ends, both axes normalised to "
        "the front, among points that lose less than guessing.",
        "Hypervolume: area dominated under the stored reference point, as a share of the box "
        "between ideal and reference; the same box for every strategy.",
        f"Latency: {latency_error_text(data)}.",
        "Mean bits: weights by weight count, activations by multiply-accumulates.",
        "A loss axis spanning more than a factor of four is logarithmic; no axis is forced to "
        "start at zero.",
    ]


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(item) for item in value)
    return str(value)


def key_help() -> Html:
    """The dialog that lists the keys of the page."""
    keys = (
        ("← →", "along the front"),
        ("c", "copy the export command"),
        ("t", "light or dark"),
        ("?", "this list"),
        ("Enter", "select the focused candidate"),
    )
    listed = [part for key, does in keys for part in (el("dt", el("kbd", key)), el("dd", does))]
    form = el("form", el("button", "Close"), method="dialog")
    return el("dialog", el("h2", "Keys"), el("dl", *listed), form, id="keys", aria_label="Keys")
