"""A trained network and its training set as an audit takes them: the embedding as source, the last layer as head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..design import Design
from ..encoder import Encoder
from ..engine import Progress
from ..errors import ShapeError
from ..families import Family
from ..head import Head
from ..losses import TrainingLoss, loss_of
from ..sources.arrays import numpy_of
from ..sources.examples import Block, Examples, Samples
from ..sources.frame import is_frame
from ..sources.images import holds_images
from ..sources.open import open_source
from ..sources.open_examples import open_examples
from ..sources.source import Source
from ..sources.table import TableSource
from ..sources.table_examples import TableExamples
from ..trained import weights_of
from .encode import Encoded
from .keep import Encoding, keep
from .split import Split, split
from .units import check_inputs

PENALISING = frozenset({"SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD"})
"""Optimisers whose weight decay is the gradient of a penalty."""


@dataclass(frozen=True)
class TrainedLayer:
    """A network's own last layer: V on its identity `design`, how it was penalised, and whether it is `refit`, kept
    (False), or its scores stand beside (`both`). `names`: what its outputs are called, in order."""

    V: Float[Tensor, "K d"]
    design: Design
    names: tuple[Any, ...] | None
    l2: float
    damping: float
    penalize_bias: bool
    refit: bool
    both: bool

    def fits(self, family: Family, vocabulary: tuple[Any, ...] | None) -> bool:
        """Whether its outputs are the classes (or targets) that occur, in their order."""
        return len(self.V) == family.K and self.names == vocabulary

    def head(self, family: Family, source: Source, total_weight: float, encoder: Encoder | None = None) -> Head:
        """The layer as a head of these samples, not yet measured at any (`Head.as_trained`)."""
        return Head(
            V=self.V, family=family, design=self.design, l2=self.l2, damping=self.damping,
            penalize_bias=self.penalize_bias, total_weight=total_weight, columns=source.columns,
            vocabulary=source.vocabulary, encoder=encoder,
        )  # fmt: skip

    def at(self, family: Family, source: Source) -> Head | None:
        """The head at whose weights an audit sums over all rows; None where its outputs are other classes."""
        return self.head(family, source, 1.0) if self.fits(family, source.vocabulary) else None

    def on(self, design: Design) -> Float[Tensor, "K d"]:
        """Its weights on the columns that a design keeps, as they are."""
        width = len(self.design.kept)
        slopes = self.V[:, :width][:, design.kept]
        bias = self.V[:, width:] if self.design.bias else torch.zeros(len(self.V), 1, dtype=torch.float64)
        return torch.cat([slopes, bias], 1) if design.bias else slopes


@dataclass(frozen=True)
class Ran:
    """Which network was run, and how: `weights` is the SHA-256 of all of it."""

    weights: str
    layer: str
    precision: str
    batch: int
    mirror: bool | str | None


@dataclass(frozen=True)
class Networked:
    """The embedding as a `source`, the `family` by name, what encodes, the layer it came before, what ran, on what."""

    source: TableSource
    family: str
    encoder: Encoder
    layer: TrainedLayer
    run: Ran
    encoded: Encoded


@dataclass(frozen=True)
class Network:
    """A trained `model`; `layer` names its last, `loss` how it was trained (else as the labels suggest).

    `refit` True (the head is fitted anew), False (kept as it is, with its λ2, `damping`, or what the `optimizer`
    decays) or "both".
    """

    model: nn.Module
    layer: str | None = None
    loss: Any = None
    refit: bool | str = True
    damping: float = 0.0
    optimizer: torch.optim.Optimizer | None = None
    encoding: Encoding = field(default_factory=Encoding)

    def of(
        self, data: Any, *, l2: float | str, folder: Path | None, progress: Progress | None = None, **columns: Any
    ) -> Networked:
        """Runs the network over `data` (see `open_examples`; a table's columns are its inputs), or finds that it was.

        Raises `SourceError`, `ShapeError`.
        """
        self._check(l2)
        encoded, loss = self._opened(data, columns)
        samples, found, family = encoded.examples, encoded.split, encoded.family
        encoded.check_known_labels()
        samples.check_unchanging()
        layer = self._layer(found, family, loss, l2)  # what is missing is said before the network runs
        source = keep(encoded, self.encoding, folder, progress)
        layer = replace(layer, names=_names(layer.names, samples, source))
        if layer.both or not layer.refit:
            _check_fits(layer, source)
        run = Ran(found.fingerprint(), found.layer, self.encoding.precision, samples.batch, self.encoding.mirror)
        return Networked(source, family, _encoder(found), layer, run, encoded)

    def _check(self, l2: float | str) -> None:
        """Raises `ShapeError` for options that contradict each other."""
        if self.refit not in (True, False, "both"):
            raise ShapeError(f'refit={self.refit!r} is not True, False or "both"')
        if self.refit is True and self.damping:
            raise ShapeError(f"damping={self.damping:g} is of a head that is kept; pass refit=False, or leave it out")
        if self.refit is False and self.optimizer is not None and not isinstance(l2, str):
            raise ShapeError(f"l2={l2:g} and an optimizer both say how the head was penalised; give one of them")

    def encoded(self, data: Any, **columns: Any) -> Encoded:
        """The samples, and the network split on the first of them, before it has run over all; no pictures."""
        return replace(self._opened(data, columns)[0], pictures=False)

    def _opened(self, data: Any, columns: dict[str, Any]) -> tuple[Encoded, TrainingLoss]:
        samples = samples_of(data, batch=self.encoding.batch, **columns)
        block = next(samples.blocks())
        model = self.encoding.placed(self.model)
        check_inputs(model, samples, block)
        half, mirror = self.encoding.precision == "bf16", self.encoding.mirror
        found = split(model, block.inputs, layer=self.layer, half=half, mirror=mirror)
        loss = loss_of(self.loss if self.loss is not None else suggested_family(block, found.linear.out_features))
        return Encoded(samples, found, loss.family, loss.class_weight), loss

    def _layer(self, found: Split, family: str, loss: TrainingLoss, l2: float | str) -> TrainedLayer:
        chosen, V = weights_of(found.linear, family)
        decay, penalize_bias = 0.0, False
        if self.optimizer is not None:
            decay, penalize_bias = decay_of(self.optimizer, dict(self.model.named_modules())[found.layer])
            decay = loss.l2_of(decay, found.linear.out_features)
        elif not isinstance(l2, str):
            decay = float(l2)
        if self.refit is not True and not decay and not self.damping:
            raise ShapeError(
                f"refit={self.refit!r} keeps the trained head, whose curvature needs what it was penalised by: give "
                "l2= (λ2 of its objective), optimizer= (its weight decay is read) or damping= (added to the curvature)"
            )
        names = tuple(range(max(chosen.C, 2))) if chosen.classifies else None
        width = found.linear.in_features
        design = Design.identity(width, bias=V.shape[1] > width)
        return TrainedLayer(
            V,
            design,
            names,
            decay,
            self.damping,
            penalize_bias,
            refit=self.refit is not False,
            both=self.refit == "both",
        )


def samples_of(
    data: Any,
    *,
    label: str | list[str] | None = None,
    features: str | Sequence[str] | None = None,
    embedding: str | None = None,
    id: Any = None,
    weight: Any = None,
    batch: int | None = None,
) -> Samples:
    """The samples of a table (its feature columns are the inputs), or of whatever `open_examples` takes."""
    if not isinstance(data, tuple | list | str) and isinstance(data, Source):
        return TableExamples(data, ordered=True) if batch is None else TableExamples(data, batch, ordered=True)
    if is_frame(data) or (isinstance(data, str | os.PathLike) and not holds_images(Path(data))):
        source = open_source(data, label=label, features=features, embedding=embedding, id=id, weight=weight)
        return TableExamples(source) if batch is None else TableExamples(source, batch)
    if embedding is not None or isinstance(label, list):
        raise ShapeError("embedding= and several labels name columns of a table; these samples have none")
    names = [features] if isinstance(features, str) else list(features or ())
    found = open_examples(data, label=label, inputs=names, ids=id, weights=weight)
    return replace(found, batch=batch) if batch is not None and isinstance(found, Examples) else found


def suggested_family(block: Block, outputs: int) -> str:
    """The family that the labels of some samples suggest: classes where they are integers or names.

    Floats are targets, but those of one output that are all 0 or 1 are classes.
    """
    y = numpy_of(block.labels, "labels")
    if y.dtype.kind == "f" and not (outputs == 1 and bool(((y == 0) | (y == 1)).all())):
        shares = y.ndim == 2 and y.shape[1] > 1 and bool((np.abs(y.sum(1) - 1) < 1e-5).all() and (y >= 0).all())
        if shares or (outputs > 1 and y.ndim == 1):
            what = "rows that sum to one" if shares else f"one float a sample, but the model has {outputs} outputs"
            raise ShapeError(f'labels are {what}; give class codes (integers), or family="linear" for targets')
        return "linear"
    return "softmax" if outputs > 1 else "logistic"


def decay_of(optimizer: torch.optim.Optimizer, linear: nn.Module) -> tuple[float, bool]:
    """The weight decay of a layer's weights, and whether its bias decays too.

    Raises `ShapeError` where the optimiser does not train the layer, or its decay is no part of an objective (AdamW's
    is decoupled from the gradient).
    """
    kind = type(optimizer).__name__
    groups: dict[str, Any] = {}
    for group in optimizer.param_groups:
        for name, p in linear.named_parameters(recurse=False):
            if any(p is other for other in group["params"]):
                groups[name] = group
    if "weight" not in groups:
        raise ShapeError(f"the {kind} does not train the model's last layer; give the one that did, or l2= or damping=")
    decay = float(groups["weight"].get("weight_decay", 0.0))
    if decay and (kind not in PENALISING or groups["weight"].get("decoupled_weight_decay")):
        raise ShapeError(
            f"the weight decay of {kind} is no penalty of an objective: where it comes to rest the gradient is not "
            "zero; give l2= or damping="
        )
    of_bias = float(groups.get("bias", groups["weight"]).get("weight_decay", 0.0))
    if of_bias not in (0.0, decay):
        raise ShapeError(f"the layer's bias decays by {of_bias:g}, its weights by {decay:g}; give l2= or damping=")
    return decay, bool(of_bias) and "bias" in groups


def encoded_samples(model: nn.Module, new: Any, audited: dict[str, Any], family: str, **columns: Any) -> TableSource:
    """New samples through the network of an audit, run as it was; `audited` are the audit's arguments.

    Raises `ShapeError` where the model is another, or has other weights.
    """
    name, run = audited["encoder"], audited.get("network")
    if run is None:
        raise ShapeError(f"the audit was made through {name or 'no encoder'}, not through a network")
    samples = samples_of(new, **columns)
    layer = run["layer"] if run["layer"] in dict(model.named_modules()) else None
    block = next(samples.blocks())
    check_inputs(model, samples, block)
    found = split(model, block.inputs, layer=layer, half=run["precision"] == "bf16", mirror=run["mirror"])
    if found.name != name:
        raise ShapeError(f"the audit was made through {name}, but this model has {found.name}")
    if found.fingerprint() != run["weights"]:
        raise ShapeError(f"the audit was made through {name} with other weights; give the model as it was then")
    return keep(Encoded(samples, found, family, pictures=False), Encoding(keep="memory"))


def _encoder(found: Split) -> Encoder:
    return Encoder(found.name, lambda features: found.embeddings(torch.as_tensor(numpy_of(features, "inputs"))))


def _names(names: tuple[Any, ...] | None, samples: Samples, source: TableSource) -> tuple[Any, ...] | None:
    """What the outputs are called: class names in their order where the data set knows them, else their numbers."""
    vocabulary = source.vocabulary
    if names is None or vocabulary is None or samples.classes is None or not isinstance(vocabulary[0], str):
        return names
    return samples.classes[: len(names)]


def _check_fits(layer: TrainedLayer, source: TableSource) -> None:
    vocabulary, names = source.vocabulary, layer.names
    if names is None or vocabulary is None or names == vocabulary:
        return
    if unknown := [name for name in vocabulary if name not in names]:
        raise ShapeError(
            f"label {unknown[0]!r} cannot be matched with one of the model's {len(names)} outputs; give labels as "
            f"integers 0–{len(names) - 1} to keep the trained head, or refit=True"
        )
    absent = next(name for name in names if name not in vocabulary)
    raise ShapeError(
        f"class {absent!r} of the model has no sample here; refit=True fits a head to the classes there are"
    )
