import pytest
import torch
from torch import nn

from quant.affine import fake_quantize, qparams_from_range
from quant.calibration import CALIBRATORS, calibrator
from quant.errors import DataError, UsageError
from quant.formats import parse_format
from quant.slices import CONVS, TRANSPOSED, SliceLayout
from quant.weights import weight_quantizer

MODULES = [kind(4, 8, 3, groups=groups) for kind in (*CONVS, *TRANSPOSED) for groups in (1, 4)]
MODULES.append(nn.Linear(10, 6))
IDS = [f"{type(m).__name__}-g{getattr(m, 'groups', 1)}" for m in MODULES]


def built(module, text, name="minmax"):
    fmt = parse_format(text)
    layout = SliceLayout.of(module, fmt.granularity, fmt.group_size)
    return weight_quantizer(module.weight, layout, fmt, calibrator(name), name="w")


@pytest.mark.parametrize("module", MODULES, ids=IDS)
@pytest.mark.parametrize("text", ["int4s", "int4src", "int4uc", "int3srg4", "int8ug5"])
def test_codes_decode_to_the_quantized_weight(module, text):
    quantizer, weight = built(module, text), module.weight.detach()
    codes = quantizer.codes(weight)
    assert codes.shape == weight.shape
    assert codes.dtype == torch.int32
    fmt = parse_format(text)
    assert fmt.qmin <= int(codes.min())
    assert int(codes.max()) <= fmt.qmax
    assert torch.equal(quantizer.decode(codes), quantizer(weight))
    assert torch.allclose(quantizer(weight), weight, atol=float(quantizer.qparams.scale.max()))


@pytest.mark.parametrize("module", MODULES, ids=IDS)
def test_channel_scales_equal_a_loop_over_channels(module):
    quantizer = built(module, "int4src")
    rows = SliceLayout.of(module).slice(module.weight.detach())
    expected = []
    for row in rows:
        qparams = qparams_from_range(row.min(), row.max(), parse_format("int4sr"))
        expected.append(fake_quantize(row, qparams))
    got = SliceLayout.of(module).slice(quantizer(module.weight.detach()))
    assert torch.equal(got, torch.stack(expected))


@pytest.mark.parametrize("name", sorted(CALIBRATORS))
@pytest.mark.parametrize("text", ["int4srg4", "int4ug4", "int2sg3"])
def test_padding_of_short_groups_takes_no_part(text, name):
    # The last group of a channel must get the range it gets as a tensor of its own.
    fmt, module = parse_format(text), nn.Linear(10, 6)
    quantizer = built(module, text, name)
    size = fmt.group_size
    last = 10 - 10 % size if 10 % size else 10 - size
    alone = nn.Linear(10 - last, 6)
    alone.weight = nn.Parameter(module.weight.detach()[:, last:].clone())
    fmt_alone = f"int{fmt.bits}{fmt.scheme}c"
    scales = quantizer.qparams.scale.view(6, -1)
    assert torch.equal(scales[:, -1:], built(alone, fmt_alone, name).qparams.scale)
    expected = built(alone, fmt_alone, name)(alone.weight.detach())
    assert torch.equal(quantizer(module.weight.detach())[:, last:], expected)


def test_gradient_passes_straight_through():
    module = nn.Conv2d(2, 3, 3)
    quantizer = built(module, "int4srg4")
    weight = module.weight.detach().requires_grad_()
    (grad,) = torch.autograd.grad(quantizer(weight).sum(), weight)
    assert torch.equal(grad, torch.ones_like(weight))  # min-max clips nothing


@pytest.mark.parametrize("name", sorted(CALIBRATORS))
@pytest.mark.parametrize("text", ["float32", "float16", "bfloat16"])
def test_float_formats_cast_and_leave_the_weight_alone(text, name):
    module = nn.Linear(3, 3)
    before = module.weight.detach().clone()
    dtype = getattr(torch, text)
    result = built(module, text, name)(module.weight.detach())
    assert torch.equal(result, before.to(dtype).float())
    assert torch.equal(module.weight.detach(), before)


def test_misuse():
    module = nn.Linear(3, 3)
    with pytest.raises(UsageError, match="weight format 'int8st@dynamic' is dynamic"):
        built(module, "int8@dynamic")
    with torch.no_grad():
        module.weight[0, 0] = float("nan")
    with pytest.raises(DataError, match="NaN values in w"):
        built(module, "int8")
