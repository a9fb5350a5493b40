"""Curvature as an operator: products with blocks of vectors, streamed over the data in bounded memory.

    Hessian        H v = (1/N) Σ w_i ∇²ℓ_i v + l2 ∘ v            forward-over-reverse (Pearlmutter 1994)
    Gauss-Newton   G v = (1/N) Σ w_i J_iᵀ S_i J_i v + l2 ∘ v     `jvp`, then the loss's own curvature, then `vjp`

(Schraudolph 2002.) For a loss convex in the outputs G is positive semi-definite, and equals H where the outputs are
linear in θ. Of a single vector the Hessian product is the tangent of a plain backward pass, which frees what it has
used; of several, `vmap` over `jvp(grad)`, which shares everything that does not depend on the vector.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, jvp, vjp, vmap
from torch.overrides import TorchFunctionMode

from ..errors import ShapeError
from .objective import NetworkObjective, Tactics
from .output_loss import OnModel
from .reading import Batch

LARGE = 2**24  # bytes of kept activations from which memory matters more than the microseconds of a mode
VECTORS = 32  # right-hand sides that go through the network together, at most
TOGETHER = 2**14  # samples × vectors of a block, at most: beyond, every tensor is mapped anew and twice as slow
FIXED, EACH = 6.0, 6.0  # memory of a product in units of the kept activations: once, and for each vector

Named = dict[str, Tensor]
Linear = Callable[[Named], Named]


@runtime_checkable
class Curvature(Protocol):
    """A symmetric P × P operator; `V` and its product are float64 rows."""

    @property
    def objective(self) -> NetworkObjective: ...
    @property
    def name(self) -> str: ...
    def __call__(self, V: Float[Tensor, "m P"]) -> Float[Tensor, "m P"]: ...


@dataclass(frozen=True)
class Hessian:
    """`∇²F`: the true Hessian of the objective, which away from a minimum may be indefinite."""

    objective: NetworkObjective
    name = "Hessian"

    def __call__(self, V: Float[Tensor, "m P"]) -> Float[Tensor, "m P"]:
        """`H V`, row by row; one pass over the data for every `VECTORS` of them.

        Where an operation has no forward-mode rule, reverse-over-reverse serves, and that is said once. Raises
        `ShapeError` naming an operation that cannot be differentiated twice, `SourceError` for a loss not finite.
        """
        return _streamed(self.objective, V, self._linear)

    def on(self, batch: Batch, V: Float[Tensor, "m P"]) -> Float[Tensor, "m P"]:
        """`Σ w_i ∇²ℓ_i V` over a batch alone: neither divided nor penalised."""
        return _on(self.objective, batch, V, self._linear)

    def _linear(self, batch: Batch, vectors: int) -> Linear:
        objective = self.objective
        if not objective.tactics.twice:
            _differentiate_twice(objective, batch.rows(0, 2))
            objective.tactics.twice = True

        def slope(theta: Named) -> Named:
            return grad(lambda t: objective.weighted(t, batch))(theta)

        if objective.tactics.reverse:
            back = vjp(slope, objective.theta)[1]
            return lambda v: back(v)[0]
        if vectors == 1 or objective.tactics.single:
            return lambda v: _tangent_of_gradient(objective, batch, v)
        return lambda v: jvp(slope, (objective.theta,), (v,))[1]


@dataclass(frozen=True)
class GaussNewton:
    """`(1/N) Σ w JᵀSJ + diag(l2)`: the generalised Gauss-Newton matrix, Fisher's for a softmax or a Gaussian."""

    objective: NetworkObjective
    name = "Gauss-Newton matrix"

    def __post_init__(self) -> None:
        if isinstance(self.objective.loss, OnModel):
            raise ShapeError(
                "a loss that calls the model itself (OnModel) has no outputs to take a Gauss-Newton matrix in; give a "
                "loss (output, target) → [batch], or curvature=Hessian"
            )

    def __call__(self, V: Float[Tensor, "m P"]) -> Float[Tensor, "m P"]:
        """`G V`, row by row; see `Hessian`."""
        return _streamed(self.objective, V, self._linear)

    def on(self, batch: Batch, V: Float[Tensor, "m P"]) -> Float[Tensor, "m P"]:
        """`Σ w_i J_iᵀ S_i J_i V` over a batch alone."""
        return _on(self.objective, batch, V, self._linear)

    def _linear(self, batch: Batch, vectors: int) -> Linear:
        del vectors
        objective = self.objective
        assert not isinstance(objective.loss, OnModel)
        function = objective.loss.function
        weights = batch.weights.to(objective.dtype)

        def outputs(theta: Named) -> Tensor:
            return objective.outputs(theta, batch.inputs)

        linearised: Any = vjp(outputs, objective.theta)
        z, back = linearised

        def push(v: Named) -> Named:
            Jv = jvp(outputs, (objective.theta,), (v,))[1]
            SJv = jvp(grad(lambda z: weights @ function(z, batch.targets)), (z,), (Jv,))[1]
            return back(SJv)[0]

        def push_reverse(v: Named) -> Named:
            Jv = vjp(lambda u: back(u)[0], torch.zeros_like(z))[1](v)[0]  # the double-reverse trick: (Jᵀ)ᵀ v
            SJv = vjp(grad(lambda z: weights @ function(z, batch.targets)), z)[1](Jv)[0]
            return back(SJv)[0]

        return push_reverse if objective.tactics.reverse else push


