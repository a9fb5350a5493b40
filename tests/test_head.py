"""The head by itself: fitted, asked, saved and loaded; what it refuses and how it says so."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression, Ridge
from torch.testing import assert_close

import assay
import oracles
from assay.head import Head

X, Y = oracles.blobs(120, 4, 3)
WORDS = np.array(["cat", "ant", "bee"])[Y]
TARGETS = oracles.regression(120, 4, 2)[1]
RAGGED = np.where(np.arange(480).reshape(120, 4) == 41, np.nan, X)
APART = X + 99.0 * (Y == 0)[:, None]
TWICE = np.column_stack([X, X[:, 0] - X[:, 3]])


def heads() -> dict[str, Head]:
    return {
        "softmax": Head.fit(X, WORDS, l2=1e-2),
        "auto": Head.fit(X, Y),
        "logistic": Head.fit(X, Y == 1, family="logistic", l2=1e-2, bias=False, penalize_bias=True),
        "linear": Head.fit(X, TARGETS, family="linear", l2=1e-2, weights=np.arange(120.0), standardize=False),
    }


@pytest.mark.parametrize("name", heads())
def test_a_saved_head_is_the_same_head(name: str, tmp_path: Path):
    head = heads()[name]
    head.save(tmp_path / "head.safetensors")
    loaded = Head.load(tmp_path / "head.safetensors")
    assert torch.equal(loaded.logits(X), head.logits(X))
    assert torch.equal(loaded.probabilities(X), head.probabilities(X))
    assert torch.equal(loaded.coefficients(), head.coefficients())
    assert loaded.class_names == head.class_names
    for part in ("family", "columns", "vocabulary", "l2", "total_weight", "penalize_bias", "iterations", "l2_path"):
        assert getattr(loaded, part) == getattr(head, part), part
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "head.safetensors").read_bytes()


def test_a_loaded_head_measures_the_same(tmp_path: Path):
    head = Head.fit(X, WORDS, l2=1e-2)
    head.save(tmp_path / "head.safetensors")
    before, after = (h.leverage(X, WORDS) for h in (head, Head.load(tmp_path / "head.safetensors")))
    assert torch.equal(after.cooks_distance(), before.cooks_distance())
    assert torch.equal(after.dfbeta(), before.dfbeta())


@pytest.mark.parametrize("name", heads())
def test_cooks_distance_alone_is_that_beside_the_other_scores(name: str):
    head = heads()[name]
    labels = {"softmax": WORDS, "auto": Y, "logistic": Y == 1, "linear": TARGETS}[name]
    weights = np.arange(120.0) if name == "linear" else None
    alone, beside = (head.leverage(X, labels, weights=weights) for _ in range(2))
    torch.testing.assert_close(alone.cooks_distance(), beside.scores.cooks_distance, rtol=1e-12, atol=0)
    assert torch.equal(beside.cooks_distance(), beside.scores.cooks_distance)


def test_its_predictions_are_scikit_learns():
    theirs = LogisticRegression(C=1 / (len(X) * 1e-2), tol=1e-10, max_iter=10_000).fit(X, WORDS)
    ours = Head.fit(X, WORDS, l2=1e-2, standardize=False)
    assert ours.class_names == tuple(theirs.classes_)
    assert_close(ours.probabilities(X), torch.tensor(theirs.predict_proba(X)), rtol=0, atol=1e-6)
    ridge = Ridge(alpha=len(X) * 1e-2, tol=1e-12).fit(X, TARGETS)
    linear = Head.fit(X, TARGETS, family="linear", l2=1e-2, standardize=False)
    assert_close(linear.logits(X), torch.tensor(ridge.predict(X)), rtol=0, atol=1e-6)


def test_coefficients_are_in_the_units_of_the_columns():
    head = Head.fit(X * [1, 10, 100, 1000] + 5, WORDS, l2=1e-2)
    raw = np.column_stack([X * [1, 10, 100, 1000] + 5, np.ones(len(X))])
    assert_close(
        torch.tensor(raw) @ head.coefficients().T, head.logits(X * [1, 10, 100, 1000] + 5), rtol=1e-9, atol=1e-9
    )
    assert_close(head.logits(X * [1, 10, 100, 1000] + 5), Head.fit(X, WORDS, l2=1e-2).logits(X), rtol=1e-7, atol=1e-9)


def test_what_may_be_given_gives_the_same_head():
    expected = Head.fit(X, WORDS, l2=1e-2)
    for features, labels in (
        (torch.tensor(X), WORDS.tolist()),
        (X.tolist(), WORDS),
        (np.asfortranarray(X), WORDS.astype(object)),
    ):
        assert torch.equal(Head.fit(features, labels, l2=1e-2).V, expected.V)
    assert torch.equal(Head.fit(X, Y == 1, l2=1e-2).V, Head.fit(X, (Y == 1).astype(int), l2=1e-2).V)
    narrow = Head.fit(X.astype(np.float32), WORDS, l2=1e-2)
    assert narrow.V.dtype == torch.float64
    assert_close(narrow.V, expected.V, rtol=0, atol=1e-6)


def test_columns_that_never_vary_are_left_out():
    wide = np.insert(X, 2, 7.0, axis=1)
    head = Head.fit(wide, WORDS, l2=0.0)
    assert head.design.kept.tolist() == [True, True, False, True, True]
    assert_close(head.logits(wide), Head.fit(X, WORDS, l2=0.0).logits(X), rtol=1e-9, atol=1e-9)
    assert float(head.coefficients()[:, 2].abs().max()) == 0


def test_a_spread_too_small_to_be_squared():
    head = Head.fit(np.column_stack([X, X[:, 0] * 1e-200]), WORDS, l2=1e-2)
    assert_close(head.logits(np.column_stack([X, X[:, 0] * 1e-200])), Head.fit(X, WORDS, l2=1e-2).logits(X))


LINEAR: dict[str, Any] = {"family": "linear"}

# name → features, labels, settings, the error, the message
BAD: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "lengths": (X, Y[:-1], {}, assay.ShapeError, "120 rows of features, but 119 labels"),
    "weights' length": (X, Y, {"weights": np.ones(3)}, assay.ShapeError, "120 rows of features, but 3 weights"),
    "one-dimensional": (X[:, 0], Y, {}, assay.ShapeError, r"features have shape \(120,\); expected \[n, d\]"),
    "objects": (X.astype(object), Y, {}, assay.SourceError, "features have dtype object"),
    "no rows": (X[:0], Y[:0], {}, assay.SourceError, "has no rows"),
    "no columns": (X[:, :0], Y, {}, assay.SourceError, "there are no feature columns"),
    "NaN": (RAGGED, Y, {}, assay.SourceError, "row 10: feature 'x1' is nan; every value must be finite"),
    "infinite target": (X, np.append(TARGETS[:-1, 0], np.inf), LINEAR, assay.SourceError, "row 119: .*inf"),
    "too large": (X * 1e200, Y, {}, assay.SourceError, "feature 'x0' is too large to be squared; give"),
    "one class": (X, np.zeros(120, int), {}, assay.SourceError, "only one class is there: .* is 0"),
    "constant target": (X, np.ones(120), {"family": "linear"}, assay.SourceError, r"is 1\.0 in every sample"),
    "mixed labels": (X, np.array([0, "a"] * 60, object), {}, assay.SourceError, r"labels\[1\] = 'a' is string"),
    "negative weight": (X, Y, {"weights": -np.ones(120)}, assay.SourceError, r"row 0: the weight is -1\.0"),
    "no weight": (X, Y, {"weights": np.zeros(120)}, assay.SourceError, "all weights are zero"),
    "a class without weight": (
        X, WORDS, {"weights": WORDS != "bee"}, assay.SourceError, "class 'bee' has no sample of positive weight; drop",
    ),
    "family": (X, Y, {"family": "probit"}, assay.ShapeError, "family='probit' is not one of 'softmax'"),
    "two classes only": (X, Y, {"family": "logistic"}, assay.ShapeError, "takes two classes, but there are 3"),
    "numbers wanted": (X, WORDS, {"family": "linear"}, assay.SourceError, "regression needs numbers"),
    "classes wanted": (X, TARGETS[:, 0], {}, assay.SourceError, 'not a 64-bit integer; .*family="linear"'),
    "negative l2": (X, Y, {"l2": -1.0}, assay.ShapeError, r'l2=-1\.0 is neither "auto" nor a finite number ≥ 0'),
    "l2 NaN": (X, Y, {"l2": float("nan")}, assay.ShapeError, "l2=nan is neither"),
    "l2 in words": (X, Y, {"l2": "small"}, assay.ShapeError, "l2='small' is neither"),
    "too few rows": (X[:4], TARGETS[:4, 0], LINEAR | {"l2": 0.0}, assay.SingularCurvatureError, "rank 4 of 5"),
    "collinear": (TWICE, Y, {"l2": 0.0}, assay.SingularCurvatureError, "rank 10 of 12; .* are x0, x3, x4"),
    "separable": (APART, Y == 0, {"l2": 0.0}, assay.SeparableError, "perfectly separated .*Give l2 > 0"),
    "a class apart": (APART, Y, {"l2": 0.0}, assay.SeparableError, "separated .*Give l2 > 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_the_error_says_what_where_and_what_to_do(name: str):
    features, labels, settings, error, said = BAD[name]
    with pytest.raises(error, match=said):
        Head.fit(features, labels, **settings)


def test_what_a_fitted_head_refuses():
    head = Head.fit(X, WORDS, l2=1e-2)
    with pytest.raises(assay.ShapeError, match="3 feature columns; the head was made for 4"):
        head.logits(X[:, :3])
    with pytest.raises(assay.ShapeError, match="the head was made for 4"):
        head.leverage(X[:, :3], WORDS)
    with pytest.raises(assay.SourceError, match=r"row 7: label 'dog' .* 3 classes \('ant', 'bee', 'cat'\)"):
        head.leverage(X, np.where(np.arange(120) == 7, "dog", WORDS))
    with pytest.raises(assay.SourceError, match="row 10: feature 'x1' is nan"):
        head.leverage(RAGGED, WORDS)
    with pytest.raises(assay.SourceError, match="'a' is the id of rows 0 and 1"):
        head.leverage(X, WORDS, ids=["a", "a", *map(str, range(118))])
    with pytest.raises(assay.UnknownIdError, match="id 'b' is not among the 120 samples"):
        head.leverage(X, WORDS, ids=list(map(str, range(120)))).dfbeta(["b"])


def test_a_class_may_be_absent_where_the_head_is_asked():
    head = Head.fit(X, WORDS, l2=1e-2)
    rows = WORDS != "bee"
    leverage = head.leverage(X[rows], WORDS[rows])
    assert leverage.y.unique().tolist() == [0, 2]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other", "header", "missing"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path):
    path = tmp_path / "head.safetensors"
    Head.fit(X, WORDS, l2=1e-2).save(path)
    tensors = load_file(path)
    {
        "cut": lambda: os.truncate(path, path.stat().st_size - 40),
        "empty": lambda: os.truncate(path, 0),
        "text": lambda: path.write_text("not a head"),
        "other": lambda: save_file({"weights": torch.ones(3)}, path),
        "header": lambda: save_file(tensors, path, {"head": "{"}),
        "missing": path.unlink,
    }[damage]()
    with pytest.raises(
        assay.OutputError, match=r"head\.safetensors is not a head that assay saved \(.+\); audit again"
    ):
        Head.load(path)


def test_a_header_that_lacks_something_is_refused(tmp_path: Path):
    path = tmp_path / "head.safetensors"
    Head.fit(X, WORDS, l2=1e-2).save(path)
    save_file(load_file(path), path, {"head": json.dumps({"family": "softmax", "size": 3})})
    with pytest.raises(assay.OutputError, match=r"is not a head that assay saved"):
        Head.load(path)


def test_a_head_that_cannot_be_saved_says_so_and_leaves_the_old_one(tmp_path: Path):
    head = Head.fit(X, WORDS, l2=1e-2)
    with pytest.raises(assay.OutputError, match=r"none/head\.safetensors cannot be written"):
        head.save(tmp_path / "none" / "head.safetensors")
    assert not list(tmp_path.iterdir())
