"""KFAC and EKFAC: exact where they are, best in their eigenbasis elsewhere, and resumable."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nets import dense_gauss_newton, objective, problem
from torch import nn

import assay
from assay.curvature.cg import CG
from assay.curvature.gradients import every_gradient
from assay.curvature.kfac import EKFAC, KFAC
from assay.curvature.objective import Tactics
from assay.curvature.output_loss import OnModel
from assay.curvature.products import GaussNewton, Hessian
from assay.curvature.random_signs import combined, signs
from assay.curvature.reading import Reading
from assay.curvature.sums import Checkpoint
from assay.sources.open_examples import open_examples


@pytest.mark.parametrize("method", [KFAC, EKFAC])
@pytest.mark.parametrize("bias", [True, False])
def test_exact_for_one_linear_layer_under_squared_error(method, bias: bool):
    torch.manual_seed(0)
    net = nn.Linear(4, 3, bias=bias).double()
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 3, dtype=torch.float64)
    w = torch.rand(30, dtype=torch.float64).numpy()
    ob = objective(net, x, y, loss="linear", l2={"weight": 0.02}, weights=w)
    eye = torch.eye(ob.P, dtype=torch.float64)
    made = method(0.01).of(Hessian(ob))
    if not bias:  # a penalty on the weights alone is no multiple of the identity once there is a bias
        torch.testing.assert_close(made.matrix(), Hessian(ob)(eye), rtol=1e-10, atol=1e-12)
    plain = objective(net, x, y, loss="linear", weights=w, l2=0.02)
    torch.testing.assert_close(method(0.01).of(Hessian(plain)).matrix(), Hessian(plain)(eye), rtol=1e-10, atol=1e-12)
    V = torch.cat(list(every_gradient(plain)))
    solved = CG(0.01).of(Hessian(plain)).solve(V).value
    torch.testing.assert_close(method(0.01).of(Hessian(plain)).solve(V).value, solved, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["sigmoid", "relu", "cnn"])
@pytest.mark.parametrize("seed", [0, 1])
def test_ekfac_is_never_further_from_the_gauss_newton_matrix_than_kfac(name: str, seed: int):
    net, x, y = problem(name, n=30, seed=seed)
    ob = objective(net, x, y, params=[nn.Linear, nn.Conv2d])
    G = dense_gauss_newton(ob, x, y)
    far, near = ((m(1e-3).of(GaussNewton(ob)).matrix() - G).norm() for m in (KFAC, EKFAC))
    assert near <= far * (1 + 1e-12)
    assert near < 0.9 * G.norm()


def test_ekfac_has_the_exact_diagonal_in_its_basis():
    net, x, y = problem("cnn", n=30)
    ob = objective(net, x, y, params=[nn.Linear, nn.Conv2d])
    G = dense_gauss_newton(ob, x, y)
    made = EKFAC(1e-3).of(GaussNewton(ob))
    for layer, basis, values in zip(made.layers, made.bases, made.values, strict=True):
        names = [name for name in (layer.weight, layer.bias) if name]
        places = torch.cat([torch.arange(ob.P)[ob.parameters.slices[name]] for name in names])
        block = G[places][:, places]
        width = layer.columns - (1 if layer.bias else 0)
        weights = torch.arange(layer.out * width).view(layer.out, width)
        biases = layer.out * width + torch.arange(layer.out)[:, None]
        order = torch.cat([weights, biases], 1) if layer.bias else weights
        Q = torch.kron(basis.Q_b, basis.Q_a)
        turned = Q.T @ block[order.flatten()][:, order.flatten()] @ Q
        torch.testing.assert_close(turned.diagonal(), values.flatten(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["sigmoid", "cnn", "head"])
@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.slow), 7, 100])
def test_self_influence_forms_no_gradient_and_is_the_same(name: str, rows: int):
    net, x, y = problem(name, n=30)
    ob = objective(net, x, y, params=[nn.Linear, nn.Conv2d], l2=0.01, tactics=Tactics(rows=rows))
    for draws in (None, 2):
        made = EKFAC(1e-3, draws=draws).of(GaussNewton(ob))
        V = torch.cat(list(every_gradient(ob)))
        torch.testing.assert_close(made.self_influence(ob).value, made.quadratic(V).value, rtol=1e-9, atol=1e-12)
        whole = EKFAC(1e-3, draws=draws).of(GaussNewton(objective(net, x, y, params=[nn.Linear, nn.Conv2d], l2=0.01)))
        torch.testing.assert_close(made.quadratic(V).value, whole.quadratic(V).value, rtol=1e-8, atol=1e-12)


def test_a_layer_called_twice_and_on_several_places():
    """Weight sharing in time: the gradient is the sum over calls and places."""
    torch.manual_seed(0)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(torch.tanh(self.inner(torch.tanh(self.inner(x)))).mean(1))

    net = Twice().double()
    x, y = torch.randn(20, 5, 4, dtype=torch.float64), torch.randint(0, 3, (20,))
    ob = objective(net, x, y)
    made = EKFAC(1e-2).of(GaussNewton(ob))
    V = torch.cat(list(every_gradient(ob)))
    torch.testing.assert_close(made.self_influence(ob).value, made.quadratic(V).value, rtol=1e-9, atol=1e-12)


def test_sampled_outputs_approach_the_exact_sum():
    net, x, y = problem("sigmoid", n=60)
    ob = objective(net, x, y)
    exact = EKFAC(1e-2).of(GaussNewton(ob)).matrix()
    few, many = (
        (EKFAC(1e-2, draws=draws).of(GaussNewton(ob)).matrix() - exact).norm() / exact.norm() for draws in (1, 64)
    )
    assert many < 0.05
    assert many < few


def test_random_signs_belong_to_samples():
    like = torch.empty(0, dtype=torch.float64)
    whole = signs(0, 1000, 6, 3, like)
    assert set(whole.flatten().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(torch.cat([signs(0, 400, 6, 3, like), signs(400, 600, 6, 3, like)]), whole)
    assert float(whole.mean(0).abs().max()) < 0.15
    assert float((whole.T @ whole / 1000 - torch.eye(6)).abs().max()) < 0.15
    assert not torch.equal(whole, signs(0, 1000, 6, 4, like))
    roots = torch.randn(1000, 6, 3, dtype=torch.float64)
    assert combined(roots, 0, 3).shape == (1000, 3)


@pytest.mark.parametrize(
    ("name", "params", "match"),
    [
        (
            "transformer",
            "layer.self_attn.in_proj*",
            r"in_proj_bias are of other modules; leave them out with params=\[",
        ),
        ("transformer", None, "are of other modules"),
    ],
)
def test_other_layers_are_refused_by_name(name: str, params, match: str):
    net, x, y = problem(name)
    with pytest.raises(assay.ShapeError, match=match):
        EKFAC(1e-2).of(GaussNewton(objective(net, x, y, params=params)))


def test_tied_weights_and_losses_without_outputs_are_refused():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False)).double()
    net[2].weight = net[0].weight
    x, y = torch.randn(10, 4, dtype=torch.float64), torch.randint(0, 4, (10,))
    with pytest.raises(assay.ShapeError, match="tied"):
        EKFAC(1e-2).of(GaussNewton(objective(net, x, y)))
    plain, x, y = problem("head")
    ob = objective(plain, x, y)
    ob = type(ob)(plain, OnModel(lambda m, b: m(b[0]).square().sum(1)), ob.reading, ob.parameters, ob.l2)
    with pytest.raises(assay.ShapeError, match="no outputs to take a Gauss-Newton matrix in"):
        EKFAC(1e-2).of(Hessian(ob))


def test_a_singular_layer_is_named():
    net, x, y = problem("head")
    with pytest.raises(assay.SingularCurvatureError, match="give damping= or l2="):
        EKFAC().of(GaussNewton(objective(net, x, y)))


class Normed(nn.Module):
    """Every kind of normalisation, and rows of several places folded into the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1, dilation=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 4, (2, 1), stride=(1, 2), padding=(1, 0), dilation=(2, 1)), nn.GroupNorm(2, 4), nn.ReLU(),
        )  # fmt: skip
        self.norm, self.fold, self.out = nn.LayerNorm(4), nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x):
        h = self.norm(self.body(x).flatten(2).mT)
        rows = self.fold(h.reshape(-1, 4))  # [b T, 4]
        return self.out(torch.tanh(rows).reshape(len(x), -1, 3).mean(1))


