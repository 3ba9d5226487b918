"""``_target_`` names in configuration to Python callables, under allowed prefixes only.

A configuration file can name code. To keep that from being any code, targets must lie in this
project's packages or under a prefix the user listed in ``plugins``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quant.errors import UsageError, nearest

OWN_PREFIXES = ("quant", "spaces", "hw_profiles", "search", "reports")


def resolve(target: str, plugins: Sequence[str] = (), *, where: str = "") -> Callable[..., Any]:
    """Imports ``package.module.name``.

    Raises:
        UsageError: the prefix is not allowed, or the module or name does not exist.
    """
    allowed = (*OWN_PREFIXES, *plugins)
    if not any(target.startswith(f"{prefix}.") for prefix in allowed):
        raise UsageError(
            f"target '{target}' is outside the allowed packages",
            where=where,
            expected=f"a name under {', '.join(allowed)}",
            fix=f"add '{target.split('.')[0]}' to plugins if you trust it",
        )
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as cause:
        raise UsageError(
            f"target '{target}': {cause}", where=where, fix="check the module's spelling"
        ) from cause
    found = getattr(module, name, None)
    if not callable(found):
        raise UsageError(
            f"target '{target}': module '{module_name}' has no callable '{name}'",
            where=where,
            fix=nearest(name, dir(module)),
        )
    result: Callable[..., Any] = found
    return result


def build(
    config: Mapping[str, Any], plugins: Sequence[str] = (), *, where: str = "", **extra: Any
) -> Any:
    """Calls ``config["_target_"]`` with the other keys as arguments.

    Args:
        config: ``{"_target_": name, argument: value, ...}``.
        plugins: further allowed prefixes.
        where: configuration path for messages.
        extra: arguments added by the caller; not part of the configuration.

    Raises:
        UsageError: no target, or a key that is not one of its arguments (nearest match given).
    """
    options = dict(config)
    target = options.pop("_target_", None)
    if not isinstance(target, str):
        raise UsageError(f"{where} has no _target_", where=where, fix="add _target_: package.name")
    call = resolve(target, plugins, where=where)
    known = [name for name in inspect.signature(call).parameters if name not in extra]
    for key in options:
        if key not in known:
            raise UsageError(
                f"unknown key '{key}' in {where}",
                where=f"{where}.{key}",
                expected=f"one of: {', '.join(sorted(known))}" if known else "no further keys",
                fix=nearest(key, known) or "remove it",
            )
    return call(**options, **extra)
