"""A trained layer as a head, kept as it is: equal to brute force, and its answer is that of the proximal problem."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional
from torch.testing import assert_close

import assay
from assay import Head
from assay.datasets.toys import noisy_circle
from assay.models.mlp import mlp
from assay.models.training import Training, train

LOSSES = {
    "softmax": functional.cross_entropy,
    "logistic": lambda z, y: functional.binary_cross_entropy_with_logits(z[:, 0], y.double()),
    "linear": lambda z, y: (z - y).square().sum(1).mean() / 2,
}


def trained(family: str, outputs: int, seed: int = 0) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A sigmoid MLP on the noisy circle, trained some way, in float64; what comes into its head, and the labels."""
    return copy.deepcopy(trained_once(family, outputs, seed))


@cache
def trained_once(family: str, outputs: int, seed: int) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = mlp([2, 12, 6, outputs]).double()
    toy = noisy_circle(160, seed=seed)
    X, y = torch.tensor(toy.points), torch.tensor(toy.labels)
    if family == "softmax":
        y = y + (X[:, 0] > 0) * (outputs - 2)
    if family == "linear":
        y = torch.stack([X[:, 0] * X[:, 1], y.double()][:outputs], 1)
    train(model, X, y, Training(epochs=400, lr=2e-2, batch_size=None), loss=LOSSES[family])
    with torch.no_grad():
        return model, model[:-1](X), y


CASES = [("softmax", 2), ("softmax", 3), ("logistic", 1), ("linear", 1), ("linear", 2)]


def brute_force(layer: nn.Linear, h: Tensor, y: Tensor, loss, l2: float, damping: float, bias: bool) -> Tensor:
    """`∇ℓᵀ (∇²F + damping)⁺ ∇ℓ` over all of the layer's parameters, by torch.autograd on the objective itself."""
    names = [name for name, _ in layer.named_parameters()]
    sizes = [p.numel() for p in layer.parameters()]
    theta = torch.cat([p.detach().flatten() for p in layer.parameters()])

    def logits(flat: Tensor, x: Tensor) -> Tensor:
        parts = flat.split(sizes)
        weights = {n: part.view_as(p) for n, part, p in zip(names, parts, layer.parameters(), strict=True)}
        return functional_call(layer, weights, (x,))

    def objective(flat: Tensor) -> Tensor:
        decayed = flat if bias else flat[: layer.weight.numel()]
        return loss(logits(flat, h), y) + l2 / 2 * decayed.square().sum()

    H = hessian(objective, theta) + damping * torch.eye(len(theta), dtype=theta.dtype)
    theta.requires_grad_()
    losses = [loss(logits(theta, h[i : i + 1]), y[i : i + 1]) for i in range(len(h))]
    G = torch.stack([torch.autograd.grad(each, theta)[0] for each in losses])
    return torch.linalg.vecdot(G, torch.linalg.solve(H, G.T).T)


@pytest.mark.parametrize(("family", "outputs"), CASES)
@pytest.mark.parametrize(("l2", "damping", "bias"), [(1e-3, 0.0, True), (0.0, 1e-3, False), (1e-2, 1e-4, False)])
def test_cooks_distance_is_that_of_brute_force(family, outputs, l2, damping, bias):
    model, h, y = trained(family, outputs)
    head = Head.from_module(model[-1], h, y, family=family, l2=l2, damping=damping, penalize_bias=bias)
    found = head.leverage(h, y).cooks_distance()
    truth = brute_force(model[-1], h, y, LOSSES[family], l2, damping, bias)
    assert_close(found, truth, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("family", "outputs"), CASES)
def test_logits_and_gradient_are_the_layers(family, outputs):
    model, h, y = trained(family, outputs)
    head = Head.from_module(model[-1], h, y, family=family, l2=1e-3)
    z = model[-1](h).detach()
    assert_close(head.logits(h), z - z.mean(1, keepdim=True) if family == "softmax" else z)
    objective = LOSSES[family](model[-1](h), y) + 1e-3 / 2 * model[-1].weight.square().sum()
    grads = torch.autograd.grad(objective, tuple(model[-1].parameters()))
    norm = torch.cat([g.flatten() for g in grads]).norm()
    # the penalty's gradient along what a softmax cannot tell apart is no part of its head
    along = 1e-3 * model[-1].weight.detach().sum(0).norm() / outputs**0.5 if family == "softmax" else torch.tensor(0.0)
    assert head.gradient_norm == pytest.approx(float((norm**2 - along**2).sqrt()), rel=1e-9)
    assert head.gradient_scale > 0


