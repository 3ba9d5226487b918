import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quant.errors import DataError
from quant.folding import fold_batch_norm
from spaces.inventory import trace
from tests.models import IMAGE, tiny_conv_net, tiny_transformer


def one(module, *shape):
    traced = trace(nn.Sequential(module), torch.zeros(1, *shape))
    assert len(traced.layers) == 1
    return traced.layers[0]


@pytest.mark.parametrize(
    ("module", "shape", "op", "params", "macs"),
    [
        (nn.Linear(5, 7), (5,), "linear", 42, 35),
        (nn.Linear(5, 7, bias=False), (3, 5), "linear", 35, 105),
        (nn.Conv1d(2, 4, 3), (2, 10), "conv1d", 28, 4 * 8 * 2 * 3),
        (nn.Conv2d(2, 4, 3, padding=1), (2, 6, 6), "conv2d", 76, 4 * 36 * 18),
        (nn.Conv2d(4, 8, 3, 2, 1, groups=2), (4, 8, 8), "conv2d", 8 * 18 + 8, 8 * 16 * 18),
        (nn.Conv2d(6, 6, 3, groups=6), (6, 5, 5), "conv2d", 60, 6 * 9 * 9),
        (nn.Conv3d(1, 2, 2), (1, 4, 4, 4), "conv3d", 18, 2 * 27 * 8),
        (nn.ConvTranspose1d(2, 3, 4, 2), (2, 5), "conv_transpose1d", 27, 10 * 12),
        (nn.ConvTranspose2d(4, 6, 2, 2), (4, 3, 3), "conv_transpose2d", 102, 36 * 24),
        (nn.ConvTranspose2d(4, 6, 2, 2, groups=2), (4, 3, 3), "conv_transpose2d", 54, 36 * 12),
        (nn.ConvTranspose3d(1, 1, 2), (1, 2, 2, 2), "conv_transpose3d", 9, 64),
    ],
)
def test_parameters_and_macs_in_closed_form(module, shape, op, params, macs):
    layer = one(module, *shape)
    assert (layer.op, layer.params, layer.macs) == (op, params, macs)
    assert layer.weight_shape == tuple(module.weight.shape)
    assert layer.output_shape == tuple(module(torch.zeros(1, *shape)).shape)


def test_depthwise_is_recognised_and_same_padding_is_a_number():
    layer = one(nn.Conv2d(4, 4, 3, padding="same", groups=4), 4, 5, 5)
    assert layer.is_depthwise
    assert layer.padding == (1, 1)
    assert not one(nn.Conv2d(4, 4, 3, groups=2), 4, 5, 5).is_depthwise


@pytest.mark.parametrize("folded", [False, True])
def test_a_residual_network_in_execution_order(folded):
    model = tiny_conv_net()
    traced = trace(fold_batch_norm(model).model if folded else model, IMAGE)
    names = [layer.name for layer in traced.layers]
    assert names == [
        "stem.0",
        "block.conv1",
        "block.conv2",
        "block.shortcut.0",
        "depthwise",
        "head",
    ]
    assert [layer.index for layer in traced.layers] == list(range(6))
    by_name = {layer.name: layer for layer in traced.layers}
    assert {name: layer.macs for name, layer in by_name.items()} == {
        "stem.0": 8 * 8 * 4 * (1 * 3 * 3),
        "block.conv1": 4 * 4 * 8 * (4 * 3 * 3),  # stride 2
        "block.conv2": 4 * 4 * 8 * (8 * 3 * 3),
        "block.shortcut.0": 4 * 4 * 8 * 4,
        "depthwise": 4 * 4 * 8 * (1 * 3 * 3),
        "head": 8 * 3,
    }
    assert by_name["stem.0"].producers == ("@input",)
    assert by_name["block.conv1"].producers == ("stem.0",)
    assert by_name["block.shortcut.0"].producers == ("stem.0",)
    assert by_name["depthwise"].producers == ("@float",)
    assert by_name["head"].producers == ("depthwise",)
    assert by_name["block.conv1"].fused_with == "relu"
    assert by_name["block.conv2"].fused_with == ""
    assert not by_name["stem.0"].input_nonnegative
    assert by_name["block.conv2"].input_nonnegative
    assert by_name["depthwise"].input_nonnegative
    assert traced.residual == (("block.conv2", "block.shortcut.0"),)
    assert traced.same_input_conv == (("block.conv1", "block.shortcut.0"),)
    assert traced.same_input == ()
    assert traced.warning == ""


def test_a_transformer_names_its_attention_products():
    traced = trace(tiny_transformer(), IMAGE)
    assert len(traced.layers) == 8
    assert [(item.name, item.op, item.reason) for item in traced.skipped] == [
        ("blocks.0.attention.matmul", "matmul", "a product of activations"),
        ("blocks.0.attention.matmul_1", "matmul", "a product of activations"),
    ]
    (tied,) = traced.same_input
    assert tied == tuple(f"blocks.0.attention.{n}" for n in ("query", "key", "value"))
    by_name = {layer.name: layer for layer in traced.layers}
    assert [layer.macs for layer in traced.layers if layer.weight_shape == (8, 8)] == [4 * 64] * 4
    assert by_name["embed"].macs == 4 * 16 * 8  # 4 patches of 16 pixels, width 8
    assert by_name["head"].macs == 8 * 3
    query = by_name[tied[0]]
    assert query.producers == ("@float",)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.b(self.a(x))


