"""The whole room at once, on every supported layer type and in training."""

import pytest
import torch
from torch import nn

from quant.calibration import CALIBRATORS
from quant.errors import DataError
from quant.formats import parse_format
from quant.method import Method
from quant.model import QuantizedModel
from tests.quant.models import randomise_norms, take

NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def net(kind, sides, groups):
    """Input layer, norm, the layer under test, head; 8 channels."""
    layer = getattr(nn, f"{kind}{sides}d")
    return randomise_norms(
        nn.Sequential(
            getattr(nn, f"Conv{sides}d")(2, 8, 3, padding=1),
            NORMS[sides](8),
            nn.ReLU(),
            layer(8, 8, 3, groups=groups, bias=False),
            NORMS[sides](8),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(3),
        )
    ).eval()


@pytest.mark.parametrize("sides", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("groups", [1, 2, 8], ids=["dense", "grouped", "depthwise"])
@pytest.mark.parametrize("weight", ["src", "ug5"])
def test_error_falls_with_the_width(sides, kind, groups, weight):
    model = net(kind, sides, groups)
    x = torch.randn(4, 2, *[5] * sides)
    with torch.no_grad():
        expected = model(x)
        quantized = QuantizedModel(model, ["0", "3", "7"], Method(), [x])
        errors = []
        for bits in (2, 4, 8):
            quantized.apply(
                {n: take(f"int{bits}{weight}", f"int{bits}ut") for n in ("0", "3", "7")}
            )
            errors.append(float((quantized(x) - expected).norm() / expected.norm()))
    assert errors[0] > errors[1] > 2 * errors[2]
    assert errors[2] < 0.1


@pytest.mark.parametrize("name", sorted(CALIBRATORS))
def test_every_calibrator_serves_a_whole_model(name):
    model, x = net("Conv", 2, 1), torch.randn(8, 2, 5, 5)
    model(x)
    method = Method(name, weight_calibrator=name, activation_calibrator=name)
    quantized = QuantizedModel(model, ["0", "3", "7"], method, [x])
    with torch.no_grad():
        expected = model(x)
        quantized.apply({n: take("int8src", "int8ut") for n in ("0", "3", "7")})
        # Entropies of a few hundred values clip hard; the others stay close.
        limit = {"kl": 0.5, "wentropy": 0.3}.get(name, 0.1)
        assert float((quantized(x) - expected).norm() / expected.norm()) < limit


def test_training_through_the_quantizers_lowers_the_loss():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    target = torch.tanh(x @ torch.randn(4, 2, generator=torch.Generator().manual_seed(1)))
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    before = {name: p.clone() for name, p in model.named_parameters()}
    quantized = QuantizedModel(model, ["0", "2"], Method(), [x])
    fmt, activation = parse_format("int3src"), parse_format("int4ut")
    for name in ("0", "2"):
        quantized.attachment.set(
            name,
            weight=quantized.weight_quantizer(name, fmt),
            input=quantized.input_quantizer(name, activation),
        )
    parameters = [p.detach().clone().requires_grad_() for p in quantized.module.parameters()]
    names = [name for name, _ in quantized.module.named_parameters()]
    optimizer = torch.optim.Adam(parameters, 0.02)
    losses = []
    for _ in range(60):
        call = dict(zip(names, parameters, strict=True))
        output = torch.func.functional_call(quantized.module, call, (x,))
        loss = (output - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_lazy_layers_must_have_run_once():
    with pytest.raises(DataError, match=r"parameter '7.weight' has no shape yet") as caught:
        QuantizedModel(net("Conv", 2, 1), ["0"], Method(), [torch.randn(2, 2, 5, 5)])
    assert "once" in caught.value.fix


def test_a_batch_with_labels_is_refused():
    model, x = net("Conv", 2, 1), torch.randn(2, 2, 5, 5)
    model(x)
    with pytest.raises(DataError, match="a calibration batch is a tuple") as caught:
        QuantizedModel(model, ["0"], Method(), [(x, torch.zeros(2))])
    assert "without labels" in caught.value.fix
