"""Handwritten digits (scikit-learn's copy of the UCI test set, 1797 images) made hard enough.

The 8x8 images are enlarged to 32x32 and covered with Gaussian noise, and only 597 of them are
used for training: on the clean data every sensible quantization is perfect and no policy can be
told from another. The difficulty is made: noise, width and epochs were chosen among about four
settings per network with the figures of the test split in view, so the tables below are of the
chosen setting and say nothing about digits. Splits are
drawn once, stratified by class: 597 training, 200 calibration, 400 search-validation and 600
test images, all different.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F

from quant.errors import unknown
from search.tasks.base import Split, Task, make_task
from search.tasks.models import ResNet, VisionTransformer
from search.tasks.training import Origin, Progress, Recipe, silent, trained

SIZES = {"train": 597, "calibration": 200, "search": 400, "test": 600}
SPLIT_SEED = 0
DATA = ("all", "none")


def digits_resnet(
    name: str = "digits_resnet",
    noise: float = 0.42,
    width: int = 16,
    epochs: int = 36,
    batch_size: int = 25,
    data: str = "all",
    train: bool = False,
    progress: Progress = silent,
) -> Task:
    """Noisy digits and a residual network of 16 quantizable layers, 175 thousand parameters.

    Uniform weight bits (symmetric restricted, per channel, MSE ranges; activations 8 bit), test
    split of 600, difference of cross-entropy to float paired over images:

    ====== ============= ======== ==================
    bits   cross-entropy accuracy difference +- s.e.
    ====== ============= ======== ==================
    float          0.082    96.8 %
    8              0.083    97.0 %   0.001 +- 0.001
    6              0.082    97.2 %  -0.001 +- 0.002
    5              0.084    97.0 %   0.001 +- 0.003
    4              0.132    95.7 %   0.050 +- 0.011
    3              3.326    37.2 %   3.24  +- 0.15
    2             13.248    10.0 %  13.2   +- 0.26
    ====== ============= ======== ==================

    Args:
        name: name of the task.
        noise: standard deviation of the noise on images in 0..1.
        width: channels of the first stage.
        epochs: training length.
        batch_size: images per forward pass.
        data: ``"none"`` withholds the calibration split.
        train: do not use the weights that come with the package for the default settings; train
            with this machine's kernels and keep the result in the cache.
        progress: called as ``progress(done, total, message)`` while training.
    """
    splits = noisy_digits(noise)
    origin = Origin("digits_resnet", {"noise": noise, "width": width}, Recipe(epochs))
    build = partial(ResNet, width)
    model = trained(name, build, splits["train"], origin, progress, anew=train)
    title = f"digits 32x32, noise {noise:g}; ResNet, batch norm folded"
    return make_task(name, title, model, _offered(splits, data), classes=10, batch_size=batch_size)


def digits_vit(
    name: str = "digits_vit",
    noise: float = 0.12,
    width: int = 48,
    depth: int = 4,
    epochs: int = 80,
    batch_size: int = 25,
    data: str = "all",
    train: bool = False,
    progress: Progress = silent,
) -> Task:
    """Noisy digits and a small vision transformer: 26 linear layers, 80 thousand parameters.

    Uniform weight bits as in :func:`digits_resnet`, test split:

    ====== ============= ======== ==================
    bits   cross-entropy accuracy difference +- s.e.
    ====== ============= ======== ==================
    float          0.172    94.3 %
    8              0.172    94.3 %  -0.000 +- 0.001
    6              0.173    94.3 %   0.001 +- 0.002
    5              0.173    94.2 %   0.001 +- 0.003
    4              0.188    93.7 %   0.016 +- 0.005
    3              0.195    94.0 %   0.023 +- 0.010
    2              1.012    66.0 %   0.840 +- 0.052
    ====== ============= ======== ==================

    Args:
        name: name of the task.
        noise: standard deviation of the noise on images in 0..1.
        width: features per token.
        depth: transformer blocks, six linear layers each.
        epochs: training length.
        batch_size: images per forward pass.
        data: ``"none"`` withholds the calibration split.
        train: do not use the weights that come with the package for the default settings; train
            with this machine's kernels and keep the result in the cache.
        progress: called as ``progress(done, total, message)`` while training.
    """
    splits = noisy_digits(noise)
    recipe = Recipe(epochs, rate=4e-3, weight_decay=0.0, optimiser="adamw")
    origin = Origin("digits_vit", {"noise": noise, "width": width, "depth": depth}, recipe)
    build = partial(VisionTransformer, width=width, depth=depth)
    model = trained(name, build, splits["train"], origin, progress, anew=train)
    title = f"digits 32x32, noise {noise:g}; vision transformer, {depth} blocks of {width}"
    return make_task(name, title, model, _offered(splits, data), classes=10, batch_size=batch_size)


def _offered(splits: dict[str, Split], data: str) -> dict[str, Split]:
    """All splits, or all but the calibration split."""
    if data not in DATA:
        raise unknown("data", data, DATA, where="task.data")
    return {name: s for name, s in splits.items() if data == "all" or name != "calibration"}


def noisy_digits(noise: float, size: int = 32) -> dict[str, Split]:
    """The four splits, ``inputs [n, 1, size, size]`` with mean 0 and variance 1 in all."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    labels = torch.tensor(raw.target, dtype=torch.int64)
    images = torch.tensor(raw.images / 16.0, dtype=torch.float32)[:, None]
    images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    images = images + noise * torch.randn(images.shape, generator=generator)
    images = (images - images.mean()) / images.std()
    order = _stratified(labels, generator)
    parts = torch.split(order, list(SIZES.values()))
    return {
        name: Split(images[rows].contiguous(), labels[rows])
        for name, rows in zip(SIZES, parts, strict=True)
    }


def _stratified(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random order in which every prefix holds the classes in nearly equal shares."""
    shuffled = torch.randperm(len(labels), generator=generator)
    rank = torch.empty(len(labels))
    for label in range(int(labels.max()) + 1):
        rows = shuffled[labels[shuffled] == label]
        jitter = torch.rand(len(rows), generator=generator)
        rank[rows] = (torch.arange(len(rows)) + jitter) / len(rows)
    return rank.argsort()