@pytest.mark.parametrize(("family", "outputs"), CASES)
def test_removal_moves_the_head_as_predicted(family, outputs):
    """For 30 points, the exact minimum of the proximal problem without each: shift and leave-one-out loss correlate."""
    model, h, y = trained(family, outputs)
    head = Head.from_module(model[-1], h, y, family=family, l2=1e-3, damping=1e-3)
    leverage = head.leverage(h, y)
    ids = leverage.cooks_distance().argsort(descending=True)[:60:2].tolist()
    refits = assay.refit_without(head, (h, y), ids)
    predicted = -leverage.shifts(ids)
    assert np.corrcoef(predicted.flatten(), refits.shift.flatten())[0, 1] >= 0.98
    change = leverage.leave_one_out().change[ids]
    assert np.corrcoef(change, refits.loss_change)[0, 1] >= 0.98
    if family == "linear":
        assert_close(refits.shift, predicted, rtol=1e-6, atol=1e-9)
    nobody = replace_nothing(head, h, y)
    assert_close(nobody, head.V, rtol=0, atol=1e-12)


def replace_nothing(head: Head, h: Tensor, y: Tensor) -> Tensor:
    """The minimum of the tilted objective over all samples: the trained weights themselves."""
    from assay.elasticnet import minimise
    from assay.l2 import Rows

    batch = head.leverage(h, y)
    rows = Rows(batch.H, batch.y, batch.w)
    return minimise(head.objective(rows.sums(head.family)), head.V).V


def test_groups_are_refitted_from_where_the_head_stands():
    model, h, y = trained("softmax", 3)
    head = Head.from_module(model[-1], h, y, l2=1e-3, damping=1e-3)
    leverage = head.leverage(h, y)
    exact = assay.group_influence(leverage, [3, 5, 8], order="newton", refit=True)
    assert exact.exact is not None
    assert_close(exact.exact, assay.refit_without(head, (h, y), [3, 5, 8], together=True).shift[0])
    assert float((exact.shift - exact.exact).norm()) < 0.1 * float(exact.exact.norm())


def test_a_trained_head_is_saved_with_its_damping_and_tilt(tmp_path):
    model, h, y = trained("softmax", 3)
    head = Head.from_module(model[-1], h, y, l2=1e-3, damping=1e-2, penalize_bias=True)
    head.save(tmp_path / "head.safetensors")
    again = Head.load(tmp_path / "head.safetensors")
    assert again.tilt is not None
    assert torch.equal(again.tilt, head.tilt)
    assert (again.damping, again.penalize_bias, again.gradient_norm) == (1e-2, True, head.gradient_norm)
    assert torch.equal(again.leverage(h, y).cooks_distance(), head.leverage(h, y).cooks_distance())


def test_trust_says_how_far_from_its_optimum_a_trained_head_is():
    model, h, y = trained("softmax", 2)
    leverage = (head := Head.from_module(model[-1], h, y, l2=1e-3, damping=1e-3)).leverage(h, y)
    report = assay.Trust().report(head, rows_of(leverage), leverage.ids)
    first = report.checks[0]
    assert first.value == pytest.approx(head.gradient_norm / head.gradient_scale)
    assert "trained head" in first.sentence
    assert report.refits.correlation > 0.98  # of real refits of the proximal problem, from these very weights


def rows_of(leverage):
    from assay.l2 import Rows

    return Rows(leverage.H, leverage.y, leverage.w)


REFUSED = {
    "range": (dict(labels=[0, 1, 5]), r"labels\[2\] = 5, but the layer has 3 classes \(0–2\)"),
    "negative": (dict(labels=[0, -1, 1]), r"labels\[1\] = -1"),
    "text": (dict(labels=["a", "b", "c"]), "give integers"),
    "several": (dict(labels=np.zeros((3, 2), int)), "one class a sample"),
    "width": (dict(features=np.ones((3, 5))), "5 feature columns; the head was made for 4"),
    "rows": (dict(features=np.ones((2, 4))), "2 rows of features, but 3 labels"),
    "logistic": (dict(family="logistic"), "the layer has 3 outputs"),
    "family": (dict(family="hinge"), "not one of 'softmax'"),
    "damping": (dict(damping=-1.0), "damping=-1.0 is not a finite number"),
    "nan": (dict(features=np.full((3, 4), np.nan)), "must be finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    given, message = REFUSED[case]
    arguments = {"features": np.eye(3, 4), "labels": [0, 1, 2], "l2": 1e-3, **given}
    with pytest.raises(assay.AssayError, match=message):
        Head.from_module(nn.Linear(4, 3), arguments.pop("features"), arguments.pop("labels"), **arguments)


def test_a_layer_of_one_logit_is_no_softmax():
    with pytest.raises(assay.ShapeError, match='use "logistic"'):
        Head.from_module(nn.Linear(4, 1), np.eye(3, 4), [0, 1, 0], l2=1e-3)


def test_a_layer_whose_weights_are_nan_is_refused():
    layer = nn.Linear(4, 3)
    layer.weight.data[0, 0] = torch.nan
    with pytest.raises(assay.ShapeError, match="not all finite"):
        Head.from_module(layer, np.eye(3, 4), [0, 1, 2], l2=1e-3)
