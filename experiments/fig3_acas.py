"""Fig. 3 of Picard et al.: which points of a collision-avoidance table are influential, and does the paper say so?

    python experiments/fig3_acas.py --table hcas                      # about 15 CPU minutes
    python experiments/fig3_acas.py --table acasxu --nets ../shared/data/acasxu
    python experiments/fig3_acas.py --table hcas --scale 0.02 --folder /tmp/try

Three surrogates (other seeds and widths) are trained on 80 % of a table and its points scored by the first one's last
layer (`refit=False`). What is said of points is said of those 80 %. Goes on where it was interrupted (`--work`). Writes
results/fig3_<table>.json and .png.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, write_results
from matplotlib.figure import Figure
from scipy.stats import spearmanr

import assay
from assay import Audit
from assay.auditing.cuts import Cut
from assay.datasets.acas import ACAS_RHO, acasxu_encounters, hcas_encounters
from assay.datasets.acasxu import read_networks
from assay.datasets.encounters import COLUMNS, Encounters
from assay.datasets.hcas import RHO
from assay.models.schedules import one_cycle
from assay.models.surrogate import surrogate
from assay.models.training import Training, train
from assay.plots import class_swatch, cut_map

SURROGATES = ((0, 64), (1, 64), (2, 96))  # seed and width; the first is the one that is looked at
EPOCHS = 40
RATE, BATCH = 5e-3, 2048
DAMPING = 1e-4
HELD_OUT = 0.2
SPEEDS = (200.0, 600.0, 1000.0)  # of the published networks' table, own ship and intruder
TOPS = (0.001, 0.01, 0.05, 0.1)
CUTS = 100


def main(kind: str, nets: Path | None, work: Path, scale: float = 1.0, folder: Path = RESULTS) -> dict[str, Any]:
    """Runs everything, writes the results and returns them; `scale` thins the angles and shortens training."""
    start = time.perf_counter()
    table = table_of(kind, nets, work, scale)
    batch = next(table.batches(len(table)))
    seen = batch.w > 0
    audits: list[Audit] = []
    accuracies: list[dict[str, Any]] = []
    for seed, width in SURROGATES:
        net, accuracy = trained(batch, seen, seed, width, work, scale)
        accuracies.append({"seed": seed, "width": width, **accuracy})
        audits.append(audited(table, net, work / f"audit-{seed}-{width}"))
    influence = [audit.table["cooks_distance"].to_numpy() for audit in audits]
    codes, known = batch.y.numpy(), seen.numpy()
    cuts = audits[0].cuts(["rho", "theta"], top=CUTS)
    found = {
        "table": table.name,
        "points": len(table),
        "points trained on": int(known.sum()),
        "classes": (np.bincount(batch.y, minlength=5) / len(table)).tolist(),
        "surrogates": accuracies,
        "claims": {
            **near_boundaries(table, codes, influence[0], known),
            **sampling(table, influence[0], known),
            **speeds(table, cuts),
            **switches(table, codes, cuts),
            "share of the influence held by the top": {str(t): held(influence[0][known], t) for t in TOPS},
            "agreement of surrogates": agreement([each[known] for each in influence]),
        },
        "trust": audits[0].trust.verdict,
        "reason": audits[0].trust.reason,
        "gradient / scale": audits[0].info["gradient_norm"] / audits[0].info["gradient_scale"],
    }
    draw(cuts[:4], table.vocabulary, folder / f"fig3_{kind}.png")
    write_results(f"fig3_{kind}", found, seconds=time.perf_counter() - start, folder=folder)
    return found


def table_of(kind: str, nets: Path | None, work: Path, scale: float) -> Encounters:
    steps = 41 if scale >= 1 else 13
    if kind == "hcas":
        rho = RHO if scale >= 1 else RHO[::4]
        return hcas_encounters(work / "labels", rho=rho, steps=steps, held_out=HELD_OUT)
    rho = ACAS_RHO if scale >= 1 else ACAS_RHO[::4]
    networks = read_networks(nets or Path("acasxu"))
    return acasxu_encounters(networks, rho=rho, steps=steps, own=SPEEDS, intruder=SPEEDS, held_out=HELD_OUT)


def trained(batch: Any, seen: Any, seed: int, width: int, work: Path, scale: float) -> tuple[Any, dict[str, float]]:
    """A surrogate, and how often it is right."""
    ranges = [(float(column.min()), float(column.max())) for column in batch.x.T]
    torch.manual_seed(seed)
    net = surrogate(ranges, 5, width=width, columns=COLUMNS)
    epochs = EPOCHS if scale >= 1 else 8
    settings = Training(epochs, lr=RATE, batch_size=BATCH, schedule=one_cycle(0.2), seed=seed)
    start = time.process_time()
    train(net, batch.x[seen], batch.y[seen], settings, folder=work / f"surrogate-{seed}-{width}")
    seconds = time.process_time() - start
    with torch.inference_mode():
        right = torch.cat([net(x).argmax(1) for x in batch.x.split(65_536)]) == batch.y
    return net, {
        "trained on": float(right[seen].double().mean()),
        "held out": float(right[~seen].double().mean()),
        "training CPU seconds": round(seconds, 1),
    }


def audited(table: Encounters, net: Any, out: Path) -> Audit:
    """The audit of the network's own head, found again where it is finished."""
    encoding = assay.Encoding(keep="recompute")
    if (out / "audit.json").exists():
        return assay.load(out, data=table, model=net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)
        return assay.audit(table, model=net, refit=False, damping=DAMPING, out=out, encoding=encoding)


