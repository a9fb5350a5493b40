"""Each inverse against the dense one: values, scale, what it says of itself."""

import warnings
from dataclasses import replace

import pytest
import torch
from nets import dense_gauss_newton, dense_hessian, objective, problem
from scipy.stats import spearmanr
from torch import nn

import assay
from assay.curvature.arnoldi import Arnoldi
from assay.curvature.cg import CG
from assay.curvature.exact import Dense
from assay.curvature.gradients import every_gradient
from assay.curvature.inverse import Sizes
from assay.curvature.jacobi import Jacobi
from assay.curvature.kfac import EKFAC, KFAC
from assay.curvature.lissa import LiSSA
from assay.curvature.nystrom import Nystrom
from assay.curvature.products import GaussNewton, Hessian
from assay.curvature.stated_error import StatedError, stated_error

DAMPING = 0.05
EVERY = [
    Dense(DAMPING), CG(DAMPING), Nystrom(12, DAMPING), Arnoldi(12, DAMPING), KFAC(DAMPING), EKFAC(DAMPING),
    Jacobi(DAMPING), LiSSA(DAMPING, batch=16, steps=20, rtol=0.99),
]  # fmt: skip


def named(inverse) -> str:
    return type(inverse).__name__


@pytest.fixture(scope="module")
def small():
    """A CNN with its Gauss-Newton matrix and the gradients of its samples."""
    net, x, y = problem("sigmoid", n=40)
    ob = objective(net, x, y, l2=0.001)
    return ob, GaussNewton(ob), dense_gauss_newton(ob, x, y), torch.cat(list(every_gradient(ob)))


def exact(G: torch.Tensor, V: torch.Tensor, damping: float = DAMPING) -> torch.Tensor:
    return torch.linalg.solve(G + damping * torch.eye(len(G), dtype=G.dtype), V.T).T


@pytest.mark.parametrize("inverse", EVERY, ids=named)
def test_quadratic_is_that_of_solve_and_both_are_linear(small, inverse):
    ob, curvature, _, V = small
    found = inverse.of(curvature)
    solved = found.solve(V[:6])
    torch.testing.assert_close(found.quadratic(V[:6]).value, torch.linalg.vecdot(solved.value, V[:6]))
    assert solved.value.shape == (6, ob.P)
    assert len(solved.iterations) == len(solved.residual) == len(solved.converged) == 6
    assert found.diagnose().sentences
    assert inverse.cost(Sizes(40, ob.P, 1e3)).flops > 0


@pytest.mark.parametrize(
    "inverse",
    [
        Dense(DAMPING),
        CG(DAMPING),
        CG(DAMPING, preconditioner=Jacobi()),
        CG(DAMPING, preconditioner=Nystrom(10)),
        CG(DAMPING, preconditioner=KFAC()),
        CG(DAMPING, preconditioner=EKFAC()),
    ],
    ids=lambda i: named(i) + named(getattr(i, "preconditioner", None)),
)
def test_dense_and_cg_are_exact(small, inverse):
    _, curvature, G, V = small
    found = inverse.of(curvature).solve(V)
    torch.testing.assert_close(found.value, exact(G, V), rtol=1e-6, atol=1e-7)
    assert float(found.residual.max()) <= 2e-8
    assert bool(found.converged.all())
    own = torch.linalg.vecdot(exact(G, V), V)
    scores = inverse.of(curvature).quadratic(V).value
    assert float((scores @ own) / (own @ own)) == pytest.approx(1, abs=1e-6)