def normed(n: int = 20):
    torch.manual_seed(0)
    net = Normed().double()
    net.body[1].running_mean.uniform_(-0.5, 0.5)
    net.body[1].running_var.uniform_(0.5, 2)
    return net, torch.randn(n, 1, 6, 6, dtype=torch.float64), torch.randint(0, 3, (n,))


@pytest.mark.parametrize("method", [KFAC, EKFAC])
def test_normalisations_are_blocks_of_their_own_and_exact(method):
    """γ and β of BatchNorm, GroupNorm and LayerNorm together are the Gauss-Newton matrix's own block."""
    net, x, y = normed()
    w = torch.rand(20, dtype=torch.float64).numpy()
    for params in ("body.1", "body.4", "norm", ["norm.bias"]):
        ob = objective(net, x, y, params=params, weights=w, l2=0.01)
        eye = torch.eye(ob.P, dtype=torch.float64)
        found = method(0.1).of(GaussNewton(ob)).matrix()
        torch.testing.assert_close(found, GaussNewton(ob)(eye), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [7, 100])
def test_a_whole_network_with_normalisations(rows: int):
    net, x, y = normed()
    ob = objective(net, x, y, l2=0.01, tactics=Tactics(rows=rows))
    made = EKFAC(1e-2).of(GaussNewton(ob))
    V = torch.cat(list(every_gradient(ob)))
    torch.testing.assert_close(made.self_influence(ob).value, made.quadratic(V).value, rtol=1e-9, atol=1e-12)
    G = GaussNewton(ob)(torch.eye(ob.P, dtype=torch.float64))
    far, near = ((m(1e-2).of(GaussNewton(ob)).matrix() - G).norm() for m in (KFAC, EKFAC))
    assert near <= far * (1 + 1e-12)


