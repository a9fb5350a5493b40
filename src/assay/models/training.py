"""The loop that trains the networks of our experiments: seeded, resumable to the bit, no more than they need."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import get_total_norm

from ..engine import atomic
from ..errors import ConvergenceError, OutputError, ShapeError
from .penalty import ElasticNet
from .schedules import Schedule, constant

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs and labels to one mean loss."""


@dataclass(frozen=True)
class Training:
    """How to train. Epochs are counted from 1.

    - `epochs`: how many, at most. `batch_size=None` is full-batch: one step an epoch.
    - `optimizer`: `torch.optim.Adam`, `AdamW`, `SGD` or `Muon`, with its further `options`; `schedule` scales `lr`.
    - `penalty`: added to the loss, such as `ElasticNet(l1, l2)` on the head.
    - `tolerance`: full-batch training ends when the norm of the objective's gradient is no more than this.
    - `patience`: training ends when the validation loss has not fallen for so many epochs; the best weights are kept.
    - `checkpoints`: epochs after which the weights are kept as `epoch-00500.safetensors` in the folder.
    - `precision`: such as `torch.bfloat16`, in which the model runs as far as torch's autocast allows; the weights, the
      steps and the loss of its outputs do not.
    - `save_every`: epochs after which the state is written, from which an interrupted training goes on.
    """

    epochs: int
    lr: float = 1e-3
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    options: tuple[tuple[str, Any], ...] = ()
    schedule: Schedule = constant
    batch_size: int | None = 128
    penalty: Callable[[nn.Module], Tensor] | None = None
    tolerance: float = 0.0
    patience: int | None = None
    checkpoints: tuple[int, ...] = ()
    save_every: int = 1
    seed: int = 0
    precision: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.save_every < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise ShapeError(
                f"epochs={self.epochs}, batch_size={self.batch_size}, save_every={self.save_every}: all are 1 or more"
            )
        if self.tolerance and self.batch_size is not None:
            raise ShapeError("tolerance is on the gradient of all samples; train with batch_size=None")
        if late := [epoch for epoch in self.checkpoints if not 1 <= epoch <= self.epochs]:
            raise ShapeError(f"checkpoint {late[0]} is not one of the epochs 1 to {self.epochs}")


@dataclass
class History:
    """What happened in each epoch: mean `loss` (with its penalty), `gradient_norm` (full-batch only, else empty) before
    the step, `validation_loss`; `best` is the epoch whose weights were kept, the last one without `patience`."""

    loss: list[float] = field(default_factory=list[float])
    gradient_norm: list[float] = field(default_factory=list[float])
    validation_loss: list[float] = field(default_factory=list[float])
    best: int = 0

    @property
    def epochs(self) -> int:
        return len(self.loss)


def train(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    training: Training,
    *,
    loss: Loss = functional.cross_entropy,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    validation: tuple[Tensor, Tensor] | None = None,
    folder: Path | None = None,
    at_checkpoint: Callable[[int], None] = lambda epoch: None,
    advance: Callable[[], None] = lambda: None,
) -> History:
    """Trains the model in place and says how it went; on the CPU the same seed gives the same weights.

    The order of samples and all that is drawn in an epoch (dropout, `augment(batch, generator)`) follow from the seed
    and the epoch alone, so that a training interrupted at any moment and started again with the same `folder` ends in
    the same bits as one that was not. `prepare(batch)` takes the place of `augment` where nothing may be drawn: for the
    validation inputs, and for all where there is no `augment`. `at_checkpoint` is called at each of
    `training.checkpoints`, `advance` after every epoch. Raises `ConvergenceError` where the loss is no longer finite,
    `OutputError` where the folder holds the state of another training, `ShapeError` where inputs and labels disagree.
    """
    if len(inputs) != len(labels):
        raise ShapeError(f"{len(inputs)} inputs, but {len(labels)} labels; give one of each per sample")
    if training.patience is not None and validation is None:
        raise ShapeError("patience watches the validation loss; give validation=(inputs, labels)")
    run = _Run(model, training, loss, augment, prepare, folder)
    run.resume(_digest(inputs, labels) if folder is not None else "")
    while not run.finished():
        run.epoch(inputs, labels, validation)
        advance()
        if run.done in training.checkpoints:
            at_checkpoint(run.done)
    run.keep_best()
    return run.history


