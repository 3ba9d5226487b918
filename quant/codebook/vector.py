"""Vector quantization: one code for several neighbouring weights of an output channel.

``vq``: k-means on sub-vectors of ``d`` weights, one codebook per tensor (Gong et al., arXiv
1412.6115). ``pq``: product quantization, a codebook for every place of a sub-vector in its
channel (Wu et al., arXiv 1512.06473). ``rpq``: product quantization in two stages, the second
one on what the first leaves (Gong et al., section 3.4). A code of ``b d`` bits serves ``d``
weights; codebooks are stored in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quant.formats import Format
from quant.slices import SliceLayout

_ROUNDS = 25
_CHUNK = 1 << 22  # distances held at a time


@dataclass(frozen=True)
class VectorQuantizer:
    """Rounds a weight to sums of code words.

    Attributes:
        layout: view of the weight as one row per output channel.
        fmt: the format.
        codebooks: one ``[M, words, dim]`` per stage, ``M`` codebooks each.
    """

    layout: SliceLayout
    fmt: Format
    codebooks: tuple[Tensor, ...]

    def __call__(self, weight: Tensor) -> Tensor:
        """Nearest code words in the weight's shape; the gradient passes straight through."""
        rounded = self.decode(self.codes(weight.detach()))
        return weight + (rounded - weight).detach() if weight.requires_grad else rounded

    def codes(self, weight: Tensor) -> Tensor:
        """Numbers of the code words, ``[stages, M, vectors]``, int64."""
        rest, found = vectors(weight, self.layout, self.fmt), []
        for book in self.codebooks:
            places = nearest_word(rest, book)
            rest = rest - _words(book, places)
            found.append(places)
        return torch.stack(found)

    def decode(self, codes: Tensor) -> Tensor:
        """The weight that ``codes`` stand for."""
        pairs = zip(self.codebooks, codes, strict=True)
        total = torch.stack([_words(book, places) for book, places in pairs]).sum(0)
        return weight_of(total, self.layout, self.fmt)


def vector_quantizer(
    weight: Tensor, layout: SliceLayout, fmt: Format, importance: Tensor | None = None
) -> VectorQuantizer:
    """Fits the codebooks of a vector format to a finite weight, stage by stage.

    Args:
        weight: any supported weight.
        layout: its layout; the granularity is not read.
        fmt: a format with ``fmt.is_vector``.
        importance: weight of every element's error, not negative, in the weight's shape.
    """
    rows = layout.by_channel()
    ones = torch.ones_like(weight) if importance is None else importance
    # A vector counts by its mean importance; padding counts nothing.
    counts = vectors(ones, rows, fmt).mean(2)
    rest, books = vectors(weight, rows, fmt), []
    for _ in range(fmt.stages):
        book = kmeans_vectors(rest, counts, fmt.words)
        rest = rest - _words(book, nearest_word(rest, book))
        books.append(book)
    return VectorQuantizer(rows, fmt, tuple(books))


def vectors(weight: Tensor, layout: SliceLayout, fmt: Format) -> Tensor:
    """``[M, vectors, dim]``: all vectors for one codebook, or those of each place apart."""
    rows = layout.slice(weight)
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % fmt.dim))
    parts = padded.reshape(len(rows), padded.shape[1] // fmt.dim, fmt.dim)
    return parts.flatten(0, 1)[None] if fmt.kind == "vq" else parts.transpose(0, 1)


def weight_of(parts: Tensor, layout: SliceLayout, fmt: Format) -> Tensor:
    """The inverse of :func:`vectors`, padding dropped."""
    if fmt.kind != "vq":
        parts = parts.transpose(0, 1)
    width = -(-layout.inputs // fmt.dim) * fmt.dim
    rows = parts.reshape(layout.channels, width)[:, : layout.inputs]
    return layout.unslice(rows)


def kmeans_vectors(points: Tensor, weights: Tensor, count: int, rounds: int = _ROUNDS) -> Tensor:
    """Code words ``[M, count, dim]`` that locally minimise the weighted squared error.

    Lloyd's algorithm, started at evenly spaced points in the order of their sums, so that it is
    deterministic. The error never grows from round to round; a word without points stays.

    Args:
        points: ``[M, n, dim]``.
        weights: ``[M, n]``, not negative.
        count: words per codebook.
        rounds: most rounds; ends earlier when no word moves.
    """
    groups, size, dim = points.shape
    if not points.numel():
        return points.new_zeros(groups, count, dim)
    order = points.sum(2).argsort(dim=1)
    picks = ((torch.arange(count) + 0.5) * size / count).long().clamp(max=size - 1)
    words = points.gather(1, order[:, picks, None].expand(-1, -1, dim))
    for _ in range(rounds):
        places = nearest_word(points, words)
        mass = weights.new_zeros(groups, count).scatter_add_(1, places, weights)
        total = torch.zeros_like(words).scatter_add_(
            1, places[..., None].expand(-1, -1, dim), points * weights[..., None]
        )
        moved = torch.where(mass[..., None] > 0, total / mass.clamp(min=1e-30)[..., None], words)
        if torch.equal(moved, words):
            break
        words = moved
    return words


def nearest_word(points: Tensor, words: Tensor) -> Tensor:
    """Number of the nearest word of every point, ``[M, n]``, int64."""
    if not points.numel():
        return torch.zeros(points.shape[:2], dtype=torch.int64)
    step = max(1, _CHUNK // max(1, words.shape[0] * words.shape[1]))
    parts = [torch.cdist(part, words).argmin(2) for part in torch.split(points, step, 1)]
    return torch.cat(parts, dim=1)


def _words(book: Tensor, places: Tensor) -> Tensor:
    return book.gather(1, places[..., None].expand(-1, -1, book.shape[2]))
