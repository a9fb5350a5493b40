"""Flips to the class an image is mistaken for: what counting such classes for more gives, and what it costs elsewhere.

    python experiments/cifar10_mistaken.py --work ../cifar10-work

Takes the networks of cifar10.py whose weights are still in the work folder, at their last checkpoint. The labels are
judged by the trimmed head's leave-one-out loss, by the same with the classes counted that are mistaken for them
(src/assay/explore/transitions.py), which is an audit's `mislabeled_score`, and by the field's scores that are good at
such flips: the labels the network was trained on, and others that its embedding knows nothing of, flipped by class, or
right but for a third of the planes, which are called trucks. Writes results/cifar10_mistaken.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar10 import Drawn, Unit, checkpoint, draw, plan
from cifar10_scores import judged, measured, softmax
from common import RESULTS, write_results

import assay
from assay.datasets.cifar10 import MISTAKEN, Cifar10, cifar10
from assay.datasets.noise import flip_by_class
from assay.explore.transitions import label_loss

TRAINED = "those it was trained on"
LABELS: dict[str, Callable[[Drawn, Unit], np.ndarray]] = {
    TRAINED: lambda drawn, unit: drawn.labels,
    "flipped by class": lambda drawn, unit: flip_by_class(drawn.truth, unit.flips, MISTAKEN, seed=unit.seed)[0],
    "a third of the planes called trucks": lambda drawn, unit: np.where(
        (drawn.truth == 0) & (np.random.default_rng(unit.seed).random(len(drawn.truth)) < 1 / 3), 9, drawn.truth
    ),
}


def compare(unit: Unit, home: Path, data: Cifar10, labels: str = TRAINED) -> dict[str, Any]:
    """Average precision and AUROC of each score, and the pairs that were found.

    Of all `LABELS` but those the network was trained on its embedding knows nothing: as one that was trained elsewhere.
    """
    drawn = draw(unit, data)
    given = LABELS[labels](drawn, unit)
    point = checkpoint(unit, home, data, drawn, unit.epochs, "cpu")
    H, y, wrong = torch.from_numpy(point.H).double(), torch.from_numpy(given).long(), given != drawn.truth
    head = assay.Head.fit(H, given, family="softmax")
    leverage = head.leverage(H, given)
    found = judged(head, leverage)
    judge, mistaken = found.scores, found.mistaken
    counted = label_loss(head.family, judge.left_out_logits, y, mistaken.log_relative)
    p = head.family.probabilities(judge.left_out_logits).numpy()
    scores = {"trimmed leave-one-out loss": judge.loo_loss.numpy(), "mislabeled_score": counted.numpy(), **of(p, given)}
    if labels == TRAINED:
        trained = of(softmax(point.H @ point.W.T + point.b), given)
        scores |= {f"trained {name}": score for name, score in trained.items()}
    flips = np.zeros((10, 10), dtype=int)
    np.add.at(flips, (drawn.truth, given), 1)
    pairs = [
        {**pair, "share flipped": float(flips[pair["true"], pair["given"]] / flips[pair["true"]].sum())}
        for pair in mistaken.told(range(10))
    ]
    told = {"unit": unit.name, "labels": labels, "flips": int(wrong.sum()), "pairs": pairs}
    return {**told, "found": {name: measured(score, wrong) for name, score in scores.items()}}


def of(p: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The field's scores that see how sure another class is, of these probabilities."""
    rows, others = np.arange(len(labels)), p.copy()
    others[rows, labels] = 0.0
    return {
        "EL2N": np.linalg.norm(p - np.eye(10)[labels], axis=1),
        "normalised margin": others.max(1) - p[rows, labels],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("cifar10-work"))
    parser.add_argument("--data", type=Path, default=None, help="CIFAR-10, where ASSAY_DATA does not say it")
    parser.add_argument("--plan", choices=("smoke", "cpu"), default="cpu")
    parser.add_argument("--only", default="", help="units whose name contains this")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args()
    start = time.perf_counter()
    torch.set_num_threads(1)
    data, found = cifar10(given.data, cache=given.work), list[dict[str, Any]]()
    for unit in plan(given.plan):
        home = given.work / unit.name
        if given.only not in unit.name:
            continue
        if not (home / f"epoch-{unit.epochs:05d}.safetensors").exists():
            print(f"{unit.name}: its weights are not in {given.work}", flush=True)
            continue
        uniform = unit.recipe == "plain" and unit.flips == 0.05 and not unit.by_class
        for labels in LABELS if uniform else (TRAINED,):
            found.append(compare(unit, home, data, labels))
            precision = {name: round(what["average precision"], 3) for name, what in found[-1]["found"].items()}
            print(f"{unit.name}, {labels}: {precision}, {len(found[-1]['pairs'])} pairs", flush=True)
    write_results("cifar10_mistaken", {"networks": found}, seconds=time.perf_counter() - start, folder=given.folder)