class _Run:
    """One training on its way: the model, the optimiser and the history so far."""

    def __init__(
        self, model: nn.Module, training: Training, loss: Loss, augment: Any, prepare: Any, folder: Path | None
    ) -> None:
        self.model, self.training, self.loss, self.folder = model, training, loss, folder
        self.prepare = prepare or (lambda batch: batch)
        self.augment = augment or (lambda batch, generator: self.prepare(batch))
        self.optimizer = training.optimizer(model.parameters(), lr=training.lr, **dict(training.options))
        self.device = next(model.parameters()).device
        self.history = History()
        self.best_weights: dict[str, Tensor] = {}
        self.data = ""

    @property
    def done(self) -> int:
        return self.history.epochs

    def finished(self) -> bool:
        training, history = self.training, self.history
        waited = training.patience is not None and self.done - history.best >= training.patience
        still = training.tolerance > 0 and self.done > 0 and history.gradient_norm[-1] <= training.tolerance
        return self.done >= training.epochs or still or waited

    def epoch(self, inputs: Tensor, labels: Tensor, validation: tuple[Tensor, Tensor] | None) -> None:
        training, history = self.training, self.history
        seed = _seed(training.seed, self.done)
        self.model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            total, norm = self._steps(inputs, labels, torch.Generator().manual_seed(seed))
        if not math.isfinite(total):
            raise ConvergenceError(f"the loss of epoch {self.done + 1} is {total}; lower lr={training.lr:g}")
        history.loss.append(total)
        history.gradient_norm += norm
        if validation is not None:
            history.validation_loss.append(self._validate(*validation))
        if training.patience is None:
            history.best = self.done
        elif history.validation_loss[-1] <= min(history.validation_loss):
            history.best = self.done
            self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._save()

    def _steps(self, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[float, list[float]]:
        total, norm = torch.zeros((), dtype=torch.float64, device=self.device), list[float]()
        batches = list(_batches(inputs, self.training.batch_size, generator))
        for k, rows in enumerate(batches):
            for group in self.optimizer.param_groups:
                group["lr"] = self.training.lr * self.training.schedule(
                    (self.done + k / len(batches)) / self.training.epochs
                )
            x, y = (inputs, labels) if rows is None else (inputs[rows], labels[rows])
            value = self._loss(self.augment(x, generator), y)
            if self.training.penalty is not None:
                value = value + self.training.penalty(self.model)
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            if rows is None:
                norm = [float(get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None]))]
            self.optimizer.step()
            total += value.detach().double() * len(x) / len(inputs)  # read once an epoch: a GPU need not be waited for
        return float(total), norm

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        precision = self.training.precision
        with torch.autocast(self.device.type, precision, enabled=precision is not None):
            outputs = self.model(x.to(self.device))
        return self.loss(outputs if precision is None else outputs.float(), y.to(self.device))

    @torch.inference_mode()
    def _validate(self, inputs: Tensor, labels: Tensor) -> float:
        self.model.eval()
        size = self.training.batch_size or len(inputs)
        parts = zip(inputs.split(size), labels.split(size), strict=True)
        sums = [float(self._loss(self.prepare(x), y)) * len(x) for x, y in parts]
        return sum(sums) / len(inputs)

    def keep_best(self) -> None:
        """The best weights, where patience watched for them."""
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        self.model.eval()

    def _save(self) -> None:
        """The checkpoint, where this epoch is one, and the state from which to go on."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.done in self.training.checkpoints:
            _write(self.folder / f"epoch-{self.done:05d}.safetensors", self.model.state_dict(), {"epoch": self.done})
        if self.done % self.training.save_every == 0 or self.finished():
            tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
            tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
            for index, values in self.optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items() if value is not None}
            _write(self._state(), tensors, {**self._identity(), "history": vars(self.history)})

    def resume(self, data: str) -> None:
        self.data = data
        if self.folder is None or not self._state().exists():
            return
        with safe_open(self._state(), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("training", "{}"))
        if any(header.get(name) != value for name, value in json.loads(json.dumps(self._identity())).items()):
            raise OutputError(f"{self.folder} holds the state of another training; name another folder, or remove it")
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, value in load_file(self._state()).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        self.best_weights = parts["best"]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            index, _, entry = name.partition(".")
            state.setdefault(int(index), {})[entry] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.history = History(**header["history"])

    def _state(self) -> Path:
        assert self.folder is not None
        return self.folder / "state.safetensors"

    def _identity(self) -> dict[str, Any]:
        training = self.training
        shapes = [list(p.shape) for p in self.model.parameters()]
        named = ("epochs", "lr", "options", "batch_size", "tolerance", "patience", "seed")
        kinds = {"optimizer": training.optimizer, "schedule": training.schedule, "loss": self.loss}
        return {
            "shapes": shapes,
            "precision": None if training.precision is None else str(training.precision),
            "data": self.data,
            "penalty": repr(training.penalty) if isinstance(training.penalty, ElasticNet) else None,
            **{name: getattr(kind, "__qualname__", type(kind).__name__) for name, kind in kinds.items()},
            **{name: getattr(training, name) for name in named},
        }


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _seed(seed: int, epoch: int) -> int:
    """One of 2³² seeds, of which torch's generator on the CPU uses no more."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=4).digest())


def _batches(inputs: Tensor, size: int | None, generator: torch.Generator) -> Iterator[Int64[Tensor, " b"] | None]:
    if size is None:
        yield None
    else:
        yield from torch.randperm(len(inputs), generator=generator).split(size)


def _write(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    whole = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    with atomic(path, resumes=True) as temporary:
        save_file(whole, temporary, {"training": json.dumps(header)})
