"""`assay.Influence` against dense algebra, the head's exact path, and real retrainings."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import assay

sys.path.insert(0, str(Path(__file__).parent.parent / "curvature"))
from nets import MAKERS, dense_gauss_newton, dense_hessian, losses, objective, problem

L2 = 0.02


def converged(n: int = 60, classes: int = 3, seed: int = 0):
    """A small sigmoid MLP at a minimum of its penalised loss, to a gradient norm of 1e-10, with held-out samples."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, classes)).double()
    x, t = torch.randn(n, 4, dtype=torch.float64), torch.randn(10, 4, dtype=torch.float64)
    truth = torch.randn(4, classes, dtype=torch.float64) * 2
    y, ty = ((v @ truth + torch.randn(len(v), classes)).argmax(1) for v in (x, t))
    ob = objective(net, x, y, l2=L2)
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=2000, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(net(x), y)
        value = value + L2 / 2 * sum(p.square().sum() for p in net.parameters())
        value.backward()
        return value

    optimiser.step(closure)
    theta = minimum(ob, x, y, torch.full((n,), 1 / n, dtype=torch.float64))
    with torch.no_grad():
        for p, value in zip(net.parameters(), ob.parameters.split(theta).values(), strict=True):
            p.copy_(value)
            p.grad = None
    return net, x, y, t, ty


def minimum(ob, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Newton on `Σ w ℓ + (L2/2)‖θ‖²` from the network's weights."""
    theta = ob.parameters.join({n: p.detach() for n, p in ob.model.named_parameters()})

    def F(v: Tensor) -> Tensor:
        return w @ losses(ob, v, x, y) + L2 / 2 * v.square().sum()

    for _ in range(20):
        g = torch.func.grad(F)(theta)
        if float(g.norm()) < 1e-11:
            break
        theta = theta - torch.linalg.solve(torch.autograd.functional.hessian(F, theta), g)
    assert float(torch.func.grad(F)(theta).norm()) < 1e-6
    return theta.detach()


@pytest.fixture(scope="module")
def trained():
    return converged()


def rows_of(net, x, y) -> Tensor:
    ob = objective(net, x, y)
    theta = ob.parameters.join(ob.theta)
    return torch.autograd.functional.jacobian(lambda v: losses(ob, v, x, y), theta)


def truth(trained) -> tuple[Tensor, Tensor, Tensor]:
    """H, the gradients of the training samples and of the test samples."""
    net, x, y, t, ty = trained
    return dense_hessian(objective(net, x, y, l2=L2), x, y), rows_of(net, x, y), rows_of(net, t, ty)


def test_upweighting_moves_the_test_loss_as_predicted(trained):
    """Koh & Liang's definition: `dℓ_t(θ_ε)/dε = −I(i, t)` where θ_ε minimises `F + ε ℓ_i`; real retrainings."""
    net, x, y, t, ty = trained
    ob, n, epsilon = objective(net, x, y, l2=L2), len(x), 1e-3
    influence = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.CG())
    predicted, moved = [], []
    found = influence.on((t, ty), top_k=n)
    values = torch.zeros(n, len(t), dtype=torch.float64)
    for k in range(len(t)):
        for ranking in (found.supporters[k], found.opponents[k]):
            values[list(ranking.positions), k] = torch.tensor(ranking.values, dtype=torch.float64)
    for i in range(40):
        ends = []
        for sign in (1, -1):
            w = torch.full((n,), 1 / n, dtype=torch.float64)
            w[i] += sign * epsilon
            ends.append(losses(ob, minimum(ob, x, y, w), t, ty))
        moved.append((ends[0] - ends[1]) / (2 * epsilon))
        predicted.append(-values[i])
    both = torch.stack([torch.cat(moved), torch.cat(predicted)])
    assert float(torch.corrcoef(both)[0, 1]) > 0.999  # 0.95 is asked for
    torch.testing.assert_close(both[0], both[1], rtol=5e-3, atol=1e-4)  # what a step of 1e-3 leaves of third order


