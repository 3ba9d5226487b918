"""Every shipped method is selected by its file, changes the logits and is part of the key."""

from pathlib import Path

import pytest
import torch
import yaml

from quant.errors import UsageError
from quant.method import Method
from quant.model import QuantizedModel
from quant.zero_shot import synthetic_inputs
from search.checked import from_mapping
from spaces.choices import parse_choice
from tests.quant.models import residual_net

FILES = sorted((Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))
# A way for codebooks leaves integer formats alone.
TEXTS = {"hessian": "km2c/int8ut"}
NAMES = ["0", "3.conv1", "3.conv2", "6"]


def load(path):
    return from_mapping(Method, yaml.safe_load(path.read_text()), "method")


def logits(method, images, text="int3src/int8ut", inputs=None):
    batches = (images if inputs is None else inputs).split(8)
    model = QuantizedModel(residual_net(), NAMES, method, batches)
    with torch.no_grad():
        exact = model(images)
        model.apply({name: parse_choice(text) for name in NAMES})
        rounded = model(images)
        model.float_()
        assert torch.equal(model(images), exact)
    return exact, rounded


@pytest.fixture(scope="module")
def images():
    return torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])
def test_a_method_keeps_the_float_model_and_changes_the_quantized_one(path, images):
    method = load(path)
    assert method.name == path.stem
    text = TEXTS.get(path.stem, "int3src/int8ut")
    inputs = images
    if method.calibration != "data":
        inputs = synthetic_inputs(residual_net(), tuple(images.shape[1:]), method)
    exact, rounded = logits(method, images, text, inputs)
    plain_exact, plain = logits(Method(), images, text)
    torch.testing.assert_close(exact, plain_exact, rtol=1e-4, atol=1e-5)
    assert not torch.equal(exact, rounded)
    if method.repair or method.calibration != "data":
        assert repr(method) != repr(Method())
        assert not torch.equal(plain, rounded)


@pytest.mark.parametrize("text", ["nf4c/int8ut", "km2c", "mxfp4", "float16"])
def test_repairs_serve_formats_without_an_integer_grid(images, text):
    method = Method(repair=("equalize", "gptq", "bias_correction"))
    assert bool(logits(method, images, text)[1].isfinite().all())


def test_unknown_repair_gets_its_nearest_match():
    with pytest.raises(UsageError, match="unknown repair 'gptk'") as caught:
        Method(repair=("gptk",))
    assert "gptq" in caught.value.fix


def test_codes_are_chosen_once():
    with pytest.raises(UsageError, match="both choose the codes"):
        Method(repair=("gptq", "adaround"))
