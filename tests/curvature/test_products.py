"""Products with Hessian and Gauss-Newton matrix against dense ones, on networks of every kind."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import MAKERS, dense_gauss_newton, dense_hessian, flat, losses, objective, problem
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import assay
from assay.curvature import products
from assay.curvature.gradients import along, every_gradient
from assay.curvature.kfac import EKFAC
from assay.curvature.objective import Tactics
from assay.curvature.output_loss import output_loss
from assay.curvature.products import GaussNewton, Hessian


def vectors(ob, m: int = 3) -> torch.Tensor:
    return torch.randn(m, ob.P, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_products_are_those_of_the_dense_matrices(name: str, reverse: bool):
    net, x, y = problem(name)
    ob = objective(net, x, y, l2=0.01, tactics=Tactics(reverse=reverse))
    V = vectors(ob)
    torch.testing.assert_close(Hessian(ob)(V), V @ dense_hessian(ob, x, y), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(GaussNewton(ob)(V), V @ dense_gauss_newton(ob, x, y), rtol=1e-10, atol=1e-10)
    assert net.training, "the model is left as it was found"


@pytest.mark.parametrize("name", MAKERS)
def test_large_batches_give_the_same_without_the_graph_behind_tangents(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(products, "LARGE", 0)
    net, x, y = problem(name)
    ob = objective(net, x, y, l2=0.01)
    v = vectors(ob, 1)
    torch.testing.assert_close(Hessian(ob)(v), v @ dense_hessian(ob, x, y), rtol=1e-10, atol=1e-10)


class Checkpointed(nn.Module):
    """A block that keeps nothing of its inside, and finds what it saved by its place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 9), nn.Linear(9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def swish(t: torch.Tensor) -> torch.Tensor:
            for _ in range(2):
                t = t * torch.sigmoid(t)
            return t

        return self.last(checkpoint(swish, self.first(x), use_reentrant=False))


def test_checkpointed_blocks_find_what_they_saved(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(products, "LARGE", 0)
    torch.manual_seed(0)
    net, x, y = Checkpointed().double(), torch.randn(23, 4, dtype=torch.float64), torch.randint(0, 3, (23,))
    ob = objective(net, x, y)
    v = vectors(ob, 1)
    found = Hessian(ob)(v)
    monkeypatch.setattr(products, "LARGE", 2**40)
    torch.testing.assert_close(found, Hessian(ob)(v), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("large", "kept"), [(0, False), (2**40, True)])
def test_the_graph_behind_tangents_is_let_go_where_memory_matters(
    large: int, kept: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(products, "LARGE", large)
    net, x, y = problem("sigmoid")
    seen: list[bool] = []

    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        tangent = forward_ad.unpack_dual(output).tangent if output.requires_grad else None
        if tangent is not None:
            seen.append(tangent.requires_grad)

    handle = net[2].register_forward_hook(hook)
    ob = objective(net, x, y)
    Hessian(ob)(vectors(ob, 1))
    handle.remove()
    assert set(seen) == {kept}


@pytest.mark.parametrize("name", MAKERS)
def test_gradients_are_those_of_single_samples(name: str):
    net, x, y = problem(name)
    ob = objective(net, x, y, l2=0.3)
    found = torch.cat(list(every_gradient(ob)))
    net.eval()
    with sdpa_kernel(SDPBackend.MATH):
        expected = torch.func.jacrev(lambda t: losses(ob, t, x, y))(flat(ob)).detach()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    X = vectors(ob)
    torch.testing.assert_close(torch.cat(list(along(ob, X))), expected @ X.T, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 7, 23, 100])
def test_the_same_for_every_batch_size(rows: int):
    net, x, y = problem("cnn")
    w = torch.rand(23, generator=torch.Generator().manual_seed(2)).double().numpy()
    ob = objective(net, x, y, l2=0.01, weights=w, tactics=Tactics(rows=rows))
    V = vectors(ob)
    expected = V @ dense_hessian(ob, x, y, torch.from_numpy(w))
    torch.testing.assert_close(Hessian(ob)(V), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch", [1, 7, 23])
def test_the_same_for_every_loader_shuffled_or_not(batch: int):
    net, x, y = problem("relu")
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=batch, shuffle=True)
    plain = objective(net, x, y)
    from assay.curvature.reading import Reading
    from assay.sources.open_examples import open_examples

    for held in (2**30, 0):  # in memory, and read anew each time
        reading = Reading(open_examples(loader), next(net.parameters()).detach(), held=held)
        ob = objective(net, x, y)
        ob = type(ob)(net, ob.loss, reading, ob.parameters, ob.l2)
        torch.testing.assert_close(Hessian(ob)(vectors(ob)), Hessian(plain)(vectors(ob)), rtol=1e-12, atol=1e-12)


def test_a_small_budget_cuts_rows_and_vectors_but_changes_nothing():
    net, x, y = problem("cnn")
    ob, small = objective(net, x, y), objective(net, x, y, budget=20_000)
    from assay.curvature.products import vectors_at_once

    assert vectors_at_once(small, 8) < 8
    torch.testing.assert_close(Hessian(small)(vectors(ob, 8)), Hessian(ob)(vectors(ob, 8)), rtol=1e-12, atol=1e-12)


class Square(torch.autograd.Function):
    """x², of which the classes below lack something."""

    @staticmethod
    def forward(x):
        return x.square()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class NoForward(Square):
    """Without a forward-mode rule."""

    generate_vmap_rule = True


class Once(Square):
    """Its derivative is computed outside of autograd."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class Through(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


def test_no_forward_mode_falls_back_to_reverse_over_reverse_and_says_so_once():
    torch.manual_seed(0)
    net = Through(NoForward.apply).double()
    _, x, y = problem("head")
    ob = objective(net, x, y)
    with pytest.warns(assay.AssayWarning, match="no forward-mode derivative; reverse-over-reverse"):
        found = Hessian(ob)(vectors(ob))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(Hessian(ob)(vectors(ob)), found)
    plain = Through(torch.square).double()
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(found, Hessian(objective(plain, x, y))(vectors(ob)), rtol=1e-10, atol=1e-10)


class NoMap(Square):
    """It cannot be mapped over."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx, tangent):
        return 2 * ctx.saved_tensors[0] * tangent


def test_an_operation_that_cannot_be_mapped_goes_one_at_a_time_and_says_so():
    torch.manual_seed(0)
    net, plain = Through(NoMap.apply).double(), Through(torch.square).double()
    plain.load_state_dict(net.state_dict())
    _, x, y = problem("head")
    ob, other = objective(net, x, y), objective(plain, x, y)
    with pytest.warns(assay.AssayWarning, match="one vector or sample at a time"):
        found = Hessian(ob)(vectors(ob))
    torch.testing.assert_close(found, Hessian(other)(vectors(ob)))
    torch.testing.assert_close(torch.cat(list(every_gradient(ob))), torch.cat(list(every_gradient(other))))
    torch.testing.assert_close(torch.cat(list(along(ob, vectors(ob)))), torch.cat(list(along(other, vectors(ob)))))


def test_an_operation_that_cannot_be_differentiated_twice_is_named():
    torch.manual_seed(0)
    net = Through(Once.apply).double()
    _, x, y = problem("head")
    ob = objective(net, x, y, tactics=Tactics(reverse=True))
    with pytest.raises(assay.ShapeError, match="cannot be differentiated twice"):
        Hessian(ob)(vectors(ob))


def test_a_kernel_without_a_second_derivative_is_named():
    torch.manual_seed(0)
    others = torch.randn(5, 5, dtype=torch.float64)
    net = Through(lambda z: torch.cdist(z, others)).double()
    _, x, y = problem("head")
    ob = objective(net, x, y)
    with pytest.raises(assay.ShapeError, match="_cdist_backward cannot be differentiated twice"):
        Hessian(ob)(vectors(ob))


class Hungry(nn.Module):
    """Runs out of memory with more than five samples."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        if len(x) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return self.head(x)


def test_out_of_memory_tries_fewer_samples_and_says_so():
    torch.manual_seed(0)
    net = Hungry().double()
    _, x, y = problem("head")
    ob = objective(net, x, y)
    with pytest.warns(assay.AssayWarning, match="out of memory with 23 samples at once; going on with 11"):
        found = Hessian(ob)(vectors(ob))
    torch.testing.assert_close(found, vectors(ob) @ dense_hessian(objective(net.head, x, y), x, y))
    assert ob.tactics.rows <= 5


def test_shared_parameters_count_once_and_frozen_ones_not():
    torch.manual_seed(0)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.b.weight = self.a.weight
            self.out.bias.requires_grad_(False)

        def forward(self, x):
            return self.out(torch.tanh(self.b(torch.tanh(self.a(x)))))

    net = Tied().double()
    _, x, y = problem("head")
    ob = objective(net, x, y)
    assert ob.parameters.names == ("a.weight", "a.bias", "b.bias", "out.weight")
    torch.testing.assert_close(Hessian(ob)(vectors(ob)), vectors(ob) @ dense_hessian(ob, x, y), rtol=1e-10, atol=1e-10)


def mean_log(z, y):
    return (functional.cross_entropy(z, y, reduction="none") + 1).log().mean()


@pytest.mark.parametrize(
    ("loss", "same"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (
            nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5])),
            nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5])),
        ),
        (lambda z, y: (functional.cross_entropy(z, y, reduction="none") + 1).log(), mean_log),
    ],
    ids=["smoothed", "weighted", "function"],
)
def test_the_objective_is_the_training_loss(loss, same):
    """H is the Hessian of torch's own mean over the data."""
    net, x, y = problem("sigmoid")
    if isinstance(same, nn.CrossEntropyLoss) and same.weight is not None:
        same.weight = same.weight.double()
    ob = objective(net, x, y, loss=loss)
    V = vectors(ob)
    net.eval()
    H = torch.func.hessian(lambda t: same(torch.func.functional_call(net, ob.parameters.split(t), (x,)), y))(flat(ob))
    torch.testing.assert_close(Hessian(ob)(V), V @ H.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "loss", ["softmax", "logistic", "linear", nn.MSELoss(), nn.CrossEntropyLoss(label_smoothing=0.2)]
)
def test_roots_of_the_output_curvature(loss):
    """`Σ root rootᵀ = ∂²ℓ/∂z²`, in closed form and decomposed."""
    torch.manual_seed(0)
    columns = 1 if loss == "logistic" else 3
    z = torch.randn(6, columns, dtype=torch.float64)
    targets = loss == "linear" or isinstance(loss, nn.MSELoss)
    y = torch.randn(6, 3, dtype=torch.float64) if targets else torch.randint(0, 2, (6,))
    found = output_loss(loss)
    roots = found.roots(z, y)
    torch.testing.assert_close(roots.mT @ roots, found.curvature(z, y), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ignored", [-100, 1])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5]).double()])
def test_labels_that_the_loss_ignores_do_not_count(ignored: int, weight):
    """As in torch's own mean: neither in the sum nor in N, and not in a factor of EKFAC either."""
    net, x, y = problem("sigmoid")
    y = y.clone()
    y[[3, 8, 20]] = ignored
    loss = nn.CrossEntropyLoss(weight=weight, ignore_index=ignored)
    ob, kept = objective(net, x, y, loss=loss), y != ignored
    V = vectors(ob)
    net.eval()
    H = torch.func.hessian(lambda t: loss(torch.func.functional_call(net, ob.parameters.split(t), (x,)), y))(flat(ob))
    net.train()
    torch.testing.assert_close(Hessian(ob)(V), V @ H.detach(), rtol=1e-10, atol=1e-10)
    fewer = objective(net, x[kept], y[kept], loss=loss)
    found, expected = (EKFAC(0.1).of(GaussNewton(each)).solve(V).value for each in (ob, fewer))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_class_weights_need_class_codes():
    net, x, _ = problem("head")
    soft = torch.softmax(torch.randn(23, 3, dtype=torch.float64), 1)
    with pytest.raises(assay.ShapeError, match="need labels that are class codes"):
        objective(net, x, soft, loss=nn.CrossEntropyLoss(weight=torch.ones(3))).check()
    objective(net, x, soft, loss=nn.CrossEntropyLoss()).check()


@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), "logistic", nn.MSELoss(), "linear"])
def test_one_output_a_sample_without_an_axis_of_its_own(loss):
    """As after `squeeze(1)`."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double()
    _, x, y = problem("head")
    y = (y > 0).long()
    flat_, column = objective(net, x, y, loss=loss), objective(net[0], x, y, loss=loss)
    flat_.check()
    V = vectors(flat_)
    torch.testing.assert_close(Hessian(flat_)(V), Hessian(column)(V))
    torch.testing.assert_close(GaussNewton(flat_)(V), GaussNewton(column)(V))
    found, expected = (EKFAC(0.1).of(GaussNewton(each)).solve(V).value for each in (flat_, column))
    torch.testing.assert_close(found, expected)


def test_samples_without_any_weight_are_refused():
    net, x, y = problem("head")
    with pytest.raises(assay.SourceError, match="all 23 samples have the weight 0"):
        Hessian(objective(net, x, y, weights=torch.zeros(23).numpy()))(torch.ones(1, 15, dtype=torch.float64))


def test_a_chosen_sample_that_is_not_finite_is_named():
    """Not the one that stands where it stood among the chosen."""
    net, x, y = problem("sigmoid")
    x[17, 0] = float("nan")
    from assay.curvature.gradients import gradients
    from assay.curvature.reading import Reading
    from assay.sources.open_examples import open_examples

    whole = objective(net, x, y)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=5)
    streamed = replace(whole, reading=Reading(open_examples(loader), x[0], held=0))
    for ob in (whole, streamed):
        with pytest.raises(assay.SourceError, match=r"sample 17 .*, in a batch of 3 chosen samples, has a loss"):
            gradients(ob, ob.reading.at([4, 11, 17]))


def test_a_float16_map_is_streamed_and_not_copied(tmp_path):
    net, x, y = problem("head")
    np.save(tmp_path / "x.npy", x.numpy().astype(np.float16))
    from assay.curvature.reading import Reading
    from assay.sources.open_examples import open_examples

    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    whole = objective(net, torch.from_numpy(mapped.astype(np.float64)), y)
    reading = Reading(open_examples((mapped, y)), x[0], held=100)
    assert reading._whole is None
    V = vectors(whole)
    torch.testing.assert_close(Hessian(replace(whole, reading=reading))(V), Hessian(whole)(V))


def test_a_single_vector_goes_by_plain_autograd_and_is_the_same():
    for name in MAKERS:
        net, x, y = problem(name)
        ob = objective(net, x, y)
        V = vectors(ob)
        singly = torch.cat([Hessian(ob)(v[None]) for v in V])
        torch.testing.assert_close(singly, Hessian(ob)(V), rtol=1e-10, atol=1e-12)
        assert all(p.grad is None for p in net.parameters())
