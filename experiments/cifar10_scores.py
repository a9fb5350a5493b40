"""Every score of every image at every checkpoint of one network: ours, and those of the field.

Scores are high where a label is suspect. "trained" reads the network's own last layer, "refit" one fitted anew to the
same embedding with λ2 by leave-one-out, "trimmed" that one fitted again without the suspects, which makes an audit's
`mislabeled_score` where no class stands out as mistaken for another (where some do: cifar10_mistaken.py); "folds" are
probabilities from five heads that each did not see a fifth.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import nn

import assay
from assay.engine import atomic
from assay.explore.judge import Judged, judge
from assay.explore.planted import Flips
from assay.l2 import Rows
from assay.leverage import Leverage

DAMPING = 1e-3  # of the trained head, whose λ2 alone may leave its curvature singular
HEAVY = (1e-1, 1.0)  # λ2 tried beside the one that leave-one-out chooses
NEIGHBOURS = 20
SUSPECT = "trimmed leave-one-out loss"
"""The score by which labels are cleaned."""
BOTH = "trimmed leave-one-out loss, mirrored too"
TRACED = (SUSPECT, BOTH, "trained loss")
"""Kept for every image at every checkpoint."""
KEPT = ("refit Cook's distance", "trained Cook's distance", "refit leave-one-out loss", "AUM")
"""Kept for every image at the last one."""
FOLDS = 5

Floats = np.ndarray


@dataclass(frozen=True)
class Checkpoint:
    """What came into the last linear layer at the end of an epoch `[n, d]`, of images and of their mirror images, the
    layer, and held-out images there."""

    epoch: int
    H: Floats
    mirrored: Floats
    W: Floats
    b: Floats
    validation: Floats
    validation_labels: np.ndarray
    test: Floats
    test_labels: np.ndarray
    lr: float


@dataclass
class Found:
    """Columns of scores `[n]`, and what each checkpoint is like."""

    columns: dict[str, pa.Array] = field(default_factory=dict[str, pa.Array])
    told: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def score_checkpoints(
    points: Iterator[Checkpoint], labels: np.ndarray, truth: np.ndarray, *, home: Path, total: int, seed: int
) -> Found:
    """All scores at all checkpoints up to `total`: how each ranks the flips, and the scores that traces are made of."""
    found, margins, tracin, last = Found(), np.zeros(len(labels)), np.zeros(len(labels)), 0
    wrong, scores = labels != truth, dict[str, Floats]()
    for point in points:
        scores, told = scored(point, labels, truth, home=home, total=total, seed=seed)
        z = point.H @ point.W.T + point.b
        margins += -margin(z, labels) * (point.epoch - last)
        tracin += point.lr * (point.epoch - last) * scores["trained gradient norm"] ** 2
        last = point.epoch
        told["found"] = {name: measured(score, wrong) for name, score in scores.items()}
        found.told.append(told)
        for name in TRACED:
            found.columns[f"{name} @{point.epoch}"] = half(scores[name])
    further = {"AUM": -margins / last, "TracIn, last layer": tracin}
    found.told[-1]["found"] |= {name: measured(score, wrong) for name, score in further.items()}
    for name in KEPT:
        found.columns[name] = half({**scores, **further}[name])
    return found


def scored(
    point: Checkpoint, labels: np.ndarray, truth: np.ndarray, *, home: Path, total: int, seed: int
) -> tuple[dict[str, Floats], dict[str, Any]]:
    """`at_checkpoint`, and heads on cleaned labels at the last; kept in the folder, so that it is computed once for an
    embedding, its labels and what there is of cleanlab."""
    known = hashlib.blake2b(f"{SUSPECT} {seed} {find_spec('cleanlab') is not None}".encode(), digest_size=6)
    for array in (point.H, point.mirrored, labels):
        known.update(np.ascontiguousarray(array).data)
    file = home / f"scores-{point.epoch:05d}-{known.hexdigest()}.npz"
    if not file.exists():
        scores, told = at_checkpoint(point, labels, seed=seed)
        if point.epoch == total:
            told["head cleaned"] = cleaned(point, scores[SUSPECT], labels, truth, told["l2"], seed)
        with atomic(file) as temporary, open(temporary, "wb") as out:
            np.savez(out, told=np.array(json.dumps(told)), **scores)
    with np.load(file) as written:
        return {name: written[name] for name in written if name != "told"}, json.loads(str(written["told"]))


def at_checkpoint(point: Checkpoint, labels: np.ndarray, *, seed: int) -> tuple[dict[str, Floats], dict[str, Any]]:
    """The scores of one checkpoint, and what can be told of it without knowing the flips (but for accuracies)."""
    H, n = torch.from_numpy(point.H).double(), len(labels)
    z = H.numpy() @ point.W.T.astype(np.float64) + point.b
    p = softmax(z)
    of_label = p[np.arange(n), labels]
    scores: dict[str, Floats] = {
        "trained loss": -np.log(np.maximum(of_label, 1e-300)),
        "trained margin": margin(z, labels),
        "trained EL2N": np.linalg.norm(p - np.eye(10)[labels], axis=1),
        "trained entropy": -(p * np.log(np.maximum(p, 1e-300))).sum(1),
    }
    scores["trained gradient norm"] = scores["trained EL2N"] * np.linalg.norm(point.H, axis=1)
    layer = nn.Linear(point.H.shape[1], 10)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(point.W))
        layer.bias.copy_(torch.from_numpy(point.b))
    own = assay.Head.from_module(layer, H, labels, l2=0.0, damping=DAMPING)
    scores["trained Cook's distance"] = own.leverage(H, labels).cooks_distance().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)
        head = assay.Head.fit(H, labels, family="softmax")
    leverage = head.leverage(H, labels)
    left_out = leverage.leave_one_out()
    scores |= {
        "refit Cook's distance": leverage.cooks_distance().numpy(),
        "refit loss": leverage.scores.loss.numpy(),
        "refit leave-one-out loss": left_out.loss.numpy(),
        "refit leave-one-out margin": margin(left_out.logits.numpy(), labels),
        "refit logit variance": leverage.logit_variance().numpy(),
    }
    both = (H + torch.from_numpy(point.mirrored).double()) / 2
    z2 = both.numpy() @ point.W.T.astype(np.float64) + point.b
    scores["trained loss, mirrored too"] = -np.log(np.maximum(softmax(z2)[np.arange(n), labels], 1e-300))
    second = assay.Head.fit(both, labels, family="softmax", l2=head.l2).leverage(both, labels)
    scores["refit leave-one-out loss, mirrored too"] = second.leave_one_out().loss.numpy()
    scores[SUSPECT], scores[BOTH] = trimmed_loss(head, leverage), trimmed_loss(head, second)
    scores["refit Cook's distance, mirrored too"] = second.cooks_distance().numpy()
    heavy: dict[str, float] = {}
    for l2 in HEAVY:
        other = assay.Head.fit(H, labels, family="softmax", l2=l2).leverage(H, labels).leave_one_out()
        scores[f"refit leave-one-out loss, λ2 = {l2:g}"] = other.loss.numpy()
        heavy[f"{l2:g}"] = float(other.loss.mean())
    scores["neighbours of another label"] = neighbours(point.H, labels)
    scores |= cleanlab_scores(labels, p, "in sample")
    scores |= cleanlab_scores(labels, folds(H, labels, head.l2, seed), "folds")
    rows = Rows(head.design.matrix(H), torch.from_numpy(labels), torch.ones(n, dtype=torch.float64))
    planted = Flips(repeats=1, seed=seed, trim=False).into(head, rows, head.V)
    told = {
        "epoch": point.epoch,
        "accuracy": {
            "trained on, as labelled": float((z.argmax(1) == labels).mean()),
            "validation": right(point.validation, point.W, point.b, point.validation_labels),
            "test": right(point.test, point.W, point.b, point.test_labels),
            "validation, refit": refit_right(head, point.validation, point.validation_labels),
            "test, refit": refit_right(head, point.test, point.test_labels),
            "leave-one-out": float((left_out.logits.numpy().argmax(1) == labels).mean()),
        },
        "loss": float(scores["trained loss"].mean()), "l2": head.l2, "leave-one-out loss": float(left_out.loss.mean()),
        "leave-one-out loss at": heavy, "effective parameters": float(leverage.leverage().sum()),
        "planted recall": planted.recall_at_flips, "spectral norm": float(np.linalg.norm(point.W, 2)),
        **collapse(point.H, labels),
    }  # fmt: skip
    return scores, told


def trimmed_loss(head: assay.Head, leverage: Leverage) -> Floats:
    """The leave-one-out loss under the head fitted again without the suspects."""
    return judged(head, leverage).scores.loo_loss.numpy()


def judged(head: assay.Head, leverage: Leverage) -> Judged:
    return judge(head, Rows(leverage.H, leverage.y, leverage.w), leverage.V, leverage.curvature)


def cleaned(
    point: Checkpoint, suspect: Floats, labels: np.ndarray, truth: np.ndarray, l2: float, seed: int
) -> dict[str, float]:
    """Test accuracy of heads on this embedding: the first suspects (as many as there are flips, or twice) dropped or
    relabelled as leave-one-out suggests, against nothing done, as many dropped at random, and all flips undone."""
    H = torch.from_numpy(point.H).double()
    tested = torch.from_numpy(point.test).double()
    head = assay.Head.fit(H, labels, family="softmax", l2=l2)
    without = judged(head, head.leverage(H, labels)).scores.loo_logits
    suggested = head.family.probabilities(without).numpy().argmax(1)
    flips, order = int((labels != truth).sum()), (-suspect).argsort(kind="stable")
    drawn = np.random.default_rng(seed).permutation(len(labels))

    def accuracy(rows: np.ndarray, given: np.ndarray) -> float:
        fitted = assay.Head.fit(H[rows], given[rows], family="softmax", l2=l2)
        return float((fitted.probabilities(tested).numpy().argmax(1) == point.test_labels).mean())

    every = np.arange(len(labels))
    found = {"nothing": accuracy(every, labels), "all flips undone": accuracy(every, truth)}
    for k in (1, 2):
        first = order[: k * flips]
        relabelled = labels.copy()
        relabelled[first] = suggested[first]
        found[f"first {k}x dropped"] = accuracy(np.sort(order[k * flips :]), labels)
        found[f"first {k}x relabelled"] = accuracy(every, relabelled)
        found[f"{k}x dropped at random"] = accuracy(np.sort(drawn[k * flips :]), labels)
    return found


def measured(score: Floats, wrong: np.ndarray) -> dict[str, float]:
    """How a score ranks the flips: AUROC, average precision, recall in the first 1×, 2× and 5× as many."""
    order, flips = (-score).argsort(kind="stable"), int(wrong.sum())
    recall = {f"recall {k}x": float(wrong[order[: k * flips]].sum() / flips) for k in (1, 2, 5)}
    return {
        "AUROC": float(roc_auc_score(wrong, score)),
        "average precision": float(average_precision_score(wrong, score)),
        **recall,
    }


def margin(z: Floats, labels: np.ndarray) -> Floats:
    """The largest other logit minus the label's."""
    own = z[np.arange(len(z)), labels]
    others = z.copy()
    others[np.arange(len(z)), labels] = -np.inf
    return others.max(1) - own


def softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def right(H: Floats, W: Floats, b: Floats, labels: np.ndarray) -> float:
    return float(((H @ W.T + b).argmax(1) == labels).mean())


def refit_right(head: assay.Head, H: Floats, labels: np.ndarray) -> float:
    return float((head.probabilities(torch.from_numpy(H).double()).numpy().argmax(1) == labels).mean())


def neighbours(H: Floats, labels: np.ndarray) -> Floats:
    """Share of the nearest images in the embedding (cosine) that have another label."""
    unit = H / np.maximum(np.linalg.norm(H, axis=1, keepdims=True), 1e-12)
    near = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(unit).kneighbors(unit, return_distance=False)[:, 1:]
    return (labels[near] != labels[:, None]).mean(1)


def folds(H: torch.Tensor, labels: np.ndarray, l2: float, seed: int) -> Floats:
    """Probabilities of each image from a head that was fitted to the other four fifths."""
    part = np.random.default_rng(seed).permutation(len(labels)) % FOLDS
    p = np.zeros((len(labels), 10))
    for k in range(FOLDS):
        seen, left = np.flatnonzero(part != k), np.flatnonzero(part == k)
        head = assay.Head.fit(H[seen], labels[seen], family="softmax", l2=l2)
        p[left] = head.probabilities(H[left]).numpy()
    return p