def _tangent_of_gradient(objective: NetworkObjective, batch: Batch, v: Named) -> Named:
    """`Σ w_i ∇²ℓ_i v` by plain autograd on dual numbers: less memory and time than `torch.func`, one v at a time."""
    large = len(batch) * objective.activation_bytes > LARGE
    with torch.enable_grad(), forward_ad.dual_level():
        theta = {name: forward_ad.make_dual(p.clone().requires_grad_(), v[name]) for name, p in objective.theta.items()}
        with _PlainTangents() if large else nullcontext():
            total = objective.weighted(theta, batch)
        found: Any = torch.autograd.grad(total, list(theta.values()), allow_unused=True)
        moved = [None if g is None else forward_ad.unpack_dual(g).tangent for g in found]
    return {name: torch.zeros_like(p) if t is None else t.detach()
            for (name, p), t in zip(objective.theta.items(), moved, strict=True)}  # fmt: skip


def _watched() -> bool:
    """Whether hooks on saved tensors are set; taken to be so where this torch cannot tell."""
    top = getattr(vars(torch)["_C"]._autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(True) is not None


class _PlainTangents(TorchFunctionMode):
    """Lets go of the graph behind a tangent: the backward pass goes through the values' graph alone. What the tangents'
    would keep for a derivative of theirs is a third of the memory of a residual network, a seventh of a transformer's
    (tangents that are views, as of a `Linear` on sequences, are left alone).

    Where somebody watches what is saved, as checkpointing does to find it again by its place, nothing is touched.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.requires_grad and not _watched():
            tangent = forward_ad.unpack_dual(out).tangent
            if tangent is not None and tangent.requires_grad and not tangent._is_view():
                tangent.detach_()
        return out


def _streamed(
    objective: NetworkObjective, V: Float[Tensor, "m P"], linear: Callable[[Batch, int], Linear]
) -> Float[Tensor, "m P"]:
    if V.shape[1] != objective.P:
        raise ShapeError(f"vectors of {V.shape[1]} numbers, but there are {objective.P} parameters")
    out = torch.empty_like(V, dtype=torch.float64)
    size = vectors_at_once(objective, len(V))
    for start in range(0, len(V), size):
        part = V[start : start + size]
        total = torch.zeros_like(part, dtype=torch.float64)
        for found in objective.over(
            row_bytes(objective, len(part)), lambda b, v=part: _applied(objective, b, v, linear)
        ):
            total += found
        out[start : start + size] = total / objective.total_weight + objective.l2 * part
    return out


def _on(
    objective: NetworkObjective, batch: Batch, V: Float[Tensor, "m P"], linear: Callable[[Batch, int], Linear]
) -> Float[Tensor, "m P"]:
    out = torch.zeros_like(V, dtype=torch.float64)
    size = vectors_at_once(objective, len(V))
    for start in range(0, len(V), size):
        part = V[start : start + size]
        for found in objective.within(
            batch, row_bytes(objective, len(part)), lambda b, v=part: _applied(objective, b, v, linear)
        ):
            out[start : start + size] += found
    return out


def row_bytes(objective: NetworkObjective, vectors: int) -> float:
    """Bytes that a product with so many vectors takes for each sample; more where a block would be too large."""
    return max(objective.activation_bytes * (FIXED + EACH * vectors), objective.budget * vectors / TOGETHER)


def vectors_at_once(objective: NetworkObjective, wanted: int) -> int:
    """How many vectors go through the network together: as many as leave room for a sample."""
    fit = (objective.budget / objective.activation_bytes - FIXED) / EACH
    return max(1, min(wanted, VECTORS, int(fit)))


def _applied(
    objective: NetworkObjective, batch: Batch, V: Float[Tensor, "m P"], linear: Callable[[Batch, int], Linear]
) -> Float[Tensor, "m P"]:
    """The operator of one batch on a block of vectors."""
    vectors = objective.parameters.split(V.to(objective.dtype))
    try:
        found = _mapped(linear, batch, vectors, objective.tactics)
    except RuntimeError as cause:
        if no_forward_rule(cause) and not objective.tactics.reverse:
            return _backwards(objective, batch, V, linear, cause)
        if not _not_twice(cause):
            raise
        raise ShapeError(
            f"{_operation(cause)} cannot be differentiated twice ({str(cause).splitlines()[0]}); choose params= behind "
            "it, or replace the operation"
        ) from cause
    result = objective.parameters.join(found).double()
    objective.refuse_nonfinite(batch, result)
    return result


def _backwards(
    objective: NetworkObjective,
    batch: Batch,
    V: Float[Tensor, "m P"],
    linear: Callable[[Batch, int], Linear],
    cause: RuntimeError,
) -> Float[Tensor, "m P"]:
    """The same by reverse-over-reverse, from here on, and said."""
    objective.tactics.reverse = True
    objective.tactics.say_once(
        "reverse", f"{_operation(cause)} has no forward-mode derivative; reverse-over-reverse serves, more slowly"
    )
    return _applied(objective, batch, V, linear)


def _differentiate_twice(objective: NetworkObjective, batch: Batch) -> None:
    """Plain autograd, twice, on two samples: it raises where `torch.func` would take a missing derivative for zero."""
    fixed = {name: p.detach() for name, p in objective.model.named_parameters()}
    theta = {name: p.clone().requires_grad_() for name, p in objective.theta.items()}
    with torch.enable_grad():
        total = objective.weighted({**fixed, **theta}, batch)
        first = torch.autograd.grad(total, list(theta.values()), create_graph=True)
        slopes = [g.sum() for g in first if g.requires_grad]
        if slopes:
            torch.stack(slopes).sum().backward()  # through the whole graph: `grad` would pass a missing derivative by


def _mapped(linear: Callable[[Batch, int], Linear], batch: Batch, vectors: Named, tactics: Tactics) -> Named:
    count = len(next(iter(vectors.values())))
    apply = linear(batch, count)
    if count > 1 and not tactics.single:
        try:
            return vmap(apply, randomness="error")(vectors)
        except RuntimeError as cause:
            tactics.go_single(cause)
            apply = linear(batch, 1)
    rows = [apply({name: v[k] for name, v in vectors.items()}) for k in range(count)]
    return {name: torch.stack([row[name] for row in rows]) for name in vectors}


def no_forward_rule(cause: RuntimeError) -> bool:
    """Whether an error says that an operation has no forward-mode derivative."""
    return "forward AD" in str(cause) or "forward mode AD" in str(cause)


NOT_TWICE = ("is not implemented", "once_differentiable", "setup_context", "does not require grad", "double backward")


def _not_twice(cause: RuntimeError) -> bool:
    return any(words in str(cause) for words in NOT_TWICE)


def _operation(cause: BaseException) -> str:
    """The operation that an error of autograd names."""
    words = str(cause).replace("'", " ").replace(",", " ").split()
    if "derivative for" in str(cause):
        return str(cause).split("derivative for", 1)[1].split()[0].strip("'")
    marked = [word for word in words if "::" in word or word.endswith("Backward0")]
    if marked:
        return marked[0]
    if "AD with" in str(cause):
        return str(cause).split("AD with", 1)[1].split()[0]
    return "an autograd.Function" if "autograd.Function" in str(cause) else "an operation of the model or its loss"


Operator = type[Hessian] | type[GaussNewton]
"""Which of the two."""
