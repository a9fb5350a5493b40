"""Scores of every sample through any parameters of a network, as files: what `assay influence` writes."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..curvature.arnoldi import Arnoldi
from ..curvature.auto import Auto
from ..curvature.cg import CG
from ..curvature.exact import Dense
from ..curvature.inverse import Inverse
from ..curvature.kfac import EKFAC, KFAC
from ..curvature.lissa import LiSSA
from ..curvature.nystrom import Nystrom
from ..curvature.sums import Checkpoint
from ..engine import atomic, write_json
from ..errors import OutputError, ShapeError
from .network import Influence

SCORES, INFO, WORK = "scores.parquet", "influence.json", "work"
NAMED: dict[str, Any] = {
    "auto": Auto, "dense": Dense, "cg": CG, "nystrom": Nystrom, "arnoldi": Arnoldi, "kfac": KFAC, "ekfac": EKFAC,
    "lissa": LiSSA,
}  # fmt: skip
UNITS = {
    "id": "the sample's id in the source, its position where the source has no key",
    "given_label": "the label (or target) in the source",
    "loss": "loss of the network as it is, in nats for cross-entropy",
    "cooks_distance": "gᵀ(H + damping)⁻¹g for the chosen parameters, in the unit of the loss × N: over N it is the "
    "first-order rise of the sample's loss when it is removed",
}


def named_inverse(name: str, *, damping: float, rank: int | None, rtol: float, work: Path) -> Inverse:
    """The inverse of a name on the command line; raises `ShapeError` for one that is not known."""
    if name not in NAMED:
        raise ShapeError(f"--inverse {name} is none of {', '.join(NAMED)}")
    given: dict[str, Any] = {"damping": damping}
    if name in ("nystrom", "arnoldi") and rank is not None:
        given["rank"] = rank
    if name in ("kfac", "ekfac"):
        given["checkpoint"] = Checkpoint(work)
    if name == "auto":
        given["rtol"] = rtol
    return NAMED[name](**given)


def claim(out: Path, *, overwrite: bool) -> Path:
    """The folder for scores, new, or one of ours; raises `OutputError` where something else is there."""
    done = (out / INFO).exists()
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not done and not (out / WORK).exists())):
        raise OutputError(f"{out} is there and holds something else; name another folder")
    if done and not overwrite:
        raise OutputError(f"{out} holds finished scores; name another folder, or pass --overwrite")
    (out / INFO).unlink(missing_ok=True)  # what is written anew is not finished until it stands there again
    (out / WORK).mkdir(parents=True, exist_ok=True)
    return out / WORK


def write_scores(influence: Influence, out: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Writes `scores.parquet` (`id`, `given_label`, `loss`, `cooks_distance`), then `influence.json`, and returns it.

    The JSON holds what was run, the sign, the units, what the inverse says of itself and its stated error.
    """
    found, losses = influence.self_influence(), influence.losses()
    labels = torch.cat([batch.targets for batch in influence.objective.reading.batches()]).cpu().numpy()
    classes = influence.objective.reading.examples.classes
    if classes is not None and labels.dtype.kind in "iu":
        labels = np.array(classes)[labels]
    given = labels if labels.ndim == 1 else pa.FixedSizeListArray.from_arrays(pa.array(labels.ravel()), labels.shape[1])
    columns = [found.ids, pa.array(given) if labels.ndim == 1 else given, losses.numpy(), found.cooks_distance.numpy()]
    diagnosis = influence.diagnose()
    info = {
        **told,
        "assay": version("assay"),
        "torch": version("torch"),
        "rows": len(found.ids),
        "parameters": influence.objective.P,
        "names": list(influence.objective.parameters.names),
        "curvature": influence.curvature.name,
        "method": diagnosis.method,
        "diagnosis": list(diagnosis.sentences),
        "unconverged": int((~found.converged).sum()),
        "error": None if found.error is None else asdict(found.error),
        "sign": found.sign,
        "units": UNITS,
    }
    with atomic(out / SCORES) as temporary:
        pq.write_table(pa.table(dict(zip(UNITS, columns, strict=True))), temporary)
    write_json(out / INFO, info)
    shutil.rmtree(out / WORK, ignore_errors=True)
    return info
