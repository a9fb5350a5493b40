"""Which score finds flipped labels of CIFAR-10 best, on the same trained networks: ours and the field's.

    python benchmarks/detection_cifar10.py            # reads experiments/results/cifar10/units, trains nothing

Average precision (mean over networks) of every score at the last checkpoint, by condition, and of traces over all
checkpoints; then what `mislabeled_score` (leave-one-out loss of a head fitted anew) and `assay.ensemble`'s weighting
have over the best score of the field, with 95 % bootstrap intervals over networks. Units are made by
`experiments/cifar10.py`, which also runs cleanlab 2.9 where it is installed.
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

OURS = "refit leave-one-out loss"
BOTH = f"{OURS}, mirrored too"
TRACE = "trace of leave-one-out losses, weighted by accuracy⁴"
FIELD = ("trained loss", "trained margin", "trained EL2N", "trained entropy", "trained gradient norm", "trained Cook's "
         "distance", "neighbours of another label", "AUM", "TracIn, last layer")  # fmt: skip
RECIPES = {"plain": "", "elastic": ", L1L2", "over": ", over-trained", "paper": ", paper's recipe"}


def condition(result: Result) -> str:
    unit = result.unit
    return f"{NETWORKS[unit.network]}{RECIPES[unit.recipe]}, {unit.images:,}, {unit.flips:.2%}"


def precisions(result: Result) -> dict[str, float]:
    """Average precision by score: at the last checkpoint, and of three means over the trace."""
    found = {name: value["average precision"] for name, value in result.points[-1]["found"].items()}
    losses, both = result.trace(OURS), result.trace(BOTH)
    accuracy = np.array([point["accuracy"]["leave-one-out"] for point in result.points])
    for name, weights in (("mean", np.ones(len(losses))), ("weighted by accuracy⁴", accuracy**4)):
        found[f"trace of leave-one-out losses, {name}"] = of(result, weights @ losses)
    found[f"{TRACE}, mirrored too"] = of(result, accuracy**4 @ both)
    found["trace of training losses, mean"] = of(result, result.trace("trained loss").mean(0))
    return found


def of(result: Result, score: np.ndarray) -> float:
    return float(average_precision_score(result.wrong, score))


def field_of(found: dict[str, float]) -> dict[str, float]:
    """The scores of others that need one network, seeing each image once."""
    return {name: value for name, value in found.items() if name in FIELD or name.startswith("cleanlab")}


def main() -> dict[str, Any]:
    groups: dict[str, list[dict[str, float]]] = {}
    for result in read_units():
        groups.setdefault(condition(result), []).append(precisions(result))
    names = list(dict.fromkeys(name for group in groups.values() for found in group for name in found))
    print("| score |" + "".join(f" {name} ({len(group)}) |" for name, group in groups.items()))
    print("|---|" + "---:|" * len(groups))
    for name in names:
        row = (float(np.mean([found[name] for found in group if name in found])) for group in groups.values())
        print(f"| {name} |" + "".join(f" {value:.3f} |" for value in row))
    told: dict[str, Any] = {}
    for name, group in groups.items():
        best = max(field_of(group[0]), key=lambda key: np.mean([found[key] for found in group]))
        told[name] = {
            "best of the field": best,
            "ours minus it": interval([found[OURS] - found[best] for found in group]),
            "mirrored too, minus it": interval([found[BOTH] - found[best] for found in group]),
            "mirrored too, minus the training loss mirrored too": interval(
                [found[BOTH] - found["trained loss, mirrored too"] for found in group]
            ),
            "trace minus the best single": interval([found[TRACE] - max(found[best], found[OURS]) for found in group]),
            "trace mirrored too, minus the best single": interval(
                [found[f"{TRACE}, mirrored too"] - max(found[best], found[OURS]) for found in group]
            ),
        }
    print(json.dumps(told, indent=1))
    return told


if __name__ == "__main__":
    main()