def cleanlab_scores(labels: np.ndarray, p: Floats, source: str) -> dict[str, Floats]:
    """Each of cleanlab's label quality scores, turned so that bad is high; nothing where it is not installed."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return {}
    p = np.maximum(p, 1e-12) / np.maximum(p, 1e-12).sum(1, keepdims=True)
    methods = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
    return {
        f"cleanlab {method.replace('_', ' ')}, {source}": 1 - get_label_quality_scores(labels, p, method=method)
        for method in methods
    }


def collapse(H: Floats, labels: np.ndarray) -> dict[str, float]:
    """Neural collapse (Papyan, Han & Donoho 2020): NC1 `tr(Σ_W Σ_B⁺)/C`, and NC2, how far the cosines between centred
    class means are from −1/(C−1) in the mean."""
    classes = np.unique(labels)
    means = np.stack([H[labels == k].mean(0) for k in classes])
    centred = means - H.mean(0)
    within = H - means[np.searchsorted(classes, labels)]
    between = centred.T @ centred / len(classes)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[~np.eye(len(classes), dtype=bool)]
    nc1 = np.trace(within.T @ within / len(H) @ np.linalg.pinv(between, rcond=1e-6)) / len(classes)
    return {"NC1": float(nc1), "NC2": float(np.abs(cosines + 1 / (len(classes) - 1)).mean())}


def half(score: Floats) -> pa.Array:
    """As float16: enough for a ranking, and small."""
    return pa.array(np.clip(score, -65_000, 65_000).astype(np.float16))