def most(influence: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where the top 1 % of the points trained on are."""
    return known & (influence >= np.quantile(influence[known], 0.99))


def near_boundaries(table: Encounters, codes: np.ndarray, influence: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    """Whether the advisory changes within one grid step, and along how many of τ, ρ, θ, ψ, at the top 1 % and all."""
    changes = axes_of_change(codes.reshape(table.grid.shape)).ravel()
    top, every = changes[most(influence, known)], changes[known]
    return {
        "within one step of a change": {"top 1 %": float((top > 0).mean()), "all": float((every > 0).mean())},
        "axes along which the advisory changes": {"top 1 %": float(top.mean()), "all": float(every.mean())},
    }


def axes_of_change(codes: np.ndarray) -> np.ndarray:
    """On a grid (τ, speeds, ρ, θ, ψ): along how many of τ, ρ, θ, ψ one of the two neighbours has another class."""
    total = np.zeros(codes.shape, np.int64)
    for axis in (0, 2, 3, 4):
        moved = np.moveaxis(codes, axis, 0)
        changed = np.zeros(moved.shape, bool)
        differs = moved[1:] != moved[:-1]
        changed[1:] |= differs
        changed[:-1] |= differs
        if axis > 2:  # the first and the last angle are one direction
            changed[0] |= moved[0] != moved[-2]
            changed[-1] |= moved[-1] != moved[1]
        total += np.moveaxis(changed, 0, axis)
    return total


def sampling(table: Encounters, influence: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    """The local step of ρ [ft], the one axis whose steps differ, and its share of ρ, in the median."""
    rho = np.array(table.grid.rho)
    step = np.gradient(rho)
    place = np.unravel_index(np.arange(len(table)), table.grid.shape)[2]
    top, every = place[most(influence, known)], place[known]
    relative = step / np.maximum(rho, step)
    return {
        "step of rho, ft": {"top 1 %": float(np.median(step[top])), "all": float(np.median(step[every]))},
        "step of rho over rho": {
            "top 1 %": float(np.median(relative[top])), "all": float(np.median(relative[every])),
        },
    }  # fmt: skip


def speeds(table: Encounters, cuts: list[Cut]) -> dict[str, Any]:
    """Mean speeds [ft/s] in the cuts that hold most influence, and in the table."""
    everywhere = np.array(table.grid.pairs).mean(0)
    names = ("v_own", "v_int")
    return {
        f"mean {name} of the top cuts": {
            "top": float(np.mean([cut.values[name] for cut in cuts])), "all": float(everywhere[k]),
        }
        for k, name in enumerate(names)
    }  # fmt: skip


def switches(table: Encounters, codes: np.ndarray, cuts: list[Cut]) -> dict[str, Any]:
    """Left–right–left (or the reverse) along three points in a row of θ, per thousand points, in the top cuts and in as
    many drawn evenly from all others."""
    each = switching(codes.reshape(table.grid.shape))
    top = np.zeros(each.shape, bool)
    for cut in cuts:
        top[plane(table, cut)] = True
    others = each[~top]
    drawn = np.random.default_rng(0).choice(others, min(len(cuts), len(others)), replace=False)
    return {
        "left-right-left switches per 1000 points": {
            "top cuts": float(each[top].mean()),
            "random cuts": float(drawn.mean()),
            "all other cuts": float(others.mean()),
        }
    }


def switching(codes: np.ndarray) -> np.ndarray:
    """`[τ, speeds, ψ]`: those switches per thousand points of each (ρ, θ) plane of a grid (τ, speeds, ρ, θ, ψ)."""
    side = np.array([0, 1, -1, 1, -1], np.int8)[codes]
    back = (side[..., :-2, :] * side[..., 1:-1, :] < 0) & (side[..., 1:-1, :] * side[..., 2:, :] < 0)
    return 1000 * back.sum((2, 3)) / (codes.shape[2] * codes.shape[3])


def plane(table: Encounters, cut: Cut) -> tuple[int, int, int]:
    """Where τ, the speeds and ψ of a cut stand on the grid."""
    grid, at = table.grid, cut.values
    speeds_at = np.abs(np.array(grid.pairs) - [at["v_own"], at["v_int"]]).sum(1)
    nearest = [np.abs(np.array(axis) - at[name]) for axis, name in ((grid.tau, "tau"), (grid.psi, "psi"))]
    return int(nearest[0].argmin()), int(speeds_at.argmin()), int(nearest[1].argmin())


def held(influence: np.ndarray, share: float) -> float:
    ranked = np.sort(influence)[::-1]
    return float(ranked[: max(1, round(share * len(ranked)))].sum() / ranked.sum())


def agreement(influences: list[np.ndarray]) -> dict[str, list[float]]:
    """Of each pair of surrogates: rank correlation, and how much of the top 1 % is common."""
    pairs = [(a, b) for k, a in enumerate(influences) for b in influences[k + 1 :]]
    tops = [(a >= np.quantile(a, 0.99), b >= np.quantile(b, 0.99)) for a, b in pairs]
    return {
        "rank correlation": [float(spearmanr(a, b).statistic) for a, b in pairs],
        "overlap of the top 1 % (of either)": [float((a & b).sum() / (a | b).sum()) for a, b in tops],
        "share of one's top 1 % in the other's": [float((a & b).sum() / a.sum()) for a, b in tops],
    }


def draw(cuts: list[Cut], classes: tuple[str, ...], path: Path) -> None:
    """The four cuts that hold most influence, table above, model below."""
    figure = Figure(figsize=(15, 7), layout="constrained")
    axes = figure.subplots(2, len(cuts), squeeze=False)
    for column, cut in zip(axes.T, cuts, strict=True):
        for ax, label, name in zip(column, ("given_label", "predicted_label"), ("table", "model"), strict=True):
            cut_map(cut, label, classes, ax=ax)
            ax.set_title(f"{name}: {cut.title.replace('psi', 'ψ').replace('tau', 'τ')}", fontsize=8)
    swatches = [class_swatch(k, name) for k, name in enumerate(classes)]
    figure.legend(handles=swatches, loc="outside lower center", ncols=len(classes), frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", choices=("hcas", "acasxu"), default="hcas")
    parser.add_argument("--nets", type=Path)
    parser.add_argument("--work", type=Path, default=Path("fig3-work"))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    result = main(given.table, given.nets, given.work / given.table, given.scale, given.folder)
    for claim, value in result["claims"].items():
        print(f"{claim}: {value}")
    print(result["surrogates"])
