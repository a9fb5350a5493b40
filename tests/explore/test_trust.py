"""Every check of the trust report fails on the data made to fail it, and passes where nothing is wrong."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

import assay
import oracles
from assay.explore.checks import VERDICTS
from assay.explore.trust import Trust, TrustReport
from assay.explore.unseen import by_heart
from assay.head import Head
from assay.l2 import Rows


def report(X, y, *, move: float = 0.0, weights=None, **settings) -> TrustReport:
    """The report of a head fitted to X, y, its weights moved off the optimum if asked."""
    family = settings.pop("family", "softmax")
    head = Head.fit(X, y, family=family, weights=weights, **{"l2": 1e-2, **settings})
    leverage = head.leverage(X, y, weights=weights)
    if move:
        V = head.V + move
        sums = Rows(leverage.H, leverage.y, leverage.w).sums(head.family)(V)
        gradient = sums.gradient / head.total_weight + head.l2 * head.penalised * V
        head = replace(head, V=V, gradient_norm=float(gradient.norm()))
    return Trust().report(head, Rows(leverage.H, leverage.y, leverage.w), leverage.ids)


def check(found: TrustReport, name: str):
    return next(one for one in found.checks if one.name == name)


X, Y = oracles.blobs(300, 4, 3, 0)
NOISY = np.where(np.random.default_rng(1).random(300) < 0.1, (Y + 1) % 3, Y)
TARGETS = X @ [1.0, -2.0, 0.5, 0.0] + np.random.default_rng(2).normal(size=300)


def test_nothing_wrong_is_trusted_and_says_why():
    found = report(X, NOISY)
    assert found.verdict == "trust", found.reason
    assert found.reason.startswith("Every check passed. Against 20 real leave-one-out refits")
    assert len(found.refits.ids) == 20
    assert found.refits.correlation > 0.99
    assert TrustReport.from_json(found.to_json()) == found


def test_a_regression_is_trusted_where_the_errors_planted_can_be_told_from_noise():
    """Three times the noise and more: what a correct model of a noisy target finds of them is what there is to find."""
    found = report(X, TARGETS, family="linear")
    assert found.verdict == "trust", found.reason
    assert check(found, "agreement with refits").value == pytest.approx(1.0)
    assert found.planted.recall_at_suspects > 0.6


@pytest.mark.parametrize(("move", "verdict"), [(1e-4, "caution"), (1.0, "do not trust")])
def test_a_head_off_its_optimum(move: float, verdict: str):
    found = check(report(X, NOISY, move=move), "gradient norm / scale")
    assert found.verdict == verdict
    assert "not at its optimum; refit it" in found.sentence


@pytest.mark.parametrize(("l2", "verdict"), [(1e-11, "caution"), (3e-15, "do not trust")])
def test_an_ill_conditioned_curvature(l2: float, verdict: str):
    twins = np.c_[X, X[:, :1]]
    found = check(report(twins, TARGETS, family="linear", l2=l2), "condition number")
    assert found.verdict == verdict, found.sentence
    assert "digits are exact" in found.sentence


def test_as_many_parameters_as_samples():
    wide = np.random.default_rng(0).normal(size=(40, 30))
    found = check(report(wide, wide[:, 0], family="linear", l2=1e-6), "effective parameters / N")
    assert found.verdict == "do not trust"
    assert "follows single samples" in found.sentence


def test_the_unit_of_the_weights_does_not_matter():
    """Weights that sum to one say the same as weights of one."""
    plain, normalised = report(X, NOISY), report(X, NOISY, weights=np.full(300, 1 / 300))
    for one, other in zip(plain.checks, normalised.checks, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-6, abs=1e-9), one.name
        assert one.verdict == other.verdict


def test_separated_classes_rest_on_the_penalty_alone():
    apart = np.r_[np.full((50, 2), 9.0), np.full((50, 2), -9.0)] + np.random.default_rng(0).normal(size=(100, 2))
    found = report(apart, np.arange(100) // 50, l2=1e-9)
    assert check(found, "training error").verdict == "caution"
    assert "rest on the penalty alone" in found.reason


@pytest.mark.parametrize("family", ["softmax", "linear"])
def test_features_that_tell_nothing_of_the_labels(family: str):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300) if family == "softmax" else rng.normal(size=300)
    found = report(X, labels, family=family, l2=1e-4)
    assert found.verdict == "do not trust"
    assert check(found, "skill").value < 0
    assert "the features tell nothing of the labels" in found.reason


def test_too_few_samples_deserve_caution():
    found = report(X[:8], np.arange(8) % 2, l2=1.0)
    assert VERDICTS.index(check(found, "agreement with refits").verdict) == 1
    assert "Only 8 samples could be left out" in check(found, "agreement with refits").sentence
    assert "label errors could be planted; that is too few" in check(found, "planted flips found").sentence


def test_refits_that_disagree():
    """One Newton step predicts badly what removing a sample does to a head that all but separates its classes."""
    rng = np.random.default_rng(3)
    wide = rng.normal(size=(60, 30))
    found = report(wide, (wide[:, 0] + 0.3 * rng.normal(size=60) > 0).astype(int), l2=1e-6)
    agreement = check(found, "agreement with refits")
    predicted, actual = torch.tensor(found.refits.predicted), torch.tensor(found.refits.actual)
    assert agreement.value == pytest.approx(float(torch.corrcoef(torch.stack([predicted, actual]))[0, 1]), rel=1e-5)
    assert agreement.verdict != "trust"
    assert found.verdict == "do not trust"


def test_a_sample_of_a_source_keeps_its_ids():
    head = Head.fit(X, NOISY, l2=1e-2)
    leverage = head.leverage(X, NOISY)
    names = pa.array([f"s{i}" for i in range(300)])
    found = Trust(refits=12).report(head, Rows(leverage.H, leverage.y, leverage.w), names)
    assert len(found.refits.ids) == 12
    assert set(found.refits.ids) <= set(names.to_pylist())


def test_features_that_know_their_labels_are_told_by_held_out_samples():
    """The label is written into the features of the samples trained on, as an over-trained network does."""
    rng = np.random.default_rng(0)
    X, held = rng.normal(size=(900, 8)), np.arange(900) % 3 == 0
    y = (X[:, 0] + rng.normal(size=900) > 0).astype(int)
    known = np.where(held, 0.0, 3.0 * (2 * y - 1)) + rng.normal(size=900)
    weight = np.where(held, 0.0, 1.0)
    blind = assay.audit((np.c_[X, known], y), weight=weight, l2=1e-2).trust
    check = {check.name: check for check in blind.checks}["left out less held out"]
    assert blind.verdict == check.verdict == "do not trust"
    assert "earlier checkpoint" in check.sentence
    plain = assay.audit((X, y), weight=weight, l2=1e-2).trust
    assert {check.name: check for check in plain.checks}["left out less held out"].verdict == "trust"
    none = assay.audit((X, y), l2=1e-2).trust
    assert "left out less held out" not in {check.name for check in none.checks}


@pytest.mark.parametrize(
    ("images", "mirrored", "error", "verdict"),
    [
        (0.71, 0.71, 0.005, "trust"),
        (0.83, 0.70, 0.02, "trust"),  # 0.13, of which 0.04 may be chance
        (0.83, 0.70, 0.01, "caution"),
        (0.99, 0.46, 0.015, "caution"),  # never more: a mirrored letter is another thing
    ],
)
def test_labels_known_by_heart(images, mirrored, error, verdict):
    check = by_heart(images, mirrored, error, 1000)
    assert check.verdict == verdict
    assert check.value == pytest.approx(images - mirrored - 2 * error)
    assert ('mirror="only"' in check.sentence) == (verdict != "trust")
