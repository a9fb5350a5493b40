"""A loss per sample, `ℓ(z, y) → [b]`, and its own curvature `S = ∂²ℓ/∂z²` in the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import hessian, vmap
from torch.nn import functional

from ..errors import ShapeError

PerSample = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class OnModel:
    """A loss that calls the model itself: `function(model, (inputs, targets)) → [b]`, one value a sample.

    Its outputs are not known, so it has a Hessian but no Gauss-Newton matrix.
    """

    function: Callable[[nn.Module, tuple[Any, Tensor]], Tensor]


@dataclass(frozen=True)
class OutputLoss:
    """`function(z, y) → [b]`; `class_weight` goes into the weights of the samples, as in torch's weighted mean.

    Samples labelled `ignored` have the weight 0 and do not count in N, as in torch. `root(z) → [b, R, C]` with
    `Σ_r root_r root_rᵀ = S` where it is known in closed form; else S is decomposed.
    """

    function: PerSample
    class_weight: Float[Tensor, " C"] | None = None
    root: Callable[[Tensor], Tensor] | None = None
    ignored: int | None = None

    def roots(self, z: Tensor, y: Tensor) -> Float[Tensor, "b R C"]:
        """Rows whose outer products sum to S, over flattened outputs; negative curvature of S counts as none.

        Where no closed form is known they are those of `S^½`, which is one matrix whatever eigenvectors were found.
        """
        if self.root is not None and z.ndim == 2:
            return self.root(z)
        values, vectors = torch.linalg.eigh(self.curvature(z, y))
        return (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mT

    def curvature(self, z: Tensor, y: Tensor) -> Float[Tensor, "b C C"]:
        """S of each sample, over its flattened outputs."""
        shape = z.shape[1:]

        def one(flat: Tensor, target: Tensor) -> Tensor:
            return self.function(flat.reshape(1, *shape), target[None])[0]

        return vmap(hessian(one))(z.reshape(len(z), -1), y)


def softmax_root(z: Float[Tensor, "b C"]) -> Float[Tensor, "b C C"]:
    """`√p_c (e_c − p)`: the rows whose outer products sum to `diag(p) − p pᵀ`."""
    p = torch.softmax(z, 1)
    return p.sqrt()[:, :, None] * (torch.eye(z.shape[1], dtype=z.dtype, device=z.device) - p[:, None, :])


def _identity_root(scale: Callable[[int], float]) -> Callable[[Tensor], Tensor]:
    def root(z: Tensor) -> Tensor:
        C = z.shape[1]
        return (scale(C) ** 0.5 * torch.eye(C, dtype=z.dtype, device=z.device)).expand(len(z), C, C)

    return root


def _logistic(z: Tensor, y: Tensor) -> Tensor:
    found = functional.binary_cross_entropy_with_logits(z, y.to(z.dtype).reshape(z.shape), reduction="none")
    return found.reshape(len(z), -1).sum(1)


def _linear(z: Tensor, y: Tensor) -> Tensor:
    return (z - y.to(z.dtype).reshape(z.shape)).square().reshape(len(z), -1).sum(1) / 2


def _softmax(z: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(z, y, reduction="none")


NAMED = {
    "softmax": OutputLoss(_softmax, root=softmax_root),
    "logistic": OutputLoss(_logistic),
    "linear": OutputLoss(_linear, root=_identity_root(lambda C: 1.0)),
}


def output_loss(loss: Any) -> OutputLoss:
    """A loss per sample from what users pass: a family's name, a torch loss, or a function `(output, target) → [b]`.

    `nn.CrossEntropyLoss`, `nn.MSELoss` and `nn.BCEWithLogitsLoss` are taken without their mean over samples; squared
    errors stay torch's mean over outputs. Raises `ShapeError` for what is none of these.
    """
    if isinstance(loss, OutputLoss):
        return loss
    if isinstance(loss, str):
        if loss not in NAMED:
            raise ShapeError(f"loss={loss!r} is none of {', '.join(NAMED)}; or pass a loss of torch or a function")
        return NAMED[loss]
    if isinstance(loss, nn.CrossEntropyLoss):
        plain = nn.CrossEntropyLoss(
            ignore_index=loss.ignore_index, reduction="none", label_smoothing=loss.label_smoothing
        )
        if loss.weight is not None and loss.label_smoothing:
            raise ShapeError("nn.CrossEntropyLoss with weight= and label_smoothing= at once; give a function instead")
        weight = None if loss.weight is None else loss.weight.detach().double().cpu()
        return OutputLoss(plain, weight, softmax_root, loss.ignore_index)
    if isinstance(loss, nn.MSELoss | nn.BCEWithLogitsLoss):
        return OutputLoss(_mean_over_outputs(loss), None, _identity_root(lambda C: 2.0 / C)
                          if isinstance(loss, nn.MSELoss) else None)  # fmt: skip
    if not callable(loss):
        raise ShapeError(f"loss={loss!r} is a {type(loss).__name__}; give a function (output, target) → [batch]")
    function: Any = loss
    return OutputLoss(function)


def _mean_over_outputs(loss: nn.MSELoss | nn.BCEWithLogitsLoss) -> PerSample:
    if isinstance(loss, nn.MSELoss):
        plain = nn.MSELoss(reduction="none")
    else:
        plain = nn.BCEWithLogitsLoss(loss.weight, reduction="none", pos_weight=loss.pos_weight)

    def function(z: Tensor, y: Tensor) -> Tensor:
        return plain(z, y.to(z.dtype).reshape(z.shape)).reshape(len(z), -1).mean(1)

    return function