@pytest.mark.parametrize("inverse", [assay.Dense(), assay.CG(), assay.Dense(0.1), assay.CG(0.1)])
def test_self_influence_is_cooks_distance(trained, inverse):
    net, x, y, _, _ = trained
    H, g, _ = truth(trained)
    ids = [f"s{k}" for k in range(len(x))]
    found = assay.Influence(net, nn.CrossEntropyLoss(), (x, y), ids=ids, l2=L2, inverse=inverse).self_influence()
    A = H + inverse.damping * torch.eye(len(H), dtype=H.dtype)
    torch.testing.assert_close(
        found.cooks_distance, torch.linalg.vecdot(torch.linalg.solve(A, g.T).T, g), rtol=1e-6, atol=1e-9
    )
    assert found.ids.to_pylist() == ids
    assert found.table.column_names == ["id", "cooks_distance"]
    assert found.error is None
    assert "nats" in found.unit
    assert bool(found.converged.all())


def test_a_linear_layer_has_the_heads_own_scores():
    """The exact path of the head and the operator's are one mathematics."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    x, y = torch.randn(50, 4, dtype=torch.float64), torch.randint(0, 3, (50,))
    leverage = assay.Head.from_module(layer, x, y, l2=L2, penalize_bias=True).leverage(x, y)
    influence = assay.Influence(layer, "softmax", (x, y), l2=L2, inverse=assay.Dense())
    torch.testing.assert_close(
        influence.self_influence().cooks_distance, leverage.cooks_distance(), rtol=1e-8, atol=1e-10
    )
    for order in (1, 2):
        mine, heads = influence.group([3, 5, 7], order=order), assay.group_influence(leverage, [3, 5, 7], order=order)
        torch.testing.assert_close(
            mine.loss_change((x[:9], y[:9])), heads.loss_change(x[:9], y[:9]), rtol=1e-8, atol=1e-10
        )
        assert mine.cooks_distance == pytest.approx(heads.cooks_distance)
        assert mine.share == pytest.approx(heads.share)
    mine, heads = influence.on((x[:4], y[:4]), top_k=5), assay.influence_on(leverage, x[:4], y[:4], top_k=5)
    assert [r.positions for r in mine.supporters] == [r.positions for r in heads.supporters]
    assert mine.opponents[0].values == pytest.approx(heads.opponents[0].values)


def test_influence_on_test_samples_and_its_relatives(trained):
    net, x, y, t, ty = trained
    H, g, gt = truth(trained)
    values = g @ torch.linalg.solve(H, gt.T)
    own = torch.linalg.solve(H, g.T).T
    scales = {
        None: torch.ones(len(x), dtype=torch.float64),
        assay.RelatIF.LOSS: torch.linalg.vecdot(own, g).sqrt(),
        assay.RelatIF.THETA: own.norm(dim=1),
    }
    influence = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.CG())
    for relative, scale in scales.items():
        found = influence.on((t, ty), top_k=3, relative=relative)
        expected = values / scale[:, None]
        for k in range(len(t)):
            order = expected[:, k].argsort(descending=True)
            assert found.supporters[k].positions == tuple(order[:3].tolist())
            assert found.opponents[k].positions == tuple(order.flip(0)[:3].tolist())
            assert found.supporters[k].values == pytest.approx(expected[order[:3], k].tolist(), rel=1e-5)
        assert found.relative is relative
        assert bool(found.converged.all())


def test_groups_to_two_orders(trained):
    net, x, y, t, ty = trained
    H, g, gt = truth(trained)
    ids, n = [4, 9, 17, 30], len(x)
    H_U = dense_hessian(objective(net, x[ids], y[ids]), x[ids], y[ids]) * len(ids)
    first = torch.linalg.solve(n * H, g[ids].sum(0))
    second = first + torch.linalg.solve(n * H, H_U @ first)
    influence = assay.Influence(net, "softmax", (x, y), l2=L2)
    for order, expected in ((1, first), (2, second)):
        found = influence.group(ids, order=order)
        torch.testing.assert_close(found.shift, expected, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found.loss_change((t, ty)), gt @ expected, rtol=1e-6, atol=1e-9)
        assert found.parts()["0.weight"].shape == (5, 4)
    ob, w = objective(net, x, y, l2=L2), torch.full((n,), 1 / n, dtype=torch.float64)
    w[ids] = 0
    real = minimum(ob, x, y, w) - ob.parameters.join(ob.theta)
    assert float(functional.cosine_similarity(first, real, dim=0)) > 0.9


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 7, 23])
def test_the_same_for_every_batch_size(trained, batch: int):
    """23 samples: the last batch of seven is ragged."""
    net, x, y = trained[0], trained[1][:23], trained[2][:23]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=batch)
    for inverse in (assay.Nystrom(6, 0.01, oversample=2), assay.EKFAC(0.01)):
        one, other = (
            assay.Influence(net, "softmax", data, l2=L2, inverse=inverse, check=0, budget=budget)
            for data, budget in ((loader, 2**29), ((x, y), 3_000 * batch))
        )
        torch.testing.assert_close(
            one.self_influence().cooks_distance, other.self_influence().cooks_distance, rtol=1e-7, atol=1e-10
        )


@pytest.mark.parametrize("name", MAKERS)
def test_any_network_any_parameters(name: str):
    """A part of a network, BatchNorm and Dropout in eval mode, through an operator that is never a matrix."""
    net, x, y = problem(name, n=30)
    params = {"cnn": "3", "transformer": "layer.linear*", "head": "bias"}.get(name, "3.weight")
    influence = assay.Influence(net, "softmax", (x, y), params=params, l2=0.1, curvature=assay.GaussNewton)
    ob = objective(net, x, y, params=params, l2=0.1)
    G = dense_gauss_newton(ob, x, y)
    net.eval()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        g = torch.func.jacrev(lambda v: losses(ob, v, x, y))(ob.parameters.join(ob.theta)).detach()
    net.train()
    expected = torch.linalg.vecdot(torch.linalg.solve(G, g.T).T, g)
    torch.testing.assert_close(influence.self_influence().cooks_distance, expected, rtol=1e-6, atol=1e-10)
    assert net.training


def test_weights_are_rows_given_several_times(trained):
    net, x, y, _, _ = trained
    w = np.array([2.0] * 10 + [1.0] * 50)
    weighed = assay.Influence(net, "softmax", (x, y), weights=w, l2=L2, inverse=assay.Dense(0.1))
    twice = assay.Influence(
        net, "softmax", (torch.cat([x, x[:10]]), torch.cat([y, y[:10]])), l2=L2, inverse=assay.Dense(0.1)
    )
    torch.testing.assert_close(
        weighed.self_influence().cooks_distance, twice.self_influence().cooks_distance[:60], rtol=1e-8, atol=1e-10
    )
    assert weighed.group([3], order=2).shift.shape == twice.group([3], order=2).shift.shape
    torch.testing.assert_close(weighed.group([3]).shift, twice.group([3, 63]).shift, rtol=1e-7, atol=1e-9)


def test_a_loss_on_the_model_itself(trained):
    net, x, y, _, _ = trained

    def through(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        return functional.cross_entropy(model[2](model[1](model[0](inputs))), targets, reduction="none")

    found = assay.Influence(net, assay.OnModel(through), (x, y), l2=L2).self_influence().cooks_distance
    plain = assay.Influence(net, "softmax", (x, y), l2=L2).self_influence().cooks_distance
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-9)
    with pytest.raises(assay.ShapeError, match="no outputs to take a Gauss-Newton matrix in"):
        _ = assay.Influence(net, assay.OnModel(through), (x, y), l2=L2, inverse=assay.EKFAC()).error


def test_an_approximation_states_its_error_and_a_bad_one_is_warned_of(trained):
    net, x, y, _, _ = trained
    near = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Nystrom(30, 1e-3))
    error = near.self_influence().error
    assert error is not None
    assert error.rows == 32
    assert error.median < 0.05
    assert error.scale == pytest.approx(1, abs=0.05)
    assert error.sentence in near.diagnose().sentences
    far = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Jacobi(1e-3))
    with pytest.warns(assay.AssayWarning, match="Jacobi is far off. On 32 samples, against conjugate gradients"):
        assert far.error is not None
    assert far.error.median > 0.2
    assert assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Jacobi(), check=0).error is None


def test_an_error_that_cannot_be_measured_is_said():
    net, x, y = problem("sigmoid", n=40)
    influence = assay.Influence(net, "softmax", (x, y), inverse=assay.EKFAC(1e-3), curvature=assay.Hessian)
    with pytest.warns(assay.AssayWarning, match=r"the error of EKFAC cannot be measured: the Hessian .* is indefinite"):
        assert influence.error is None


def test_auto_takes_the_cheapest_that_is_exact_enough(trained):
    net, x, y, _, _ = trained
    rough = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Auto(rtol=0.5, damping=1e-3))
    assert rough.choice is not None
    assert len(rough.choice.tried) == 1
    tight = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Auto(rtol=1e-4, damping=1e-3))
    choice = tight.choice
    assert choice is not None
    costs = [each.cost.flops for each in choice.tried]
    assert costs == sorted(costs)
    assert all(each.error.median > 1e-4 for each in choice.tried[:-1] if each.error)
    assert choice.error is None or choice.error.median <= 1e-4
    reference = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.CG(1e-3), curvature=assay.GaussNewton)
    torch.testing.assert_close(
        tight.self_influence().cooks_distance, reference.self_influence().cooks_distance, rtol=1e-3, atol=1e-8
    )
    assert any("EKFAC" in sentence for sentence in tight.diagnose().sentences)


def test_auto_passes_over_what_does_not_fit_and_says_when_nothing_does(trained):
    net, x, y, _, _ = trained
    found = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Auto(1e-6, 1e-3, memory=30_000.0)).choice
    assert found is not None
    assert any(each.refused and "GiB" in each.refused for each in found.tried)
    none = assay.Auto(1e-9, 1e-3, candidates=(assay.Jacobi(), assay.EKFAC()))
    with pytest.raises(assay.ConvergenceError, match=r"no inverse reached rtol=1e-09: Jacobi .* EKFAC"):
        _ = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=none).choice


def test_a_seeded_subsample_carries_the_curvature(trained):
    net, x, y, _, _ = trained
    part = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Dense(0.1), sample=30, seed=1)
    whole = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Dense(0.1))
    again = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Dense(0.1), sample=30, seed=1)
    found, all_ = part.self_influence().cooks_distance, whole.self_influence().cooks_distance
    assert len(found) == 60
    assert torch.equal(found, again.self_influence().cooks_distance)
    assert not torch.allclose(found, all_)
    assert float(torch.corrcoef(torch.stack([found, all_]))[0, 1]) > 0.9
    with pytest.raises(assay.ShapeError, match="sample=61, but there are 60"):
        _ = assay.Influence(net, "softmax", (x, y), sample=61).curvature


def test_the_model_is_left_as_it_was_found(trained):
    net, x, y, t, ty = trained
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    influence = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.EKFAC(0.01), check=0)
    influence.self_influence(), influence.on((t, ty)), influence.group([1, 2])
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_a_sample_that_is_not_finite_is_named_with_its_batch(trained):
    net, x, y, _, _ = trained
    bad = x.clone()
    bad[41, 2] = float("nan")
    for inverse in (assay.CG(0.01), assay.EKFAC(0.01), assay.Dense(0.01)):
        influence = assay.Influence(net, "softmax", (bad, y), l2=L2, inverse=inverse, check=0)
        with pytest.raises(
            assay.SourceError,
            match=r"sample 41 .*, in the batch of samples 0 to 59, has a loss that is not finite \(its input is not",
        ):
            influence.self_influence()


@pytest.mark.parametrize(
    ("ask", "error", "match"),
    [
        (lambda i, t: i.on(t, top_k=0), assay.ShapeError, "top_k=0"),
        (lambda i, t: i.group([]), assay.UnknownIdError, "no ids given"),
        (lambda i, t: i.group([1, 1]), assay.ShapeError, "twice"),
        (lambda i, t: i.group([1, 99]), assay.UnknownIdError, "id 99 is not among the 60 samples"),
        (lambda i, t: i.group([1], order=3), assay.ShapeError, "order=3 is not 1 or 2"),
        (lambda i, t: i.group(["a"]), assay.UnknownIdError, "the ids are int64"),
    ],
)
def test_questions_that_make_no_sense_are_refused(trained, ask, error, match: str):
    net, x, y, t, ty = trained
    with pytest.raises(error, match=match):
        ask(assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Dense()), (t, ty))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"budget": 0}, "budget=0"),
        ({"check": -1}, "check=-1"),
        ({"params": "layer4"}, "params='layer4' matches no parameter"),
        ({"weights": np.full(60, -1.0)}, "has the weight -1"),
        ({"l2": -1.0}, "l2=-1.0"),
        ({"weights": np.ones(3)}, "3 weights"),
    ],
)
def test_bad_arguments_are_refused(trained, given, match: str):
    net, x, y, _, _ = trained
    with pytest.raises((assay.ShapeError, assay.SourceError), match=match):
        assay.Influence(net, "softmax", (x, y), **given)


def test_ids_lead_back_to_the_data_set(trained):
    net, x, y, _, _ = trained
    subset = torch.utils.data.Subset(torch.utils.data.TensorDataset(x, y), list(range(10, 40)))
    influence = assay.Influence(net, "softmax", subset, l2=L2, inverse=assay.Dense(0.1))
    assert influence.self_influence().ids.equals(pa.array(range(10, 40)))
    assert influence.group([12, 30]).ids.to_pylist() == [12, 30]


def test_a_subsample_is_said(trained):
    net, x, y, _, _ = trained
    influence = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=assay.Dense(0.1), sample=30, seed=1)
    assert "Curvature summed over 30 of 60 samples (seed 1)." in influence.diagnose().sentences


def test_a_negative_self_influence_has_no_root_to_divide_by():
    """An indefinite Hessian; the quotient would be anything."""
    net, x, y = problem("sigmoid", n=40)
    influence = assay.Influence(net, "softmax", (x, y), inverse=assay.Dense(1e-3))
    with pytest.warns(assay.AssayWarning, match="negative eigenvalues"):
        _ = influence.inverted
    assert float(influence.self_influence().cooks_distance.min()) < 0
    with pytest.raises(assay.SingularCurvatureError, match=r"self-influence -.*, below zero, as \d+ of 40 have"):
        influence.on((x[:2], y[:2]), relative=assay.RelatIF.LOSS)
    influence.on((x[:2], y[:2]), relative=assay.RelatIF.THETA)


QUICK = assay.Dense(0.1), assay.Nystrom(6, 0.1), assay.KFAC(0.1), assay.EKFAC(0.1, draws=1), assay.Jacobi(0.1)
SLOW = assay.CG(0.1), assay.Arnoldi(6, 0.1), assay.Auto(0.05, 0.1), assay.LiSSA(0.5, batch=8, steps=40, rtol=0.99)


@pytest.mark.parametrize(
    "inverse", [*QUICK, *(pytest.param(inverse, marks=pytest.mark.slow) for inverse in SLOW)],
    ids=lambda i: type(i).__name__,
)  # fmt: skip
def test_every_inverse_gives_the_same_whatever_goes_together(trained, inverse):
    """1, 7 (the last batch is ragged) and all 16 samples at once."""
    net, x, y = trained[0], trained[1][:16], trained[2][:16]
    found = []
    for rows in (1, 7, 16):
        made = assay.Influence(net, "softmax", (x, y), l2=L2, inverse=inverse, check=0)
        made.objective.tactics.rows = rows
        found.append(made.self_influence().cooks_distance)
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    "inverse", [assay.Nystrom(6, 0.1), assay.Arnoldi(6, 0.1), assay.EKFAC(0.1), assay.Jacobi(0.1)],
    ids=lambda i: type(i).__name__,
)  # fmt: skip
def test_the_stated_error_is_the_error(trained, inverse):
    """On all samples the stated median and scale are those against the dense matrix."""
    net, x, y, _, _ = trained
    made = assay.Influence(
        net, "softmax", (x, y), l2=L2, inverse=inverse, curvature=assay.GaussNewton, check=60, limit=100.0
    )
    G, g = dense_gauss_newton(objective(net, x, y, l2=L2), x, y), rows_of(net, x, y)
    truth_ = torch.linalg.vecdot(torch.linalg.solve(G + 0.1 * torch.eye(len(G), dtype=G.dtype), g.T).T, g)
    found = made.self_influence().cooks_distance
    error = (found - truth_).abs() / truth_
    assert made.error.median == pytest.approx(float(error.median()), rel=1e-3)
    assert made.error.p95 == pytest.approx(float(error.quantile(0.95)), rel=1e-3)
    assert made.error.scale == pytest.approx(float(found @ truth_ / (truth_ @ truth_)), rel=1e-3)
