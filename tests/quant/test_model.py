import numpy as np
import pytest
import torch
from torch import nn

from quant.affine import fake_quantize
from quant.attach import attach
from quant.errors import DataError, UsageError
from quant.formats import FLOAT32, parse_format
from quant.method import Method
from quant.model import QuantizedModel
from tests.quant.models import Take, images, residual_net, take

NAMES = ["0", "3.conv1", "3.conv2", "6"]


METHOD = Method()


def quantized(method=METHOD, model=None, batches=None):
    return QuantizedModel(
        model or residual_net(), NAMES, method, batches or [images(), images(4, 1)]
    )


@pytest.fixture(scope="module")
def shared():
    return quantized()


def test_float_assignment_is_the_folded_model(shared):
    shared.float_()
    with torch.no_grad():
        assert torch.allclose(shared(images()), residual_net()(images()), atol=1e-5)
        before = shared(images())
        shared.apply({name: take() for name in NAMES})
        assert torch.equal(shared(images()), before)


def test_assignment_equals_quantizing_by_hand(shared):
    weight, activation = parse_format("int4src"), parse_format("int6ut")
    shared.apply({name: Take(weight, activation) for name in NAMES})
    with torch.no_grad():
        got = shared(images())
    # By hand: the folded float model with other weights and a hook in front of each layer.
    hand = QuantizedModel(residual_net(), [], Method(), [images()]).module
    for name in NAMES:
        layer = hand.get_submodule(name)
        layer.weight = nn.Parameter(shared.weight(name, weight))
        qparams = shared.input_qparams(name, activation)
        layer.register_forward_pre_hook(lambda _, args, q=qparams: fake_quantize(args[0], q))
    with torch.no_grad():
        assert torch.equal(got, hand(images()))


def test_layers_not_named_are_float(shared):
    shared.apply({name: take("int2src", "int2ut") for name in NAMES})
    shared.apply({"0": take("int8src")})
    with torch.no_grad():
        got = shared(images())
        shared.float_()
        shared.apply({"0": take("int8src"), "6": take()})
        assert torch.equal(shared(images()), got)


def test_fewer_bits_mean_more_error(shared):
    errors = [shared.weight_error("3.conv1", parse_format(f"int{b}src")) for b in (8, 6, 4, 3, 2)]
    assert errors == sorted(errors)
    assert errors[0] > 0
    assert shared.weight_error("3.conv1", FLOAT32) == 0
    difference = shared.weight("3.conv1", parse_format("int2src")) - shared.original("3.conv1")
    assert errors[-1] == pytest.approx(float(difference.detach().double().square().sum()))
    inputs = [shared.input_error("3.conv1", parse_format(f"int{b}ut")) for b in (8, 6, 4, 3, 2)]
    assert inputs == sorted(inputs)
    assert shared.input_error("3.conv1", FLOAT32) == 0


def test_half_floats_round_trip_weight_and_input(shared):
    shared.apply({"6": take("float16", "bfloat16")})
    expected = shared.original("6").detach().half().float()
    assert torch.equal(shared.weight("6", parse_format("float16")), expected)
    with torch.no_grad():
        assert bool(torch.isfinite(shared(images())).all())


def test_inputs_after_relu_have_zero_point_zero(shared):
    for text in ("int8ut", "int4ut"):
        assert int(shared.input_qparams("3.conv2", parse_format(text)).zero_point) == 0
    assert int(shared.input_qparams("0", parse_format("int8ut")).zero_point) > 0


def test_static_ranges_do_not_depend_on_batch_mates_but_dynamic_ones_do(shared):
    x = images()
    x[1] *= 10
    with torch.no_grad():
        shared.apply({name: take(activation="int4ut") for name in NAMES})
        assert torch.allclose(shared(x)[:1], shared(x[:1]), atol=1e-6)
        shared.apply({"0": take(activation="int4ut@dynamic")})
        assert not torch.allclose(shared(x)[:1], shared(x[:1]), atol=1e-3)


def test_dynamic_ranges_are_scale_equivariant(shared):
    quantizer = shared.input_quantizer("0", parse_format("int4ut@dynamic"))
    assert torch.equal(quantizer(images() * 4), quantizer(images()) * 4)
    assert quantizer(torch.empty(0, 3)).shape == (0, 3)
    bad = torch.tensor([1.0, float("nan")])
    assert bool(quantizer(bad).isnan().any())


def test_a_layer_may_override_the_weight_calibrator(shared):
    fmt = parse_format("int3src")
    by_method = {name: shared.weight_error("6", fmt, name) for name in ("minmax", "mse")}
    assert by_method["mse"] < by_method["minmax"]
    assert shared.weight_error("6", fmt) == by_method["mse"]
    shared.apply({"6": take("int3src", method="minmax")})
    with pytest.raises(UsageError, match="unknown method 'mze'") as caught:
        shared.apply({"6": take("int3src", method="mze")})
    assert "'+mze'" in caught.value.where