class Elsewhere(nn.Module):
    """Its first weight serves a second time, outside of its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.inner(x)) @ self.inner.weight)


class PlacesFirst(nn.Module):
    """Samples on the second axis, as transformers without `batch_first` have them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.inner(x.transpose(0, 1))).mean(0))


@pytest.mark.parametrize(("make", "shape"), [(Elsewhere, (4,)), (PlacesFirst, (5, 4))])
def test_a_weight_used_outside_of_its_layer_is_refused(make, shape):
    """The factors would be wrong, and nothing would tell."""
    torch.manual_seed(0)
    net, x, y = make().double(), torch.randn(10, *shape, dtype=torch.float64), torch.randint(0, 3, (10,))
    with pytest.raises(assay.ShapeError, match=r"the gradient in inner.weight is not that of its layer's inputs"):
        EKFAC(1e-2).of(GaussNewton(objective(net, x, y)))
    EKFAC(1e-2).of(GaussNewton(objective(net, x, y, params="out")))


def test_a_small_damping_in_float32_is_no_singularity():
    net, x, y = problem("head")
    net, x = net.float(), 100 * x.float()
    with pytest.raises(assay.SingularCurvatureError, match="give damping= or l2="):
        EKFAC().of(GaussNewton(objective(net, x, y)))
    EKFAC(1e-6).of(GaussNewton(objective(net, x, y)))


class Stopping(torch.utils.data.Dataset):
    """Samples, of which one stops a reading in order."""

    def __init__(self, x, y, at: int | None) -> None:
        self.x, self.y, self.at, self.read, self.last = x, y, at, 0, -1

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, k):
        self.read += 1
        if k == self.at and self.last == k - 1:
            raise KeyboardInterrupt
        self.last = k
        return self.x[k], int(self.y[k])


