"""A loss as torch names it, as a family: what of it has an equal here, and what is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .errors import ShapeError
from .families import check_name

FUNCTIONS: dict[Any, str] = {
    functional.cross_entropy: "softmax",
    functional.binary_cross_entropy_with_logits: "logistic",
    functional.mse_loss: "linear",
}
MODULES: dict[Any, str] = {nn.CrossEntropyLoss: "softmax", nn.BCEWithLogitsLoss: "logistic", nn.MSELoss: "linear"}
NO_LOGITS: dict[Any, str] = {nn.NLLLoss: "nn.CrossEntropyLoss", nn.BCELoss: "nn.BCEWithLogitsLoss"}


@dataclass(frozen=True)
class TrainingLoss:
    """The `family` of a loss, and the weight it gives to each class, in code order."""

    family: str
    class_weight: Float[Tensor, " C"] | None = None
    over_rows: bool = False  # the mean is over rows, not over their weights

    def l2_of(self, weight_decay: float, outputs: int) -> float:
        """λ2 of this weight decay (`(decay/2)‖V‖²` beside the mean loss).

        torch's squared error is the mean over outputs, ours half the sum: for k outputs λ2 is k/2 times the decay.
        """
        if weight_decay and self.over_rows:
            raise ShapeError(
                "with pos_weight= torch's loss is a mean over rows, not over weights; give l2=, which is the weight "
                "decay times the number of rows over their total weight"
            )
        return weight_decay * outputs / 2 if self.family == "linear" else weight_decay


def loss_of(loss: Any) -> TrainingLoss:
    """The family of a name ("softmax"), of an `nn` loss, or of a function of `torch.nn.functional`.

    `nn.CrossEntropyLoss(weight=)` and a scalar `pos_weight=` become class weights. Raises `ShapeError` for a loss that
    is not known, for one whose outputs are no logits, for label smoothing, reductions by sums and weights by element.
    """
    if isinstance(loss, str):
        check_name(loss)
        return TrainingLoss(loss)
    known: str | None = FUNCTIONS.get(loss) if callable(loss) and not isinstance(loss, nn.Module) else None
    if known is not None:
        return TrainingLoss(known)
    family = MODULES.get(type(loss))
    if family is None:
        other = NO_LOGITS.get(type(loss))
        why = "takes no logits" if other else "is not known"
        raise ShapeError(
            f"the loss {_name(loss)} {why}; give {other or 'nn.CrossEntropyLoss, nn.BCEWithLogitsLoss or nn.MSELoss'}, "
            "or family= by name"
        )
    _refuse(loss)
    return TrainingLoss(family, _class_weight(loss), over_rows=getattr(loss, "pos_weight", None) is not None)


def _refuse(loss: Any) -> None:
    if getattr(loss, "label_smoothing", 0.0):
        raise ShapeError(
            f"label_smoothing={loss.label_smoothing} changes the loss of every label; audit with "
            "nn.CrossEntropyLoss() without it: the head is fitted anew"
        )
    if getattr(loss, "ignore_index", -100) >= 0:
        raise ShapeError(f"ignore_index={loss.ignore_index} leaves a class out; drop its samples, and audit without it")
    if loss.reduction != "mean":
        raise ShapeError(f'reduction={loss.reduction!r} is no mean; give the loss with reduction="mean"')
    if isinstance(loss, nn.BCEWithLogitsLoss) and loss.weight is not None:
        raise ShapeError("weight= of nn.BCEWithLogitsLoss goes by element; give weight= to the audit, one a sample")


def _class_weight(loss: Any) -> Float[Tensor, " C"] | None:
    if isinstance(loss, nn.CrossEntropyLoss):
        return None if loss.weight is None else loss.weight.detach().double().cpu()
    positive = getattr(loss, "pos_weight", None)
    if positive is None:
        return None
    if positive.numel() != 1:
        raise ShapeError(f"pos_weight has {positive.numel()} values; several labels at once are not supported")
    return torch.stack([torch.ones((), dtype=torch.float64), positive.detach().double().cpu().flatten()[0]])


def _name(loss: Any) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
