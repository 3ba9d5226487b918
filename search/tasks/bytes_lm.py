"""A byte-level language model on the sources of Python's standard library.

The text is on every machine that runs bitfront; its hash is part of the task's data hash, so runs
under different Python releases are never mixed. Files are dealt to training, calibration,
search-validation and test, so that no window of one split stems from a file of another. A sample
is a window of bytes and the byte that follows; bits per byte are cross-entropy / ln 2.

On a device the model is used one byte at a time with cached keys and values, which is where
weights below 8 bit pay: latency is measured on that decode step.

Its weights do not come with the package: 2.5 million of them are 5.0 MB in bfloat16, more than
all other data of the package together, and the text they must be kept apart from is that of the
Python at hand. A file that another release adds or drops moves others between the splits, and
weights trained elsewhere would have seen what is tested here.
"""

from __future__ import annotations

import hashlib
import math
import sysconfig
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.tasks.base import Deployed, Split, Task, make_task
from search.tasks.training import Origin, Progress, Recipe, silent, trained

BYTES = 256
SPLIT_FILES = {"calibration": 8, "search": 16, "test": 24}
SAMPLES = {"calibration": 200, "search": 400, "test": 600}
LEAST_FILE_BYTES = 2_000


class Attention(nn.Module):
    """Causal self-attention with separate query, key and value layers.

    Args:
        width: features per byte.
        heads: divides ``width``.
        context: longest window.
        cached: positions whose keys and values are kept from earlier steps; 0 for windows.
    """

    def __init__(self, width: int, heads: int, context: int, cached: int = 0) -> None:
        super().__init__()
        self.heads, self.size, self.cached = heads, width // heads, cached
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        future = torch.full((context, context), -torch.inf).triu(1)
        self.register_buffer("future", future[:1] if cached else future, persistent=False)
        for name in ("past_key", "past_value"):
            past = torch.zeros(1, heads, cached, self.size)
            self.register_buffer(name, past, persistent=False)

    future: Tensor
    past_key: Tensor
    past_value: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """``[n, bytes, width] -> [n, bytes, width]``."""
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        if self.cached:
            key = torch.cat([self.past_key, key], dim=2)
            value = torch.cat([self.past_value, value], dim=2)
            weights = query @ key.transpose(2, 3) / math.sqrt(self.size)
        else:
            weights = query @ key.transpose(2, 3) / math.sqrt(self.size) + self.future
        mixed = torch.softmax(weights, dim=-1) @ value
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = torch.unflatten(x, 2, (self.heads, self.size)).transpose(1, 2)
        return heads


class Block(nn.Module):
    """Attention and a two-layer perceptron, normalised before each."""

    def __init__(self, width: int, heads: int, context: int, cached: int = 0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, context, cached)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """``[n, bytes, width] -> [n, bytes, width]``."""
        x = x + self.attention(self.norm1(x))
        result: Tensor = x + self.down(self.act(self.up(self.norm2(x))))
        return result


class ByteTransformer(nn.Module):
    """A decoder over bytes.

    Args:
        width: features per byte.
        depth: number of blocks.
        heads: attention heads; divides ``width``.
        context: bytes per window.
        cached: 0 computes whole windows; ``context - 1`` computes the last byte of one from
            cached keys and values, with the same layers and weights.
    """

    def __init__(
        self, width: int = 256, depth: int = 3, heads: int = 4, context: int = 32, cached: int = 0
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(BYTES, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, context, width))
        self.cached = cached
        blocks = (Block(width, heads, context, cached) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, BYTES)

    def hidden(self, codes: Tensor) -> Tensor:
        """``int64 [n, bytes] -> [n, bytes, width]``."""
        place = self.position[:, self.cached :]
        result: Tensor = self.norm(self.blocks(self.embed(codes) + place))
        return result

    def forward(self, codes: Tensor) -> Tensor:
        """Logits of the next byte, ``int64 [n, bytes] -> [n, 256]``."""
        logits: Tensor = self.head(self.hidden(codes)[:, -1])
        return logits