def test_an_interrupted_computation_goes_on_where_it_stopped(tmp_path: Path):
    net, x, y = problem("sigmoid", n=200)

    def over(data):
        ob = objective(net, x, y)
        examples = replace(open_examples(data), batch=8)
        return replace(ob, reading=Reading(examples, next(net.parameters()).detach(), held=0))

    keep = Checkpoint(tmp_path / "factors")
    stopping = Stopping(x, y, 150)
    with pytest.raises(KeyboardInterrupt):
        EKFAC(0.01, checkpoint=keep).of(GaussNewton(over(stopping)))
    assert (tmp_path / "factors" / "factors.safetensors").exists()
    going = Stopping(x, y, None)
    found = EKFAC(0.01, checkpoint=keep).of(GaussNewton(over(going))).matrix()
    torch.testing.assert_close(
        found, EKFAC(0.01).of(GaussNewton(over(Stopping(x, y, None)))).matrix(), rtol=1e-12, atol=0
    )
    whole = Stopping(x, y, None)
    EKFAC(0.01).of(GaussNewton(over(whole)))
    assert going.read <= whole.read - 60, "what was summed is not read again"
    again = Stopping(x, y, None)
    assert torch.equal(EKFAC(0.01, checkpoint=keep).of(GaussNewton(over(again))).matrix(), found)
    with torch.no_grad():
        net[0].weight += 1
    with pytest.raises(assay.OutputError, match="of another model"):
        EKFAC(0.01, checkpoint=keep).of(GaussNewton(over(again)))
    (tmp_path / "factors" / "factors.safetensors").write_bytes(b"torn")
    with pytest.raises(assay.OutputError, match="damaged"):
        EKFAC(0.01, checkpoint=keep).of(GaussNewton(over(again)))


def test_sums_of_another_loss_or_of_other_samples_are_not_gone_on_with(tmp_path: Path):
    """Also where the first samples are the same, or the loss is a function that has no name."""
    net, x, y = problem("sigmoid", n=200)
    keep = Checkpoint(tmp_path)
    EKFAC(0.01, checkpoint=keep).of(GaussNewton(objective(net, x, y)))
    moved = x.clone()
    moved[150] += 1
    squared = objective(net, x, y, loss=lambda z, t: z.square().sum(1))
    for other in (squared, objective(net, moved, y)):
        with pytest.raises(assay.OutputError, match="of another model or loss, other samples"):
            EKFAC(0.01, checkpoint=keep).of(GaussNewton(other))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(moved, y), batch_size=16)
    streamed = objective(net, x, y)
    reading = Reading(open_examples(loader), x[0], held=0)
    with pytest.raises(assay.OutputError, match="other samples"):
        EKFAC(0.01, checkpoint=keep).of(GaussNewton(replace(streamed, reading=reading)))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from nets import objective, problem
from assay.curvature.kfac import EKFAC
from assay.curvature.products import GaussNewton
from assay.curvature.sums import Checkpoint
import assay.curvature.objective as o
net, x, y = problem("sigmoid", n=200)
ob = objective(net, x, y, tactics=o.Tactics(rows=20))
plain, calls = EKFAC._factors, []
def dying(self, *given):
    calls.append(1)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, *given)
EKFAC._factors = dying
EKFAC(0.01, checkpoint=Checkpoint(Path(sys.argv[1]), seconds=0)).of(GaussNewton(ob))
"""


@pytest.mark.slow
def test_a_killed_computation_goes_on_and_is_the_same(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["factors.safetensors"]
    net, x, y = problem("sigmoid", n=200)
    found = EKFAC(0.01, checkpoint=Checkpoint(tmp_path)).of(GaussNewton(objective(net, x, y))).matrix()
    whole = EKFAC(0.01).of(GaussNewton(objective(net, x, y))).matrix()
    torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-14)
