"""Gradients of single samples, `g_i = ∇ℓ_i(θ)`, and their products with given vectors without forming them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, jvp, vmap

from ..sources.examples import Inputs
from .objective import NetworkObjective
from .products import EACH, FIXED, no_forward_rule
from .reading import Batch, mapped


def gradient_rows(objective: NetworkObjective, batch: Batch) -> Float[Tensor, "b P"]:
    """`∇ℓ_i` of each sample of a batch by `vmap(grad)`, float64; O(b P) memory, weights not in them."""

    def one(theta: dict[str, Tensor], inputs: Inputs, target: Tensor) -> Tensor:
        return objective.losses(theta, mapped(inputs, lambda x: x[None]), target[None])[0]

    found = each_sample(objective, grad(one), batch)
    result = objective.parameters.join(found).double()
    objective.refuse_nonfinite(batch, result)
    return result


def each_sample(objective: NetworkObjective, function: Any, batch: Batch) -> dict[str, Tensor]:
    """`function(theta, inputs, target)` of each sample, together where the model can be mapped over."""
    if not objective.tactics.single:
        try:
            return vmap(function, in_dims=(None, 0, 0))(objective.theta, batch.inputs, batch.targets)
        except RuntimeError as cause:
            objective.tactics.go_single(cause)
    rows = [
        function(objective.theta, mapped(batch.inputs, lambda x, k=k: x[k]), batch.targets[k])
        for k in range(len(batch))
    ]
    return {name: torch.stack([row[name] for row in rows]) for name in objective.theta}


def gradients(objective: NetworkObjective, batch: Batch) -> Float[Tensor, "b P"]:
    """The same in as many pieces as the budget asks for."""
    return torch.cat(list(objective.within(batch, gradient_bytes(objective), lambda b: gradient_rows(objective, b))))


def sampled_gradients(objective: NetworkObjective, rows: int, seed: int) -> Float[Tensor, "b P"]:
    """The gradients of a seeded sample of so many (or all) samples, in order."""
    chosen = torch.randperm(len(objective.reading), generator=torch.Generator().manual_seed(seed))[:rows]
    return gradients(objective, objective.reading.at(sorted(chosen.tolist())))


def every_gradient(objective: NetworkObjective, start: int = 0) -> Iterator[Float[Tensor, "b P"]]:
    """The gradients of all samples in order, some at a time."""
    return objective.over(gradient_bytes(objective), lambda b: gradient_rows(objective, b), start=start)


def gradient_bytes(objective: NetworkObjective) -> float:
    """Bytes that a sample's own gradient takes while it is made."""
    return 24.0 * objective.P + FIXED * objective.activation_bytes


def along(objective: NetworkObjective, X: Float[Tensor, "m P"]) -> Iterator[Float[Tensor, "b m"]]:
    """`∇ℓ_iᵀ x_j` for all samples i and vectors j, some samples at a time, by forward mode: no gradient is formed.

    Where an operation has no forward-mode rule the gradients are formed after all, and that is said once.
    """

    def run(batch: Batch) -> Tensor:
        if not objective.tactics.reverse:
            try:
                return _forward(objective, batch, X)
            except RuntimeError as cause:
                if not no_forward_rule(cause):
                    raise
                objective.tactics.reverse = True
                objective.tactics.say_once(
                    "reverse", f"{str(cause).splitlines()[0]}; the gradients of single samples are formed instead"
                )
        return gradient_rows(objective, batch) @ X.T

    row = objective.activation_bytes * (FIXED + EACH * len(X))
    return objective.over(max(row, gradient_bytes(objective)) if objective.tactics.reverse else row, run)


def _forward(objective: NetworkObjective, batch: Batch, X: Float[Tensor, "m P"]) -> Float[Tensor, "b m"]:
    def push(x: dict[str, Tensor]) -> Tensor:
        return jvp(lambda t: objective.losses(t, batch.inputs, batch.targets), (objective.theta,), (x,))[1]

    vectors = objective.parameters.split(X.to(objective.dtype))
    if not objective.tactics.single:
        try:
            return _checked(objective, batch, vmap(push)(vectors))
        except RuntimeError as cause:
            objective.tactics.go_single(cause)
    rows = [push({name: v[k] for name, v in vectors.items()}) for k in range(len(X))]
    return _checked(objective, batch, torch.stack(rows))


def _checked(objective: NetworkObjective, batch: Batch, found: Float[Tensor, "m b"]) -> Float[Tensor, "b m"]:
    found = found.double().T
    objective.refuse_nonfinite(batch, found)
    return found
