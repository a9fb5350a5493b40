"""Which score finds flipped labels of CIFAR-10 best, on the same trained networks: ours and the field's.

    python benchmarks/detection_cifar10.py            # reads experiments/results/cifar10/units, trains nothing

Average precision (mean over networks) of every score at the last checkpoint, by condition, of means over all
checkpoints, and of means over several networks of the same images; then what the loss under the trimmed head (an
audit's `mislabeled_score` where no class stands out as mistaken for another) and the means have over the best score of
one network, with 95 % bootstrap intervals over networks. Units are made by `experiments/cifar10.py`, which also runs
cleanlab 2.9 where it is installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
from cifar10_results import NETWORKS, Result, interval, read_units  # pyright: ignore[reportMissingImports]
from record import record

from assay.auditing.ensemble import POWER

OURS = "trimmed leave-one-out loss"
BOTH = f"{OURS}, mirrored too"
EVEN, TRACE = "even mean over checkpoints", "mean over checkpoints by held-out accuracy"
FIELD = ("trained loss", "trained margin", "trained EL2N", "trained entropy", "trained gradient norm", "trained Cook's "
         "distance", "neighbours of another label", "AUM", "TracIn, last layer")  # fmt: skip
RECIPES = {"plain": "", "elastic": ", L1L2", "over": ", over-trained", "paper": ", paper's recipe"}


def condition(result: Result) -> str:
    unit = result.unit
    flips = f"{unit.flips:.2%}" + (" by class" if unit.by_class else "")
    return f"{NETWORKS[unit.network]}{RECIPES[unit.recipe]}, {unit.images:,}, {flips}"


def precisions(result: Result) -> dict[str, float]:
    """Average precision by score: at the last checkpoint, and of means over the checkpoints."""
    found = {name: value["average precision"] for name, value in result.points[-1]["found"].items()}
    for name, score in ((OURS, ""), (BOTH, ", mirrored too")):
        losses = result.trace(name)
        found[f"{EVEN}{score}"] = of(result, losses.mean(0))
        found[f"{TRACE}{score}"] = of(result, held_out([result]) @ losses)
    found["trained loss, even mean over checkpoints"] = of(result, result.trace("trained loss").mean(0))
    return found


def held_out(results: list[Result], *, last: bool = False) -> np.ndarray:
    """`assay.ensemble`'s weights of all checkpoints of these networks (or of their last ones)."""
    points = [point for r in results for point in (r.points[-1:] if last else r.points)]
    weights = np.array([point["accuracy"]["validation, refit"] for point in points]) ** POWER
    return weights / weights.sum()


def of(result: Result, score: np.ndarray) -> float:
    return float(average_precision_score(result.wrong, score))


def field_of(found: dict[str, float]) -> dict[str, float]:
    """The scores of others that need one network, seeing each image once."""
    return {name: value for name, value in found.items() if name in FIELD or name.startswith("cleanlab")}


def joined(results: list[Result]) -> dict[str, Any]:
    """The mean over networks of the same images and flips: at their last checkpoints, and over all of them."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        if not result.unit.by_class:
            groups.setdefault((result.unit.images, result.unit.flips, result.unit.seed), []).append(result)
    told: dict[str, Any] = {}
    for (images, flips, seed), members in groups.items():
        if len(members) < 2:
            continue
        best = max(field_of(precisions(m))[name] for m in members for name in field_of(precisions(m)))
        single = max(max(precisions(m)[OURS] for m in members), best)
        mine = {
            f"{way}{score}": of(members[0], joint(members, name, last=way == "last checkpoints"))
            for name, score in ((OURS, ""), (BOTH, ", mirrored too"))
            for way in ("last checkpoints", "all checkpoints")
        }
        told[f"{images:,} images, {flips:.2%} flipped, seed {seed}"] = {
            "networks": [condition(member) for member in members], "best score of one of the field": best,
            "best of one, each image once": single,
            "ours, mirrored too, at its best": max(precisions(m)[BOTH] for m in members), **mine,
        }  # fmt: skip
    return told


def joint(members: list[Result], name: str, *, last: bool) -> np.ndarray:
    """The mean of the members' losses by held-out accuracy, of all checkpoints or of the `last` ones."""
    losses = np.concatenate([m.score(name)[None] if last else m.trace(name) for m in members])
    return held_out(members, last=last) @ losses


def main() -> dict[str, Any]:
    results = read_units()
    groups: dict[str, list[dict[str, float]]] = {}
    for result in results:
        groups.setdefault(condition(result), []).append(precisions(result))
    names = list(dict.fromkeys(name for group in groups.values() for found in group for name in found))
    rows: list[list[Any]] = [
        [name, *(f"{np.mean([found[name] for found in group if name in found]):.3f}" for group in groups.values())]
        for name in names
    ]
    told: dict[str, Any] = {}
    for name, group in groups.items():
        best = max(field_of(group[0]), key=lambda key: np.mean([found[key] for found in group]))
        told[name] = {"best of the field": best} | {
            f"{ours} minus it": interval([found[ours] - found[best] for found in group])
            for ours in (OURS, BOTH, TRACE, f"{TRACE}, mirrored too")
        }
    ahead = [
        f"{name}: {OURS} minus {each['best of the field']}, {each[f'{OURS} minus it']['mean']:+.3f}."
        for name, each in told.items()
    ]
    told["several networks"] = joined(results)
    joint = [
        f"{name}: {len(each['networks'])} networks joined {each['last checkpoints']:.3f} (mirrored too "
        f"{each['last checkpoints, mirrored too']:.3f}), anyone's best {each['best of one, each image once']:.3f}."
        for name, each in told["several networks"].items()
    ]
    record(
        "Flipped labels of CIFAR-10",
        "Average precision at the last checkpoint, mean over the networks of a condition (how many: in brackets): "
        "architecture, images, share of labels flipped. The means over checkpoints need several of them.",
        ["score", *(f"{name} ({len(group)})" for name, group in groups.items())],
        rows,
        [*ahead, *joint],
    )
    print(json.dumps(told, indent=1))
    return told


if __name__ == "__main__":
    main()
