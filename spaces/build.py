"""A configured space meets a model and a device: the resolved search space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quant.activations import check_activation_format
from quant.errors import InfeasibleError, UsageError, nearest
from quant.method import Method
from spaces.choices import BASELINES, Choice
from spaces.config import Rule, SpaceConfig
from spaces.groups import tie_groups
from spaces.inventory import TracedModel
from spaces.layers import LayerSpec
from spaces.space import MAX_CHOICES, Cut, Group, SearchSpace

Supports = Callable[[LayerSpec, Choice], str | None]


def build_space(
    config: SpaceConfig,
    traced: TracedModel,
    supports: Supports | None = None,
    baselines: Sequence[Choice] = BASELINES,
) -> SearchSpace:
    """Resolves layers x choices.

    Args:
        config: declarative space.
        traced: the model's inventory.
        supports: why a device cannot take a choice (None when it can); asked only with
            ``kernels_only``.
        baselines: choices every layer can also take outside the search.

    Raises:
        UsageError: a choice no layer can take (activation format, method), a rule or tie that
            matches no layer, tied layers with no choice in common, or more than
            :data:`spaces.space.MAX_CHOICES` choices.
        InfeasibleError: a layer is left without any choice.
    """
    for where, choices in [
        ("space", config.choices),
        *((r.where, r.choices) for r in config.rules),
    ]:
        _check_choices(choices, where)
    _check_rules(config.rules, traced.layers)
    cuts: list[Cut] = []
    offered = {
        layer.name: _offered(config, layer, len(traced.layers), supports, cuts)
        for layer in traced.layers
    }
    groups = []
    for members in tie_groups(traced, config.ties, config.auto_ties):
        choices = _common(members, offered, cuts)
        extra = tuple(choice for choice in baselines if choice not in choices)
        _check_count(members[0], len(choices) + len(extra))
        groups.append(Group(members[0], members, choices, extra))
    return SearchSpace(config.name, traced.layers, tuple(groups), traced.skipped, tuple(cuts))


def _check_choices(choices: Sequence[Choice], where: str) -> None:
    """Finds before any time is spent what a quantizer would refuse."""
    for choice in choices:
        try:
            check_activation_format(choice.activation)
        except UsageError as cause:
            raise UsageError(
                cause.what, where=where, expected=cause.expected, fix=cause.fix
            ) from cause
        if choice.method:
            _check_method(choice, where)


def _check_method(choice: Choice, where: str) -> None:
    try:
        Method().recipe(choice.method)
    except UsageError as cause:
        place = f"{where}, choice {choice}"
        raise UsageError(
            cause.what, where=place, expected=cause.expected, fix=cause.fix
        ) from cause


def _check_count(group: str, count: int) -> None:
    if count > MAX_CHOICES:
        raise UsageError(
            f"layer '{group}' has {count} choices",
            where="space",
            expected=f"at most {MAX_CHOICES}, float32 and 8 bit included",
            fix="offer fewer formats, or give rules their own choices",
        )


def _check_rules(rules: Sequence[Rule], layers: Sequence[LayerSpec]) -> None:
    names = [layer.name for layer in layers]
    for rule in rules:
        if rule.name and not any(rule.matches(layer, len(layers)) for layer in layers):
            raise UsageError(
                f"rule name '{rule.name}' matches no layer",
                where=rule.where,
                expected="a regular expression found in a layer name",
                fix=nearest(rule.name, names) or f"layers are for example {', '.join(names[:3])}",
            )


def _offered(
    config: SpaceConfig,
    layer: LayerSpec,
    count: int,
    supports: Supports | None,
    cuts: list[Cut],
) -> tuple[Choice, ...]:
    """Choices of one layer after rules and the device."""
    choices = config.choices
    for rule in config.rules:
        if rule.matches(layer, count):
            choices = rule.choices
    if not config.kernels_only or supports is None:
        return choices
    kept = []
    for choice in choices:
        reason = supports(layer, choice)
        if reason is None:
            kept.append(choice)
        else:
            cuts.append(Cut(layer.name, choice.text, reason))
    if not kept:
        lost = [cut for cut in cuts if cut.layer == layer.name]
        raise InfeasibleError(
            f"layer '{layer.name}' has no choice left",
            where=f"space '{config.name}'",
            expected="at least one choice the device has a kernel for",
            fix=f"{lost[0].choice}: {lost[0].reason}; offer another format or kernels_only: false",
        )
    return tuple(kept)


def _common(
    members: Sequence[str], offered: dict[str, tuple[Choice, ...]], cuts: list[Cut]
) -> tuple[Choice, ...]:
    """Choices every member of a group can take, in the first member's order."""
    first = offered[members[0]]
    common = tuple(c for c in first if all(c in offered[name] for name in members))
    if not common:
        listed = "; ".join(
            f"{name}: {', '.join(choice.label for choice in offered[name])}" for name in members
        )
        raise UsageError(
            f"tied layers have no choice in common: {listed}",
            where=f"group '{members[0]}'",
            fix="give them a common choice, or untie them",
        )
    for name in members:
        cuts += [
            Cut(name, choice.text, f"tied layer '{members[0]}' or a fellow cannot take it")
            for choice in offered[name]
            if choice not in common
        ]
    return common
