"""Running only what a changed layer reaches: prefix caching over a traced model.

The float values of all nodes are computed once per batch; when one group of layers changes, only
the nodes downstream of it run again. On a chain that halves the work of trying every layer alone
(METHODS: exhaustive search by a tree walk shares prefixes the same way).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, fx, nn


class _Tracer(fx.Tracer):
    """Keeps attached layers (and every module with hooks of its own) whole."""

    def __init__(self, leaves: frozenset[str]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self._leaves or super().is_leaf_module(
            m, module_qualified_name
        )


@dataclass(frozen=True)
class Replay:
    """A model whose groups of layers can be re-run from where they stand.

    Attributes:
        module: the traced model, sharing its layers with the original.
        layers: names of the layers, as attached.
    """

    module: fx.GraphModule
    layers: tuple[str, ...]

    @staticmethod
    def of(model: nn.Module, layers: Sequence[str]) -> Replay | None:
        """Traces ``model``; None when that is impossible (the caller runs it whole)."""
        try:
            tracer = _Tracer(frozenset(layers))
            graph = tracer.trace(model)
            module = fx.GraphModule(tracer.root, graph)
        except Exception:  # a model may raise anything when fx runs it on proxies
            return None
        called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
        return Replay(module, tuple(layers)) if called.issuperset(layers) else None

    def downstream(self, group: Sequence[str]) -> tuple[fx.Node, ...]:
        """Nodes that may change when the layers of ``group`` do, in execution order."""
        reached: set[fx.Node] = set()
        for node in self.module.graph.nodes:
            starts = node.op == "call_module" and node.target in group
            if starts or not reached.isdisjoint(node.all_input_nodes):
                reached.add(node)
        return tuple(node for node in self.module.graph.nodes if node in reached)

    def run(self, batch: Tensor) -> Values | None:
        """All node values of one batch as the model stands; None when an op works in place."""
        values = Values(self.module)
        versions: dict[fx.Node, int] = {}
        for node in self.module.graph.nodes:
            found = values.compute(node, batch)
            if isinstance(found, Tensor):
                versions[node] = found._version
        kept = ((values.of[node], version) for node, version in versions.items())
        return values if all(value._version == version for value, version in kept) else None

    def macs(self, values: Values) -> dict[str, int]:
        """Multiply-accumulates of each layer in the batch of ``values``."""
        found: dict[str, int] = {}
        for node in self.module.graph.nodes:
            if node.op == "call_module" and node.target in self.layers:
                name = str(node.target)
                weight = self.module.get_submodule(name).weight
                assert isinstance(weight, Tensor)
                output = values.of[node]
                found[name] = found.get(name, 0) + output.numel() * (weight[0].numel())
        return found


class Values:
    """Values of a graph's nodes for one batch."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._interpreter = fx.Interpreter(module, garbage_collect_values=False)
        self.of: dict[fx.Node, Any] = {}

    def compute(self, node: fx.Node, batch: Tensor) -> Any:
        """Runs one node on the values there are and keeps the result."""
        self.of[node] = batch if node.op == "placeholder" else self._run(node, self.of)
        return self.of[node]

    def replayed(self, nodes: tuple[fx.Node, ...]) -> Tensor:
        """The model's output after running ``nodes`` again; the kept values stay."""
        changed = _Overlay(self.of)
        # Freed at once, as in an ordinary pass: held until the end, tensors leave the cache.
        for node, done in zip(nodes, last_uses(nodes), strict=True):
            changed.new[node] = self._run(node, changed)
            for old in done:
                del changed.new[old]
        result: Tensor = changed.new[nodes[-1]]
        return result

    def _run(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        def look_up(item: fx.Node) -> Any:
            return values[item]

        args = fx.node.map_arg(node.args, look_up)
        kwargs = fx.node.map_arg(node.kwargs, look_up)
        assert isinstance(args, tuple)
        assert isinstance(kwargs, dict)
        if node.op == "output":
            return args[0]
        return getattr(self._interpreter, node.op)(node.target, args, kwargs)


@lru_cache(maxsize=256)
def last_uses(nodes: tuple[fx.Node, ...]) -> tuple[tuple[fx.Node, ...], ...]:
    """For each of ``nodes``, those of them that no later one reads."""
    last = {read: place for place, node in enumerate(nodes) for read in node.all_input_nodes}
    own = set(nodes)
    return tuple(
        tuple(read for read in node.all_input_nodes if read in own and last[read] == place)
        for place, node in enumerate(nodes)
    )


class _Overlay(Mapping[fx.Node, Any]):
    """New values before old ones."""

    def __init__(self, old: Mapping[fx.Node, Any]) -> None:
        self.old, self.new = old, dict[fx.Node, Any]()

    def __getitem__(self, node: fx.Node) -> Any:
        return self.new[node] if node in self.new else self.old[node]

    def __iter__(self) -> Iterator[fx.Node]:
        return iter(self.old)

    def __len__(self) -> int:
        return len(self.old)


@torch.no_grad()
def traced_runs(
    model: nn.Module, layers: Sequence[str], batches: Sequence[Tensor]
) -> tuple[Replay, list[Values]] | None:
    """The model's trace and the values of every batch; None when it cannot be replayed."""
    replay = Replay.of(model, layers)
    if replay is None:
        return None
    values = [replay.run(batch) for batch in batches]
    whole = [value for value in values if value is not None]
    return (replay, whole) if len(whole) == len(values) else None
