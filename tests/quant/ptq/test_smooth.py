"""Migration of outliers: the function stays, the ranges even out."""

import pytest
import torch
from torch import nn

from quant.folding import share_copy
from quant.ptq.smooth import migration, smooth


class Shared(nn.Module):
    """A layer norm that two layers read, and a chain behind ReLUs."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.query, self.key = nn.Linear(6, 4), nn.Linear(6, 4)
        self.up, self.relu, self.down = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)
        with torch.no_grad():
            self.norm.weight[1] = 40.0
            self.up.weight[2] *= 30

    def forward(self, x):
        x = self.norm(x)
        return self.down(self.relu(self.up(self.query(x) * self.key(x))))


def data():
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(0))


def peak_ratio(model, name):
    seen = []
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    with torch.no_grad():
        model(data())
    hook.remove()
    peaks = seen[0].abs().amax(0)
    return (peaks.max() / peaks.median()).item()


def test_the_function_stays_and_outliers_move():
    model = Shared().eval()
    copy = share_copy(model)
    assert sorted(smooth(copy, [data()])) == ["down", "key", "query"]
    with torch.no_grad():
        torch.testing.assert_close(copy(data()), model(data()), rtol=1e-4, atol=1e-4)
    for name in ("query", "down"):
        assert peak_ratio(copy, name) < 0.5 * peak_ratio(model, name)
    assert model.norm.weight[1].item() == 40.0


def test_convolutions_behind_relus_are_smoothed_too():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)).eval()
    with torch.no_grad():
        net[0].weight[1] *= 50
    copy, x = share_copy(net), torch.randn(3, 1, 8, 8)
    assert smooth(copy, [x]) == ["2"]
    with torch.no_grad():
        torch.testing.assert_close(copy(x), net(x), rtol=1e-4, atol=1e-4)


def test_limits_of_the_exponent():
    activation, weight = torch.tensor([4.0, 1.0]), torch.tensor([2.0, 0.5])
    torch.testing.assert_close(migration(activation, weight, 1.0), activation)
    torch.testing.assert_close(migration(activation, weight, 0.0), 1 / weight)
    even = migration(activation, weight, 0.5)
    torch.testing.assert_close(activation / even, weight * even)


@pytest.mark.parametrize("dead", [(0.0, 1.0), (1.0, 0.0)])
def test_channels_without_signal_are_left_alone(dead):
    scale = migration(torch.tensor([dead[0]]), torch.tensor([dead[1]]), 0.5)
    assert scale.item() == 1


def test_a_tensor_with_other_readers_is_left():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.norm(x)
            return x + self.fc(x)

    assert smooth(Residual(), [torch.randn(2, 4)]) == []
