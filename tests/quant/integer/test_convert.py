"""Whole models in integers against their simulation, and what has no integer form."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quant.errors import UsageError
from quant.integer.convert import integer_model, integers_only
from quant.integer.steps import MaxPool, Patches, Product, stream_step
from quant.method import Method
from quant.model import QuantizedModel
from search.tasks.models import ResNet, VisionTransformer
from spaces.choices import parse_choice
from spaces.inventory import trace

POLICIES = {
    "int8": ("int8src/int8ut",),
    "mixed": ("int8src/int8ut", "int3src/int8ut", "int4sc/int4ut"),
    "other scales": ("int8st/int8st", "int4n3/int8ut", "int4uc/int8srt"),
}


def randomised(model, seed=0):
    """Weights as drawn, batch norms with statistics that matter."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


class Case:
    def __init__(self, model, shape, method=None):
        self.model = randomised(model)
        torch.manual_seed(1)
        self.batches = list(torch.randn(3, 20, *shape))
        self.layers = trace(self.model, self.batches[0][:1]).layers
        names = [spec.name for spec in self.layers]
        self.quantized = QuantizedModel(self.model, names, method or Method(), self.batches)
        self.test = torch.randn(40, *shape)

    def choices(self, *texts):
        return {
            spec.name: parse_choice(texts[index % len(texts)])
            for index, spec in enumerate(self.layers)
        }

    def simulated(self, choices):
        self.quantized.apply(choices)
        with torch.no_grad():
            found = self.quantized(self.test)
        self.quantized.float_()
        return found

    def integer(self, choices):
        return integer_model(self.quantized, choices, self.batches)


@pytest.fixture(scope="module")
def cases():
    torch.manual_seed(0)
    return {
        "resnet": Case(ResNet(width=4), (1, 16, 16)),
        "vit": Case(VisionTransformer(16, 4, 16, 2, 2), (1, 16, 16)),
    }


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_a_whole_model_computes_in_integers_what_was_simulated(cases, name, policy):
    case = cases[name]
    choices = case.choices(*POLICIES[policy])
    model, expected = case.integer(choices), case.simulated(choices)
    codes = model.encode(case.test)
    with integers_only():
        logits = model(codes)
    assert not logits.is_floating_point()
    assert not any(tensor.is_floating_point() for tensor in model.buffers())
    assert not list(model.parameters())
    found = logits * model.step
    # Polynomials of GELU and softmax, and ties: few bits make much of a last digit (.02 to .06).
    assert (found - expected).abs().mean() < 0.15 * expected.std()
    assert torch.allclose(found, model.logits(case.test))
    assert all(layer.fits for layer in model.layers.values())


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_requantizations_are_one_step_at_most_from_floats(cases, name):
    """Both sides get the same integers; see each layer's input grid and its output stream."""
    case = cases[name]
    choices = case.choices("int8src/int8ut", "int4src/int4ut")
    model = case.integer(choices)
    seen = {}
    hooks = [
        layer.register_forward_hook(
            lambda _, args, out, name=name: seen.__setitem__(name, (args[0], out))
        )
        for name, layer in model.layers.items()
    ]
    model(model.encode(case.test))
    for hook in hooks:
        hook.remove()
    assert set(seen) == {spec.name for spec in case.layers}
    for name, (entering, leaving) in seen.items():
        layer = model.layers[name]
        codes = layer.codes(entering)
        rounded = torch.round(entering.double() * layer.enter_ratio).clamp(layer.low, layer.high)
        assert (codes - rounded).abs().max() <= 1
        exact = layer.accumulate(codes).double() * layer.leave_ratio
        assert (leaving - exact).abs().max() <= 1
        reach = (layer.weight.double().abs().flatten(1).sum(1) * 255).max()
        assert reach + layer.bias.abs().max() < 2**31


def test_corrections_of_biases_and_norms_are_kept():
    case = Case(ResNet(width=4), (1, 16, 16), Method(repair=("bn_reestimate",)))
    choices = case.choices("int3src/int8ut")
    expected = case.simulated(choices)
    found = case.integer(choices).logits(case.test)
    # Over nets .02 to .06 by roundings on other sides of ties; .5 and more without corrections.
    assert (found - expected).abs().mean() < 0.15 * expected.std()


def test_input_codes_are_those_of_the_first_layer(cases):
    case = cases["resnet"]
    model = case.integer(case.choices("int8src/int8ut"))
    codes = model.encode(case.test)
    zero = int(model.grid.zero_point)
    assert (int(codes.min()) >= -zero) and (int(codes.max()) <= 255 - zero)
    assert (
        codes * model.grid.scale - case.test.clamp(-zero * model.grid.scale, None)
    ).abs().max() < 2


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("int8src/int8ut", "float32"), r"layer 'stage1\.0\.conv1' takes float32/float32"),
        (("nf4c/int8ut",), r"layer 'stem\.0' takes nf4c"),
        (("int4sg4/int8ut",), "takes int4sg4"),
        (("int8sc/int8ut@dynamic",), "takes int8sc/int8ut@dynamic"),
    ],
)
def test_formats_integers_cannot_compute_are_refused(cases, texts, message):
    case = cases["resnet"]
    with pytest.raises(UsageError, match=message):
        case.integer(case.choices(*texts))


def test_operators_without_an_integer_form_are_named():
    case = Case(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3)), (1, 8, 8))
    with pytest.raises(UsageError, match=r"(?s)'1' is Tanh.*GELU, softmax"):
        case.integer(case.choices("int8src/int8ut"))


def test_sums_that_could_leave_an_int32_are_refused():
    wide = nn.Sequential(nn.Linear(200_000, 1))
    wide[0].weight.data.fill_(1.0)
    case = Case(wide, (200_000,))
    with pytest.raises(UsageError, match="beyond int32"):
        case.integer(case.choices("int8src/int8ut"))


def test_patches_are_those_of_unfold():
    x = torch.randn(2, 3, 8, 12)
    expected = nn.Unfold((2, 4), stride=(2, 3))(x)
    assert torch.equal(Patches((2, 4), (2, 3))(x), expected)
    assert torch.equal(MaxPool((3, 2), (2, 2))(x), F.max_pool2d(x, (3, 2), (2, 2)))


def test_products_of_activations_keep_twelve_bits():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 5, 16), torch.randn(2, 3, 16, 7)
    sizes = [float(item.abs().max()) for item in (x, y)]
    steps = [stream_step(size) for size in sizes]
    out = stream_step(float((x @ y).abs().max()))
    codes = [torch.round(item / step).long() for item, step in zip((x, y), steps, strict=True)]
    found = Product(steps, sizes, out)(*codes) * out
    assert (found - x @ y).abs().max() < 16 * 2 * 4 * 2.0**-11
