"""What a network was trained on: `F(θ) = (1/N) Σ w_i ℓ_i(θ) + ½ Σ_p l2_p θ_p²` in the chosen parameters θ.

The regulariser is in the curvature and not in the per-sample gradients: samples leave at a fixed total penalty. (A
penalty `λ1 |θ|` has no curvature where a weight is not exactly zero, and after training by SGD or Adam none is.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from ..errors import AssayWarning, ShapeError, SourceError
from ..evaluating import differentiable
from ..sources.examples import Inputs
from ..sources.loading import tensors_of
from .output_loss import OnModel, OutputLoss
from .parameters import Parameters, some
from .reading import Batch, Reading

BUDGET = 2**29  # bytes a pass may take beside the samples
ROWS = 4096  # samples a pass takes at a time, at most
PROBE = 2  # samples on which the memory of one is measured
Result = TypeVar("Result")


@dataclass
class Tactics:
    """What was learnt while computing: rows that fit into memory, whether forward mode works, that two derivatives do,
    and whether vectors and samples go one at a time."""

    rows: int = ROWS
    reverse: bool = False
    twice: bool = False
    single: bool = False
    said: set[str] = field(default_factory=set)

    def say_once(self, what: str, message: str) -> None:
        if what not in self.said:
            self.said.add(what)
            warnings.warn(message, AssayWarning, 2)

    def go_single(self, cause: RuntimeError) -> None:
        """From here on one at a time, where an operation cannot be mapped over several; raises any other error."""
        if not any(words in str(cause) for words in ("vmap support", "vmap over", "batching rule")):
            raise cause
        self.single = True
        self.say_once("single", f"one vector or sample at a time, more slowly: {str(cause).splitlines()[0]}")


@dataclass(frozen=True)
class NetworkObjective:
    """`F(θ)` of a `model` in the chosen `parameters`; `l2` [P] is the penalty of each, `budget` bytes for a pass."""

    model: nn.Module
    loss: OutputLoss | OnModel
    reading: Reading
    parameters: Parameters
    l2: Float[Tensor, " P"]
    budget: int = BUDGET
    tactics: Tactics = field(default_factory=Tactics)

    @property
    def total_weight(self) -> float:
        """N."""
        return self.reading.total_weight

    @property
    def P(self) -> int:
        return self.parameters.count

    @property
    def has_outputs(self) -> bool:
        """Whether outputs and loss are known apart, as a Gauss-Newton matrix needs them."""
        return isinstance(self.loss, OutputLoss)

    @cached_property
    def theta(self) -> dict[str, Tensor]:
        """The chosen parameters' values."""
        return self.parameters.values(self.model)

    @property
    def dtype(self) -> torch.dtype:
        return self.reading.like.dtype

    def outputs(self, theta: dict[str, Tensor], inputs: Inputs) -> Tensor:
        """What the model gives under θ; a Hugging Face model's `.logits`."""
        if isinstance(inputs, dict):
            found = functional_call(self.model, theta, (), inputs)
        else:
            found = functional_call(self.model, theta, inputs if isinstance(inputs, tuple) else (inputs,))
        return found if isinstance(found, Tensor) else getattr(found, "logits", found)

    def losses(self, theta: dict[str, Tensor], inputs: Inputs, targets: Tensor) -> Tensor:
        """`ℓ_i(θ)` of each sample of a batch; raises `ShapeError` where the loss gives no single value a sample."""
        if isinstance(self.loss, OnModel):
            called = _Called(self.model, self.loss)
            found = functional_call(called, {f"model.{name}": p for name, p in theta.items()}, ((inputs, targets),))
        else:
            found = self.loss.function(self.outputs(theta, inputs), targets)
        rows = len(tensors_of(inputs)[0])
        if found.shape != (rows,):
            raise ShapeError(
                f"the loss gives shape {list(found.shape)} for {rows} samples, expected [{rows}]: "
                + ("a mean or sum over them; " if found.ndim == 0 else "")
                + "give one that returns one value a sample, such as "
                'lambda z, y: functional.cross_entropy(z, y, reduction="none")'
            )
        return found

    def weighted(self, theta: dict[str, Tensor], batch: Batch) -> Tensor:
        """`Σ w_i ℓ_i(θ)` over a batch."""
        return batch.weights.to(self.dtype) @ self.losses(theta, batch.inputs, batch.targets)

    def evaluating(self) -> Any:
        """The context in which the model is asked anything."""
        return differentiable(self.model)

    def over(self, row_bytes: float, run: Callable[[Batch], Result], *, start: int = 0) -> Iterator[Result]:
        """`run` over the samples from `start` on in order, as many at a time as `row_bytes` each leave room for.

        Where memory runs out nevertheless, half as many are tried, and that is said; raises what was raised for one.
        """
        for batch in self.reading.batches(start):
            yield from self.within(batch, row_bytes, run)

    def within(self, batch: Batch, row_bytes: float, run: Callable[[Batch], Result]) -> Iterator[Result]:
        """The same over the samples of one batch."""
        first = 0
        while first < len(batch):
            rows = max(1, min(self.tactics.rows, int(self.budget / max(row_bytes, 1.0))))
            part = batch.rows(first, min(first + rows, len(batch)))
            try:
                with self.evaluating():
                    found = run(part)
            except (RuntimeError, MemoryError) as cause:
                if not out_of_memory(cause) or len(part) == 1:
                    raise
                self.tactics.rows = len(part) // 2
                self.tactics.say_once(
                    "memory",
                    f"out of memory with {len(part)} samples at once; going on with {self.tactics.rows}. Give "
                    "a smaller budget= to begin there",
                )
                continue
            yield found
            first += len(part)

    @cached_property
    def activation_bytes(self) -> float:
        """Bytes that one sample's forward pass keeps for its gradient."""
        batch = next(self.reading.batches()).rows(0, PROBE)
        kept: dict[int, int] = {}
        own = {p.data_ptr() for p in self.model.parameters()}

        def pack(x: Tensor) -> Tensor:
            if x.data_ptr() not in own:
                kept[x.data_ptr()] = max(kept.get(x.data_ptr(), 0), x.numel() * x.element_size())
            return x

        theta = {name: p.clone().requires_grad_() for name, p in self.theta.items()}
        own |= {p.data_ptr() for p in theta.values()}
        with self.evaluating(), torch.enable_grad(), saved_tensors_hooks(pack, lambda x: x):
            total = self.weighted(theta, batch)
        del total
        return sum(kept.values()) / len(batch) + 8.0

    def check(self) -> None:
        """Raises what is wrong with model, loss and parameters, on the first samples.

        `ShapeError` for a loss that is no value a sample or mixes samples, and for parameters the output does not
        depend on; `SourceError` naming a sample whose loss is not finite.
        """
        batch = next(self.reading.batches()).rows(0, 4)
        theta = {name: p.clone().requires_grad_() for name, p in self.theta.items()}
        with self.evaluating(), torch.enable_grad():
            found = self.losses(theta, batch.inputs, batch.targets)
            slopes: Any = [None] * len(theta)
            if found.requires_grad:
                slopes = torch.autograd.grad(found.sum(), list(theta.values()), allow_unused=True)
        together = found.detach()
        unused = [name for name, gradient in zip(theta, slopes, strict=True) if gradient is None]
        if unused:
            raise ShapeError(f"the loss does not depend on {some(unused)}; leave them out of params=")
        self.refuse_nonfinite(batch, together)
        with self.evaluating():
            alone = torch.cat([self.losses(self.theta, *batch.rows(k, k + 1)[:2]) for k in range(len(batch))])
        apart = (alone - together).abs() > 1e-3 * (together.abs() + together.abs().mean())
        if bool(apart.any()):
            row = int(apart.nonzero()[0])
            raise ShapeError(
                f"the loss of {self.reading.examples.where(row)} is {float(alone[row]):.4g} alone, but "
                f"{float(together[row]):.4g} in a batch; the loss of a sample may not depend on the others"
            )

    def refuse_nonfinite(self, batch: Batch, result: Tensor) -> None:
        """Raises `SourceError` naming the first sample of a batch whose loss is not finite, if the result is not."""
        if bool(result.isfinite().all()):
            return
        with self.evaluating():
            bad = (~self.losses(self.theta, batch.inputs, batch.targets).isfinite()).nonzero()
        where = f"the batch of samples {batch.first} to {batch.first + len(batch) - 1}"
        if batch.chosen is not None:
            where = f"a batch of {len(batch)} chosen samples"
        if not len(bad):
            raise SourceError(f"{where}: the losses are finite but their derivatives are not; look for a square root "
                              "or a division at zero in the model or its loss")  # fmt: skip
        row = int(bad[0, 0])
        inputs = [x[row] for x in tensors_of(batch.inputs) if x.is_floating_point()]
        why = "its input is not finite" if any(not bool(x.isfinite().all()) for x in inputs) else "its input is finite"
        raise SourceError(
            f"{self.reading.examples.where(batch.position(row))}, in {where}, has a loss that is not finite ({why}); "
            "drop it, or repair it"
        )


class _Called(nn.Module):
    """A model and a loss that calls it, as one module."""

    def __init__(self, model: nn.Module, loss: OnModel) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, batch: tuple[Inputs, Tensor]) -> Tensor:
        return self._loss.function(self.model, batch)


def out_of_memory(cause: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's on a device, its CPU allocator's, or Python's."""
    return isinstance(cause, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(cause)
