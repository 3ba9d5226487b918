"""The judge: quantizes the model by a policy and scores it on one split.

The model is calibrated once; quantized weights are cached per (layer, choice), so a candidate
costs little more than one forward pass over the split.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.errors import unknown
from quant.method import Method
from quant.model import QuantizedModel
from search.failures import told
from search.records import Result
from search.tasks.base import Split, Task
from spaces.policy import Policy
from spaces.space import SearchSpace

SPLITS = ("calibration", "search", "test")


def quality_key(task: Task, method: Method, split: str, rung: int, policy: Policy) -> str:
    """Identity of one evaluation, 24 hex digits.

    It hashes task, weights, data, split, method, rung and the policy with its layer names, and
    knows nothing of devices, so a quality outlives a new latency table.
    """
    parts = (
        task.name,
        task.weights_hash,
        task.data_hash,
        split,
        repr(method),
        str(rung),
        policy.digest,
    )
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Evaluator:
    """Scores policies of one task under one quantization method.

    Args:
        task: model and splits.
        space: layers to quantize.
        method: how ranges are calibrated.
    """

    task: Task
    space: SearchSpace
    method: Method

    @cached_property
    def quantized(self) -> QuantizedModel:
        """The calibrated model; built on first use with one pass over the calibration split."""
        names = [layer.name for layer in self.space.layers]
        batches = list(_batches(self.task.calibration.inputs, self.task.batch_size))
        own = {choice.method for group in self.space.groups for choice in group.all_choices}
        return QuantizedModel(self.task.model, names, self.method, batches, sorted(own - {""}))

    @cached_property
    def _float_logprobs(self) -> dict[str, Tensor]:
        return {}

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            UsageError: not one of :data:`SPLITS`.
        """
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        split: Split = getattr(self.task, name)
        return split

    def evaluate(
        self, policies: Sequence[Policy], split: str = "search", rung: int = 0
    ) -> list[Result]:
        """Scores each policy; a model that raises or answers NaN gives a failed result."""
        return [self.evaluate_each(policy, split, rung)[0] for policy in policies]

    def evaluate_each(
        self, policy: Policy, split: str = "search", rung: int = 0
    ) -> tuple[Result, Tensor | None]:
        """One policy's result, and its loss on every sample ``[n]`` (None when it failed)."""
        key = self.key(policy, split, rung)
        reference = self.float_logprobs(split)
        started = time.perf_counter()
        try:
            logits = self.logits(policy, split)
        except (RuntimeError, ValueError, FloatingPointError, MemoryError) as cause:
            return Result.failure(key, policy.policy_id, told(cause), _since(started)), None
        if not bool(torch.isfinite(logits).all()):
            error = "the quantized model answers NaN or infinity"
            return Result.failure(key, policy.policy_id, error, _since(started)), None
        labels = self.split(split).labels
        logprobs = F.log_softmax(logits.double(), dim=1)
        losses = F.nll_loss(logprobs, labels, reduction="none")
        kl = F.kl_div(logprobs, reference.double(), log_target=True, reduction="batchmean")
        n = len(labels)
        result = Result(
            key,
            policy.policy_id,
            ce=float(losses.mean()),
            kl=max(0.0, float(kl)),
            accuracy=float((logits.argmax(dim=1) == labels).double().mean()),
            n=n,
            standard_error=float(losses.std(unbiased=True)) / n**0.5 if n > 1 else 0.0,
            eval_s=_since(started),
        )
        return result, losses

    def key(self, policy: Policy, split: str = "search", rung: int = 0) -> str:
        """See :func:`quality_key`."""
        return quality_key(self.task, self.method, split, rung, policy)

    def float_logprobs(self, split: str) -> Tensor:
        """Log-probabilities of the float model, ``[n, classes]``; computed once a split."""
        if split not in self._float_logprobs:
            self._float_logprobs[split] = F.log_softmax(self.float_pass(split), dim=1)
        return self._float_logprobs[split]

    def float_pass(self, split: str) -> Tensor:
        """Logits of the float model over a split, computed anew."""
        self.quantized.float_()
        return self._logits(split)

    def logits(self, policy: Policy, split: str) -> Tensor:
        """Logits ``[n, classes]`` of the model quantized by ``policy``."""
        self.quantized.apply({name: policy[name] for name in policy})
        return self._logits(split)

    def _logits(self, split: str) -> Tensor:
        inputs = self.split(split).inputs
        with torch.no_grad():
            parts = [self.quantized(batch) for batch in _batches(inputs, self.task.batch_size)]
        return torch.cat(parts)


def _since(started: float) -> float:
    return time.perf_counter() - started


def _batches(inputs: Tensor, size: int) -> Iterator[Tensor]:
    yield from torch.split(inputs, size)