def test_results_are_cached(shared):
    fmt = parse_format("int4srg4")
    assert shared.weight("6", fmt) is shared.weight("6", fmt)
    activation = parse_format("int4ut")
    assert shared.input_quantizer("6", activation) is shared.input_quantizer("6", activation)


def test_calibration_reads_the_data_once_and_batches_do_not_matter():
    reads = []

    def batches(sizes):
        for start, stop in sizes:
            reads.append(start)
            yield images(6)[start:stop]

    one = quantized(batches=batches([(0, 6)]))
    assert reads == [0]
    other = quantized(batches=batches([(4, 6), (0, 3), (3, 4)]))
    assert reads == [0, 4, 0, 3]
    fmt = parse_format("int4ut")
    first, second = one.input_qparams("0", fmt), other.input_qparams("0", fmt)
    assert torch.equal(first.scale, second.scale)
    assert torch.equal(first.zero_point, second.zero_point)


def test_read_only_weights_are_never_written():
    source = residual_net()
    memory = {name: tensor.numpy().copy() for name, tensor in source.state_dict().items()}
    before = {name: array.copy() for name, array in memory.items()}
    model = residual_net()
    state = {name: torch.from_numpy(array) for name, array in memory.items()}
    model.load_state_dict(state, assign=True)
    versions = {name: tensor._version for name, tensor in model.state_dict().items()}
    result = quantized(model=model)
    with torch.no_grad():
        for choice in (take("int4src", "int4ut"), take("float16", "int8ut@dynamic"), take()):
            result.apply(dict.fromkeys(NAMES, choice))
            result(images())
    assert {name: t._version for name, t in model.state_dict().items()} == versions
    assert all(np.array_equal(memory[name], before[name]) for name in memory)
    assert [type(m).__name__ for m in model.modules()] == [
        type(m).__name__ for m in source.modules()
    ]
    # A layer without a norm is used in place: zero copies.
    assert result.original("6").data_ptr() == memory["6.weight"].ctypes.data


def test_without_folding_the_norms_stay():
    result = quantized(Method(fold_batch_norm=False))
    assert any(isinstance(m, nn.BatchNorm2d) for m in result.module.modules())
    with torch.no_grad():
        assert torch.equal(result(images()), residual_net()(images()))


def test_failed_assignment_changes_nothing(shared):
    shared.apply({"0": take("int2src")})
    with torch.no_grad():
        before = shared(images())
        for bad in (
            {"0": take(), "3.conv": take()},
            {"0": take(), "6": take("int8@dynamic")},
            {"0": take(), "6": take("int8", "int8c")},
        ):
            with pytest.raises(UsageError):
                shared.apply(bad)
            assert torch.equal(shared(images()), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q: q.apply({"3.conv11": take()}), "unknown layer '3.conv11'"),
        (lambda q: q.weight("7", FLOAT32), "unknown layer '7'"),
        (lambda q: q.weight("0", parse_format("int8@dynamic")), "weight format 'int8st@dynamic'"),
        (lambda q: q.input_quantizer("0", parse_format("int8c")), "more than one scale"),
        (lambda q: q.input_qparams("0", parse_format("int8ut@dynamic")), "no fixed scale"),
    ],
)
def test_misuse_is_refused(shared, call, message):
    with pytest.raises(UsageError, match=message):
        call(shared)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_weights_and_data_name_the_layer(value):
    model = residual_net()
    with torch.no_grad():
        model[6].weight[0, 0] = value
    with pytest.raises(DataError, match="the weight of layer '6'"):
        quantized(model=model)
    data = images()
    data[0, 0, 0, 0] = value
    with pytest.raises(DataError, match="the input of layer '0'"):
        quantized(batches=[data])


@pytest.mark.parametrize("batches", [[], [torch.empty(0, 1, 8, 8)]])
def test_no_calibration_data(batches):
    with pytest.raises(DataError, match="there is no calibration data"):
        QuantizedModel(residual_net(), NAMES, Method(), batches)


def test_a_layer_calibration_never_reached_can_only_be_float():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    result = QuantizedModel(Optional(), ["used", "unused"], Method(), [torch.ones(2, 3)])
    result.apply({"unused": take("int8src")})
    with pytest.raises(DataError, match="no calibration data reached the input of layer 'unused'"):
        result.apply({"unused": take("int8src", "int8ut")})


def test_attached_layers_are_known_to_the_attachment(shared):
    assert shared.attachment.names == tuple(NAMES)
    with pytest.raises(UsageError, match="already attached"):
        attach(shared.module, ["0"])


@pytest.mark.parametrize("field", ["weight_calibrator", "activation_calibrator"])
def test_method_refuses_unknown_calibrators(field):
    with pytest.raises(UsageError, match="unknown calibrator 'percentil'") as caught:
        Method(**{field: "percentil"})
    assert caught.value.fix == "did you mean 'percentile'?"
    assert caught.value.where == f"method.{field}"


@pytest.mark.parametrize("percentile", [50, 101, -1, float("nan")])
def test_method_refuses_percentiles_out_of_range(percentile):
    with pytest.raises(UsageError, match="out of range"):
        Method(weight_calibrator="percentile", percentile=percentile)
