import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from quant.folding import fold_batch_norm, share_copy
from tests.quant.models import images, randomise_norms, residual_net

NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONVS = {
    (kind, sides): getattr(nn, f"{kind}{sides}d")
    for kind in ("Conv", "ConvTranspose")
    for sides in (1, 2, 3)
}


def assert_same_outputs(model, folded, x):
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), folded(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "sides"), list(CONVS))
def test_every_convolution_folds(kind, sides, bias, groups):
    conv = CONVS[kind, sides](4, 8, 3, groups=groups, bias=bias)
    model = randomise_norms(nn.Sequential(conv, NORMS[sides](8)))
    result = fold_batch_norm(model)
    assert result.folded == {"1": "0"}
    assert result.left == {}
    assert isinstance(result.model[1], nn.Identity)
    x = torch.randn(2, 4, *[6] * sides, generator=torch.Generator().manual_seed(0))
    assert_same_outputs(model, result.model, x)


def test_linear_and_norm_without_affine_fold():
    model = randomise_norms(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False)))
    x = torch.randn(5, 4)
    result = fold_batch_norm(model, x)
    assert result.folded == {"1": "0"}
    assert_same_outputs(model, result.model, x)


def test_a_norm_over_tokens_does_not_fold_even_where_the_sizes_agree():
    model = randomise_norms(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)))
    tokens = torch.randn(5, 6, 4)  # the norm reads axis 1, as long as there are features
    result = fold_batch_norm(model, tokens)
    assert result.folded == {}
    assert result.left["1"].startswith("it normalises the second of 3 axes")
    assert_same_outputs(model, result.model, tokens)


def test_without_an_example_a_norm_behind_a_linear_layer_is_left():
    model = randomise_norms(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)))
    assert "unknown without an example" in fold_batch_norm(model).left["1"]


def test_what_a_norm_knows_outlives_it():
    model = randomise_norms(nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)))
    known = fold_batch_norm(model).statistics["0"]
    assert torch.equal(known.mean, model[1].bias)
    assert torch.equal(known.std, model[1].weight.abs())


def test_a_residual_net_folds_completely_and_the_given_model_is_untouched():
    model = residual_net().train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = fold_batch_norm(model)
    assert result.folded == {"1": "0", "3.bn1": "3.conv1", "3.bn2": "3.conv2"}
    assert model.training
    assert not result.model.training
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    assert isinstance(model[1], nn.BatchNorm2d)
    assert_same_outputs(model, result.model, images())


def test_closed_form():
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    nn.init.constant_(conv.weight, 3.0)
    nn.init.constant_(conv.bias, 1.0)
    norm.running_mean.fill_(5.0)
    norm.running_var.fill_(4.0)
    nn.init.constant_(norm.weight, 10.0)
    nn.init.constant_(norm.bias, 0.5)
    folded = fold_batch_norm(nn.Sequential(conv, norm)).model[0]
    assert folded.weight.item() == 15.0  # 10 / 2 * 3
    assert folded.bias.item() == -19.5  # 10 / 2 * (1 - 5) + 0.5


def test_unchanged_tensors_are_shared_and_changed_ones_are_new():
    model = residual_net()
    folded = fold_batch_norm(model).model
    assert folded[6].weight.data_ptr() == model[6].weight.data_ptr()
    assert folded[0].weight.data_ptr() != model[0].weight.data_ptr()


def test_a_model_without_norms_is_copied_in_structure_only():
    model = nn.Sequential(nn.Linear(2, 2)).train()
    result = fold_batch_norm(model)
    assert result.model is not model
    assert result.model[0].weight.data_ptr() == model[0].weight.data_ptr()
    assert (result.folded, result.left) == ({}, {})


class Branched(nn.Module):
    """The convolution feeds the norm and a shortcut."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class Twice(nn.Module):
    """The convolution is applied twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

    def forward(self, x):
        return self.bn(self.conv(self.conv(x)))


class NormTwice(nn.Module):
    """The norm is applied twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

    def forward(self, x):
        return self.bn(self.bn(self.conv(x)))


class Flow(nn.Module):
    """Control flow on data, which tracing refuses."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

    def forward(self, x):
        return self.bn(self.conv(x)) if x.sum() > 0 else x


class Unused(nn.Module):
    """The norm is never called."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

    def forward(self, x):
        return self.conv(x)


def shared_weight():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("model", "norm", "reason"),
    [
        (Branched(), "bn", "the output of 'conv' is also used elsewhere"),
        (Twice(), "bn", "layer 'conv' is used more than once"),
        (NormTwice(), "bn", "it is used more than once"),
        (Flow(), "bn", "the model cannot be traced"),
        (Unused(), "bn", "it is not used in the forward pass"),
        (shared_weight(), "1", "layer '0' shares its weight"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(1)), "1", "it follows '0', a ReLU"),
        (nn.Sequential(nn.BatchNorm2d(1)), "0", "it does not follow a convolution"),
        (
            nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, track_running_stats=False)),
            "1",
            "it has no running statistics",
        ),
        (
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5)),
            "1",
            "its 5 features are not the output channels of '0'",
        ),
        (
            nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4)),
            "1",
            "layer '0' is parametrized",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_what_cannot_fold_is_left_with_the_reason(model, norm, reason):
    result = fold_batch_norm(randomise_norms(model))
    assert result.folded == {}
    assert result.left[norm].startswith(reason)
    assert not isinstance(result.model.get_submodule(norm), nn.Identity)


def test_what_is_left_still_computes_the_same():
    for model in (Branched(), Twice(), NormTwice(), Flow()):
        randomise_norms(model)
        assert_same_outputs(model, fold_batch_norm(model).model, images(2))


def test_subclasses_of_layers_fold_too():
    class OwnConv(nn.Conv2d):
        pass

    model = randomise_norms(nn.Sequential(OwnConv(1, 2, 3), nn.BatchNorm2d(2)))
    result = fold_batch_norm(model)
    assert result.folded == {"1": "0"}
    assert_same_outputs(model, result.model, images(2))


def test_share_copy_shares_memory_and_nothing_else():
    model = residual_net()
    model[6].bias.requires_grad_(False)
    copy = share_copy(model)
    pairs = zip(model.modules(), copy.modules(), strict=True)
    assert all(a is not b and type(a) is type(b) for a, b in pairs)
    own, other = model.state_dict(keep_vars=True), copy.state_dict(keep_vars=True)
    assert list(own) == list(other)
    for name in own:
        assert own[name] is not other[name]
        assert own[name].data_ptr() == other[name].data_ptr()
        assert own[name].requires_grad == other[name].requires_grad
    copy(images()).sum().backward()
    assert copy[0].weight.grad is not None
    assert model[0].weight.grad is None


def test_share_copy_keeps_ties():
    model = shared_weight()
    copy = share_copy(model)
    assert copy[0].weight is copy[2].weight