def test_preconditioning_saves_iterations():
    net, x, y = problem("sigmoid", n=60)
    ob = objective(
        net, x * torch.logspace(-1, 1, 4, dtype=torch.float64), y, l2=1e-5
    )  # columns of very different scale
    V = torch.cat(list(every_gradient(ob)))[:8]
    plain = CG(1e-5).of(GaussNewton(ob)).solve(V).iterations.double().mean()
    for preconditioner in (EKFAC(), Nystrom(ob.P // 2)):
        helped = CG(1e-5, preconditioner=preconditioner).of(GaussNewton(ob)).solve(V).iterations.double().mean()
        assert helped < 0.9 * plain


def test_cg_for_many_right_hand_sides_solves_the_unit_vectors_once(small):
    _, curvature, G, V = small
    inverse = CG(DAMPING).of(curvature)
    assert inverse.for_many(3) is inverse
    many = inverse.for_many(10_000)
    torch.testing.assert_close(many.solve(V).value, exact(G, V), rtol=1e-6, atol=1e-7)
    own = torch.linalg.vecdot(exact(G, V), V)
    torch.testing.assert_close(many.quadratic(V).value, own, rtol=1e-6, atol=1e-7)
    assert bool(many.quadratic(V).converged.all())


def test_a_zero_right_hand_side_is_solved_by_zero(small):
    _, curvature, _, V = small
    found = CG(DAMPING).of(curvature).solve(torch.stack([V[0], torch.zeros_like(V[0])]))
    assert not bool(found.value[1].any())
    assert found.iterations[1] == 0
    assert bool(found.converged.all())


def test_cg_that_stops_early_says_so(small):
    _, curvature, _, V = small
    with pytest.warns(assay.AssayWarning, match=r"CG left 5 of 5 right-hand sides unsolved after 2 iterations"):
        found = CG(DAMPING, max_iterations=2).of(curvature).solve(V[:5])
    assert not bool(found.converged.any())
    with pytest.raises(assay.ConvergenceError, match="precondition"):
        CG(DAMPING, max_iterations=2, strict=True).of(curvature).solve(V[:5])


def test_an_indefinite_hessian_is_refused_by_cg_and_named_by_dense():
    net, x, y = problem("sigmoid", n=40)
    ob = objective(net, x, y)
    H = dense_hessian(ob, x, y)
    lowest = float(torch.linalg.eigvalsh(H)[0])
    assert lowest < -0.01
    V = torch.cat(list(every_gradient(ob)))
    with pytest.raises(assay.SingularCurvatureError, match=r"indefinite.*curvature=GaussNewton"):
        CG(1e-3).of(Hessian(ob)).solve(V)
    with pytest.warns(assay.AssayWarning, match="negative eigenvalues"):
        found = Dense(1e-3).of(Hessian(ob))
    torch.testing.assert_close(found.solve(V).value, exact(H, V, 1e-3), rtol=1e-6, atol=1e-8)
    assert found.diagnose().numbers["negative"] == int((torch.linalg.eigvalsh(H) < -1e-3).sum())
    with pytest.raises(assay.SingularCurvatureError, match="raise damping="):
        Arnoldi(12, 1e-3).of(Hessian(ob))


def test_a_singular_matrix_is_refused_and_truncated():
    net, x, y = problem("head", n=40)
    ob = objective(net, x, y)  # a softmax in class columns is singular by d directions
    with pytest.raises(assay.SingularCurvatureError, match="rank 10 of 15"):
        Dense().of(Hessian(ob))
    V = torch.cat(list(every_gradient(ob)))
    found = Dense(truncate=1e-10).of(Hessian(ob)).quadratic(V).value
    H = dense_hessian(ob, x, y)
    torch.testing.assert_close(found, torch.linalg.vecdot(V @ torch.linalg.pinv(H, hermitian=True), V))


def spectrum(name: str):
    net, x, y = problem(name, n=80)
    ob = objective(net, x, y, params=[nn.Linear, nn.Conv2d])
    G = dense_gauss_newton(ob, x, y)
    return ob, G, torch.linalg.eigvalsh(G).flip(0), torch.cat(list(every_gradient(ob)))


@pytest.mark.parametrize("name", ["sigmoid", "relu", pytest.param("cnn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", [Nystrom, Arnoldi])
def test_low_rank_numbers_are_right_and_not_only_their_order(name: str, method):
    """At rank P/4 with damping at the first eigenvalue dropped the best-fit scale lies in [0.9, 1.1]."""
    ob, G, values, V = spectrum(name)
    rank = ob.P // 4
    damping = float(values[rank])
    own = torch.linalg.vecdot(exact(G, V, damping), V)
    made = method(rank, damping).of(GaussNewton(ob))
    found = StatedError.between(made.quadratic(V).value, own, 0.0, "G")
    assert 0.9 <= found.scale <= 1.1
    assert found.rank_correlation > 0.95
    measured = stated_error(made, GaussNewton(ob), damping, rows=80)
    assert measured.median == pytest.approx(found.median, rel=1e-4)
    assert measured.scale == pytest.approx(found.scale, rel=1e-4)
    assert measured.residual < 1e-7


def test_without_its_complement_a_low_rank_inverse_would_be_far_off():
    """What other libraries do: the reason the complement is measured."""
    ob, G, values, V = spectrum("relu")
    rank = ob.P // 4
    damping = float(values[rank])
    made = Arnoldi(rank, damping).of(GaussNewton(ob))
    own = torch.linalg.vecdot(exact(G, V, damping), V)
    without = (V @ made.U).square() @ (1 / (made.values + damping))
    assert float(without @ own / (own @ own)) < 0.8


def test_the_share_outside_of_the_subspace_is_reported():
    ob, G, _, V = spectrum("sigmoid")
    made = Arnoldi(8, 0.1).of(GaussNewton(ob))
    values, vectors = torch.linalg.eigh(G)
    U = vectors[:, -8:]
    torch.testing.assert_close(made.values, values[-8:].flip(0), rtol=1e-4, atol=1e-8)
    outside = (V - V @ U @ U.T).norm(dim=1) / V.norm(dim=1)
    torch.testing.assert_close(made.quadratic(V).residual, outside, rtol=1e-3, atol=1e-4)


def test_nystrom_of_full_rank_is_exact():
    ob, G, _, V = spectrum("sigmoid")
    found = Nystrom(ob.P, 0.05).of(GaussNewton(ob)).solve(V)
    torch.testing.assert_close(found.value, exact(G, V), rtol=1e-5, atol=1e-6)


def test_lissa_is_within_its_stated_residual(small):
    _, curvature, G, V = small
    found = LiSSA(0.5, batch=32).of(curvature).solve(V[:8])
    assert bool(found.converged.all())
    error = (found.value - exact(G, V[:8], 0.5)).norm(dim=1) / exact(G, V[:8], 0.5).norm(dim=1)
    assert float(error.max()) < 0.1
    other = LiSSA(0.5, batch=32).of(curvature).solve(V[:8])
    torch.testing.assert_close(found.value, other.value, rtol=0, atol=0)


def test_a_diverging_lissa_says_so(small):
    _, curvature, _, V = small
    with pytest.raises(assay.ConvergenceError, match=r"LiSSA diverges at step \d+: its scale is 0.05"):
        LiSSA(DAMPING, scale=0.05, steps=500).of(curvature).solve(V[:2])
    with pytest.warns(assay.AssayWarning, match="LiSSA left 2 of 2"):
        LiSSA(DAMPING, steps=2).of(curvature).solve(V[:2])


def test_jacobi_is_the_diagonal_of_the_gauss_newton_matrix():
    net, x, y = problem("head", n=200)
    ob = objective(net, x, y, l2=0.01)
    found = Jacobi(0.0, draws=100).of(GaussNewton(ob)).diagonal
    torch.testing.assert_close(found, dense_gauss_newton(ob, x, y).diagonal(), rtol=0.08, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: CG(-1.0), "damping=-1.0; give a finite number"),
        (lambda: EKFAC(float("nan")), "damping=nan"),
        (lambda: Dense(truncate=2.0), "truncate=2.0"),
        (lambda: CG(rtol=0.0), "rtol=0.0"),
        (lambda: LiSSA(batch=0), "batch=0"),
        (lambda: LiSSA(scale=-1.0), "scale=-1.0"),
        (lambda: KFAC(draws=0), "draws=0"),
        (lambda: Arnoldi(tol=0.0), "tol=0.0"),
        (lambda: Nystrom(oversample=-1), "oversample=-1"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make, match: str):
    with pytest.raises(assay.ShapeError, match=match):
        make()


@pytest.mark.parametrize("inverse", [Nystrom(1000), Arnoldi(1000), Nystrom(0)], ids=named)
def test_a_rank_above_the_parameters_is_refused(small, inverse):
    _, curvature, _, _ = small
    with pytest.raises(assay.ShapeError, match=r"rank=\d+, but there are 43 parameters"):
        inverse.of(curvature)


def test_products_in_float32_are_solved_to_what_they_allow():
    net, x, y = problem("sigmoid", n=40)
    net, x = net.float(), x.float()
    ob = objective(net, x, y, l2=0.001)
    V = torch.cat(list(every_gradient(ob)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", assay.AssayWarning)
        found = CG(DAMPING).of(GaussNewton(ob)).solve(V)
    ob64 = objective(net.double(), x.double(), y, l2=0.001)
    torch.testing.assert_close(found.value, exact(dense_gauss_newton(ob64, x.double(), y), V), rtol=1e-3, atol=1e-3)


def test_equal_scores_share_a_rank():
    """As scipy's Spearman has it: in whatever order equal ones stand."""
    a, e = torch.tensor([3.0, 1.0, 1.0, 1.0, 5.0]).double(), torch.tensor([2.0, 0.5, 0.1, 0.3, 2.0]).double()
    expected = spearmanr(a.numpy(), e.numpy()).statistic
    for order in (torch.arange(5), torch.tensor([4, 2, 3, 1, 0])):
        assert StatedError.between(a[order], e[order], 0.0, "").rank_correlation == pytest.approx(expected)


def test_cg_reaches_eight_digits(small):
    _, curvature, G, V = small
    found = CG(DAMPING, rtol=1e-12).of(curvature).solve(V)
    truth = exact(G, V)
    assert float(((found.value - truth).norm(dim=1) / truth.norm(dim=1)).max()) <= 1e-8


def test_an_explicit_inverse_states_no_smaller_residual_than_it_has(small):
    _, curvature, G, _ = small
    many = CG(DAMPING, rtol=1e-3).of(curvature).for_many(10_000)
    W = torch.linalg.eigh(G)[1].T  # not along the unit vectors that were solved
    found = many.solve(W)
    real = (found.value @ G + DAMPING * found.value - W).norm(dim=1) / W.norm(dim=1)
    assert bool((real <= found.residual * (1 + 1e-9)).all())


def test_a_singular_float32_matrix_is_refused_too():
    net, x, y = problem("head", n=40)
    ob = objective(net.float(), x.float(), y)
    with pytest.raises(assay.SingularCurvatureError, match="rank 10 of 15 to the precision of float32"):
        Dense().of(Hessian(ob))
    Dense(1e-3).of(Hessian(ob))


def test_jacobi_of_a_loss_without_outputs_is_refused():
    from assay.curvature.output_loss import OnModel

    net, x, y = problem("head")
    ob = replace(objective(net, x, y), loss=OnModel(lambda m, b: m(b[0]).square().sum(1)))
    with pytest.raises(assay.ShapeError, match="no outputs to take a Gauss-Newton matrix in"):
        Jacobi(0.1).of(Hessian(ob))


@pytest.mark.slow
def test_lissa_of_weighted_samples_solves_the_weighted_system():
    """A batch's own total weight as the divisor would be biased."""
    net, x, y = problem("sigmoid", n=40)
    w = torch.zeros(40).double()
    w[:8] = torch.tensor([5.0, 1, 1, 1, 1, 1, 1, 9])
    ob = objective(net, x, y, l2=0.01, weights=w.numpy())
    V = torch.cat(list(every_gradient(ob)))[:4]
    G = GaussNewton(ob)(torch.eye(ob.P, dtype=torch.float64))
    found = LiSSA(0.3, batch=4, repeats=8, scale=20.0, steps=300).of(GaussNewton(ob)).solve(V).value
    truth = exact(G, V, 0.3)
    assert float(((found - truth).norm(dim=1) / truth.norm(dim=1)).max()) < 0.1