def bytes_lm(
    name: str = "bytes_lm",
    width: int = 256,
    depth: int = 3,
    context: int = 32,
    epochs: int = 10,
    windows: int = 6000,
    batch_size: int = 50,
    train: bool = False,
    progress: Progress = silent,
) -> Task:
    """The task; its latency is that of one decode step.

    Args:
        name: name of the task.
        width: features per byte, a multiple of 4.
        depth: blocks of six linear layers.
        context: bytes per window.
        epochs: passes over the training windows.
        windows: training windows.
        batch_size: windows per forward pass.
        train: as for the other tasks; no weights come with the package, so nothing changes.
        progress: called as ``progress(done, total, message)`` while training.

    Raises:
        DataError: the standard library's sources are not on this machine.
    """
    texts = standard_library()
    training = _training_windows(texts["train"], windows, context)
    recipe = Recipe(epochs, batch=64, rate=2e-3, weight_decay=0.01, optimiser="adamw", shift=0)
    build = partial(ByteTransformer, width=width, depth=depth, context=context)
    settings = {"width": width, "depth": depth, "context": context, "windows": windows}
    origin = Origin("bytes_lm", settings, recipe)
    model = trained(name, build, training, origin, progress, anew=train, loss=_every_position)
    step = build(cached=context - 1)
    step.load_state_dict(model.state_dict())
    taken: set[bytes] = set()
    splits = {which: _samples(texts[which], SAMPLES[which], context, taken) for which in SAMPLES}
    title = f"bytes of Python's standard library, context {context}; {depth} blocks of {width}"
    return make_task(
        name,
        title,
        model,
        splits,
        classes=BYTES,
        metric="bits_per_byte",
        batch_size=batch_size,
        deployed=Deployed(step.eval().requires_grad_(False), splits["search"].inputs[:1, -1:]),
    )


def standard_library() -> dict[str, list[bytes]]:
    """Source files by split, dealt by the hash of their names.

    Raises:
        DataError: fewer files than the splits need.
    """
    from quant.errors import DataError

    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [
        path for path in sorted(folder.glob("*.py")) if path.stat().st_size > LEAST_FILE_BYTES
    ]
    if len(files) < 2 * sum(SPLIT_FILES.values()):
        raise DataError(
            f"the standard library holds {len(files)} source files",
            where="task bytes_lm",
            expected=f"at least {2 * sum(SPLIT_FILES.values())}",
            fix="use a Python installation with its sources, or another task",
        )
    files.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
    dealt: dict[str, list[bytes]] = {}
    start = 0
    for which, count in (*SPLIT_FILES.items(), ("train", len(files))):
        dealt[which] = [path.read_bytes() for path in files[start : start + count]]
        start += count
    return dealt


def _every_position(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the next byte at every position of the windows."""
    assert isinstance(model, ByteTransformer)
    return F.cross_entropy(model.head(model.hidden(inputs)).flatten(0, 1), labels.flatten())


def _windows(texts: list[bytes], count: int, length: int) -> Tensor:
    """``uint8 [count, length]``, evenly spaced over the text; none overlap."""
    text = torch.frombuffer(bytearray(b"".join(texts)), dtype=torch.uint8)
    step = (len(text) - length) // count
    starts = torch.arange(count) * max(step, length)
    starts = starts[starts + length <= len(text)]
    return text[starts[:, None] + torch.arange(length)]


def _training_windows(texts: list[bytes], count: int, context: int) -> Split:
    """Inputs and next bytes at every position, ``int64 [count, context]`` each."""
    found = _windows(texts, count, context + 1).long()
    return Split(found[:, :-1].contiguous(), found[:, 1:].contiguous())


def _samples(texts: list[bytes], count: int, context: int, taken: set[bytes]) -> Split:
    """Distinct windows, none of them ``taken`` by another split, and the byte behind each.

    Short windows of different files are often equal (indentation, rulers of comments).
    """
    found = _windows(texts, 2 * count, context + 1).long()
    first = {bytes(window[:-1].to(torch.uint8).numpy()): row for row, window in enumerate(found)}
    fresh = [row for window, row in first.items() if window not in taken]
    kept = found[fresh[:: max(len(fresh) // count, 1)][:count]]
    taken.update(bytes(window[:-1].to(torch.uint8).numpy()) for window in kept)
    return Split(kept[:, :-1].contiguous(), kept[:, -1].contiguous())
