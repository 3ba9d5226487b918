"""Made-up calibration inputs: closer to what the norms remember, and read no data."""

import pytest
import torch
from torch import nn

from quant.errors import DataError
from quant.method import SOURCES, Method
from quant.model import QuantizedModel
from quant.zero_shot import distill, generate, synthetic_inputs
from quant.zero_shot.norms import watched
from tests.quant.models import images, residual_net, take

SHAPE = (1, 8, 8)
NAMES = ["0", "3.conv1", "3.conv2", "6"]


@pytest.fixture(scope="module")
def net():
    """A classifier whose norms hold the statistics of some images."""
    model = residual_net(seed=1)
    data = images(64, seed=5) * torch.linspace(0.2, 2, 64)[:, None, None, None]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        model(data)
    return model.eval()


def gap_of(model, x):
    with watched(model) as (frozen, gap), torch.no_grad():
        frozen(x)
        return gap.value().item()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_distillation_closes_the_gap_to_the_norms(net):
    start = distill(net, SHAPE, 40, seeded(), steps=0)
    end = distill(net, SHAPE, 40, seeded(), steps=60)
    assert end.shape == (40, *SHAPE)
    assert gap_of(net, end) < 0.2 * gap_of(net, start)


def test_the_model_keeps_its_weights_statistics_and_mode(net):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    distill(net, SHAPE, 4, seeded(), steps=3)
    generate(net, SHAPE, 4, seeded(), steps=3)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda net, seed: distill(net, SHAPE, 6, seeded(seed), steps=2),
        lambda net, seed: generate(net, SHAPE, 6, seeded(seed), steps=2).inputs,
        lambda net, seed: synthetic_inputs(
            net, SHAPE, Method(calibration="batch_norm", samples=6, seed=seed)
        ),
    ],
    ids=["distilled", "generated", "batch_norm"],
)
def test_equal_seeds_give_equal_inputs(net, make):
    first, second, other = make(net, 0), make(net, 0), make(net, 1)
    assert first.shape == (6, *SHAPE)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def quadrants(n, generator):
    """Noise with one bright quadrant, the class."""
    labels = torch.arange(n) % 4
    x = 0.5 * torch.randn(n, *SHAPE, generator=generator)
    for row, label in enumerate(labels.tolist()):
        top, left = 4 * (label // 2), 4 * (label % 2)
        x[row, :, top : top + 4, left : left + 4] += 2
    return x, labels


def test_a_generator_makes_what_a_trained_model_takes_for_the_class():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4),
        )  # fmt: skip
    optimizer, draws = torch.optim.Adam(model.parameters(), lr=0.02), seeded()
    for _ in range(40):
        x, labels = quadrants(64, draws)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    model.eval()
    made = generate(model, SHAPE, 100, seeded())
    with torch.no_grad():
        answers = model(made.inputs).argmax(1)
    assert made.labels.bincount().tolist() == [25] * 4
    assert (answers == made.labels).float().mean() >= 0.9
    early = generate(model, SHAPE, 100, seeded(), steps=1)
    assert gap_of(model, made.inputs) < gap_of(model, early.inputs)


@pytest.mark.parametrize("source", ["distilled", "generated"])
def test_models_without_norms_are_refused(source):
    with pytest.raises(DataError, match="needs batch norms, and the model has none"):
        synthetic_inputs(nn.Linear(3, 2), (3,), Method(calibration=source))


@pytest.mark.parametrize(
    "options", [{"calibration": "batch_norm"}, {"repair": ("bn_reestimate",)}], ids=str
)
def test_what_reads_norms_needs_norms(options):
    method = Method(name="dfq", **options)
    with pytest.raises(DataError, match="method 'dfq' needs batch norms"):
        QuantizedModel(nn.Sequential(nn.Linear(3, 2)), ["0"], method, [torch.randn(4, 3)])


def test_a_generator_needs_a_classifier():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(DataError, match="needs a classifier"):
        generate(net, SHAPE, 2, seeded(), steps=1)


def test_ranges_from_norms_hardly_depend_on_the_inputs(net):
    """Inputs of layers behind norms are drawn from the norms, whatever enters the model."""
    method = Method(calibration="batch_norm")
    scales = []
    for x in (torch.zeros(60, *SHAPE), torch.randn(60, *SHAPE, generator=seeded()) * 50):
        model = QuantizedModel(net, NAMES, method, [x])
        scales.append(model.input_qparams("3.conv2", take("int8ut").weight).scale.item())
    assert scales[0] == pytest.approx(scales[1], rel=0.05)


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "data"])
def test_without_data_eight_bits_stay_close_to_the_float_model(net, source):
    method = Method(calibration=source, samples=50)
    model = QuantizedModel(net, NAMES, method, synthetic_inputs(net, SHAPE, method).split(25))
    x = images(64, seed=5)
    with torch.no_grad():
        model.apply({name: take("int8src", "int8ut") for name in NAMES})
        assert (model(x) - net(x)).norm() < 0.1 * net(x).norm()