def test_a_model_fx_cannot_follow_still_has_an_inventory_and_says_what_is_missing():
    traced = trace(Branching(), torch.zeros(1, 3))
    assert [layer.name for layer in traced.layers] == ["a", "b"]
    assert "could not be traced" in traced.warning
    assert traced.layers[0].producers == ("@float",)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.other(self.one(self.one(x)))


def test_a_layer_called_twice_is_one_layer_and_shared_weights_are_found():
    traced = trace(Twice(), torch.zeros(1, 4))
    assert [(layer.name, layer.macs) for layer in traced.layers] == [("one", 32), ("other", 16)]
    assert traced.shared == (("one", "other"),)


class Windows(nn.Module):
    """Folds its 6 tokens of 4 features into the batch axis, as windowed attention does."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 8)

    def forward(self, x):
        return self.project(input=x.reshape(-1, 4))


def test_macs_count_tokens_folded_into_the_batch_axis():
    (layer,) = trace(Windows(), torch.zeros(1, 6, 4)).layers
    assert layer.macs == 6 * 4 * 8
    assert layer.producers == ("@input",)


class Subclass(nn.Linear):
    pass


class Packed(nn.Module):
    """Modules with weights of which none but the head can be quantized."""

    def __init__(self):
        super().__init__()
        self.subclass = Subclass(4, 4)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.recurrent = nn.GRU(4, 4, batch_first=True)
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.normed(self.subclass(x))
        x, _ = self.attention(x, x, x)
        return self.head(self.recurrent(x)[0])


class NoTracer:
    def trace(self, model):
        raise NotImplementedError("no graph\nand more")


@pytest.mark.parametrize("traceable", [True, False])
def test_nothing_with_weights_is_left_out_silently(traceable, monkeypatch):
    if not traceable:
        monkeypatch.setattr("spaces.inventory._Tracer", NoTracer)
    traced = trace(Packed(), torch.zeros(1, 3, 4))
    assert (traced.warning == "") == traceable
    assert [layer.name for layer in traced.layers] == ["head"]
    assert {item.name: (item.op, item.reason.split("; ")[0]) for item in traced.skipped} == {
        "subclass": (
            "Subclass",
            "a subclass of a quantizable module, whose forward may differ",
        ),
        "normed": ("Linear", "its weight is parametrized"),
        "attention": ("MultiheadAttention", "its weights are packed"),
        "recurrent": ("GRU", "recurrent layers are not supported"),
        "unused": ("Linear", "not called on the example"),
    }


class Functional(nn.Module):
    """One quantizable layer, the rest as function and method calls."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.zeros(4, 4))
        self.kernel = nn.Parameter(torch.zeros(1, 1, 3))

    def forward(self, x):
        y = F.conv1d(self.inner(x)[:, None], self.kernel, padding=1)
        y = F.conv_transpose1d(y, self.kernel, padding=1)[:, 0]
        y = torch.mm(y, self.weight).mm(self.weight) @ self.weight
        y = torch.einsum("ij,jk->ik", torch.addmm(y, y, self.weight), self.weight)
        return F.scaled_dot_product_attention(F.linear(y, self.weight), y, y)


def test_products_written_as_calls_are_skipped_with_the_reason():
    skipped = trace(Functional(), torch.zeros(1, 4)).skipped
    assert [item.op for item in skipped] == [
        *("conv1d", "conv_transpose1d", "mm", "mm", "matmul", "addmm", "einsum"),
        *("linear", "attention"),
    ]
    reasons = {item.op: item.reason for item in skipped}
    assert reasons["linear"].startswith("called as a function")
    assert reasons["attention"] == "a product of activations"


def test_layers_inside_a_module_fx_does_not_enter_have_float_edges():
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    traced = trace(nn.Sequential(encoder, nn.Linear(8, 2)), torch.zeros(1, 3, 8))
    assert {layer.name: layer.producers for layer in traced.layers} == {
        "0.linear1": ("@float",),
        "0.linear2": ("@float",),
        "1": ("@float",),
    }


def test_tracing_leaves_batch_norms_and_training_mode_as_they_were():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    model[2].eval()
    trace(model, torch.randn(1, 1, 5, 5))
    assert [module.training for module in model] == [True, True, False]
    assert model.training
    assert model[1].num_batches_tracked == 0
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("shape", [(2, 4), ()])
def test_the_example_is_one_sample(shape):
    with pytest.raises(DataError, match=r"(?s)example input has shape.*example_input\[:1\]"):
        trace(nn.Sequential(nn.Linear(4, 2)), torch.zeros(shape))


def test_a_model_without_layers_says_what_was_skipped():
    with pytest.raises(DataError, match=r"(?s)no quantizable layer.*fix: 0: recurrent layers"):
        trace(nn.Sequential(nn.LSTM(4, 4)), torch.zeros(1, 3, 4))


def test_an_embedding_is_skipped_with_the_reason():
    traced = trace(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)), torch.zeros(1, 3).long())
    assert [(item.op, item.reason) for item in traced.skipped] == [
        ("Embedding", "a look-up, not a matrix product")
    ]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.ReLU()), "no quantizable layer"),
        (nn.Sequential(nn.Linear(3, 2)), r"cannot run one sample of shape \[1, 1, 8, 8\]"),
    ],
)
def test_models_that_offer_nothing_are_refused(model, message):
    with pytest.raises(DataError, match=message):
        trace(model, IMAGE)
