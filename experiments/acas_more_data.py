"""Does sampling where the influence is help? Points added in the regions an audit names, against as many at random.

    python experiments/acas_more_data.py            # about ten CPU minutes

The notional table at 200/200 ft/s, a tenth of its points known. A surrogate is trained on them, its audit's regions
are found; then as many points as they hold are added from the rest of the table, in the regions or anywhere, the
surrogate is trained anew and audited again. Writes results/acas_more_data.json.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, spread, write_results

import assay
from assay.datasets.acas import hcas_encounters
from assay.explore.boxes import Box
from assay.models.schedules import one_cycle
from assay.models.surrogate import surrogate
from assay.models.training import Training, train

SEEDS = 5
KNOWN = 0.1
REGIONS = 3  # those with most excess
STEPS = 3000  # of training, whatever the number of points
BATCH, RATE, WIDTH = 2048, 5e-3, 64
DAMPING = 1e-4


def main(scale: float = 1.0, folder: Path = RESULTS, work: Path = Path("more-data")) -> dict[str, Any]:
    """Runs everything, writes the results and returns them."""
    start = time.perf_counter()
    steps = 41 if scale >= 1 else 13
    table = hcas_encounters(work, pairs=((200.0, 200.0),), steps=steps)
    batch = next(table.batches(len(table)))
    x, y = batch.x, batch.y
    seeds = max(2, round(SEEDS * scale))
    each = [one_seed(x, y, seed, max(200, round(STEPS * scale))) for seed in range(seeds)]
    told = {key: {name: spread([one[key][name] for one in each]) for name in each[0][key]} for key in each[0]}
    found = {
        "points": len(table), "known": KNOWN, "regions": REGIONS, "seeds": seeds, **told,
        "error in the regions, added there below added anywhere, seeds": sum(
            one["error in the regions"]["added there"] < one["error in the regions"]["added anywhere"] for one in each
        ),
    }  # fmt: skip
    write_results("acas_more_data", found, seconds=time.perf_counter() - start, folder=folder)
    return found


def one_seed(x: torch.Tensor, y: torch.Tensor, seed: int, steps: int) -> dict[str, dict[str, float]]:
    """Errors and shares of influence before, with points added in the regions, and with points added anywhere."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    known, rest = np.sort(order[: round(KNOWN * len(x))]), order[round(KNOWN * len(x)) :]
    net = trained(x[known], y[known], seed, steps)
    audit = audited(x[known], y[known], net)
    boxes = list(audit.regions(resamples=0, top=REGIONS).boxes)
    there = rest[inside(boxes, x[rest])]
    count = min(int(inside(boxes, x[known]).sum()), len(there) // 2)
    added = {"added there": there[:count], "added anywhere": rest[rng.permutation(len(rest))[:count]]}
    test = np.setdiff1d(rest, np.concatenate(list(added.values())))
    found: dict[str, dict[str, float]] = {}
    note(found, "before", x, y, known, net, audit, boxes, test)
    for name, rows in added.items():
        more = np.concatenate([known, rows])
        again = trained(x[more], y[more], seed, steps)
        note(found, name, x, y, more, again, audited(x[more], y[more], again), boxes, test)
    found["points"] = {"known": float(len(known)), "added": float(count)}
    return found


def note(found: Any, name: str, x: Any, y: Any, rows: Any, net: Any, audit: Any, boxes: list[Box], test: Any) -> None:
    influence = audit.table["cooks_distance"].to_numpy()
    held = inside(boxes, x[rows])
    with torch.inference_mode():
        wrong = (net(x[test]).argmax(1) != y[test]).double().numpy()
    within = inside(boxes, x[test])
    for key, value in (
        ("influence held by the regions", influence[held].sum() / influence.sum()),
        ("influence held by the regions, per point of theirs", influence[held].mean() / influence.mean()),
        ("error in the regions", wrong[within].mean()),
        ("error everywhere", wrong.mean()),
    ):
        found.setdefault(key, {})[name] = float(value)


def trained(x: torch.Tensor, y: torch.Tensor, seed: int, steps: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    ranges = [(float(c.min()), float(c.max()) if c.max() > c.min() else float(c.min()) + 1) for c in x.T]
    net = surrogate(ranges, 5, width=WIDTH)
    epochs = max(1, round(steps / -(-len(x) // BATCH)))
    train(net, x, y, Training(epochs, lr=RATE, batch_size=BATCH, schedule=one_cycle(0.2), seed=seed))
    return net


def audited(x: torch.Tensor, y: torch.Tensor, net: torch.nn.Module) -> assay.Audit:
    import pyarrow as pa

    names = ("rho", "theta", "psi", "v_own", "v_int", "tau")
    columns = {name: x[:, j].numpy() for j, name in enumerate(names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)
        return assay.audit(pa.table({**columns, "label": y.numpy()}), model=net, refit=False, damping=DAMPING)


def inside(boxes: list[Box], x: torch.Tensor) -> np.ndarray:
    return np.logical_or.reduce([box.contains(x.double().numpy()) for box in boxes])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path("more-data"))
    given = parser.parse_args()
    result = main(given.scale, given.folder, given.work)
    for key, values in result.items():
        if isinstance(values, dict):
            print(key, {name: f"{v['mean']:.4g} ± {v['std']:.2g}" for name, v in values.items()})
        else:
            print(key, values)
