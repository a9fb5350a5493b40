"""The shift report: silent on a batch like the training set, and it finds what was planted in one that is not."""

import numpy as np
import pytest
import torch
from scipy.stats import fisher_exact

import assay
import oracles
from assay.curvature.dense import unpack
from assay.scores import unseen_logit_variance

HEADS = [("softmax", 2), ("softmax", 4), ("logistic", 2), ("linear", 1), ("linear", 3)]


def data(n: int, seed: int, shift: float = 0.0):
    """Three classes in five columns; `shift` moves a fifth of the samples away."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    X = rng.normal(size=(n, 5))
    X[:, :3] += 2 * np.eye(3)[y]
    X[: n // 5, 3] += shift
    return X, np.array(["ant", "bee", "cat"])[y]


@pytest.fixture(scope="module")
def audit() -> assay.Audit:
    return assay.audit(data(400, 0), l2=1e-2)


def test_a_batch_like_the_training_set_is_not_told_apart(audit: assay.Audit):
    """Of 20 such batches a twentieth may be, by chance: five or more would be a bias (p = 0.003)."""
    p_values = [audit.shift(data(200, seed)).thin.p_value for seed in range(1, 21)]
    assert sum(p < 0.05 for p in p_values) < 5


def test_new_ground_and_new_contradictions_are_found(audit: assay.Audit):
    X, y = data(300, 50, shift=12.0)
    y[100:130] = np.where(y[100:130] == "ant", "bee", "ant")
    found = audit.shift((X, y))
    thin, contradicts = found.table["thin"].to_numpy(), found.table["contradicts"].to_numpy()
    assert thin[:60].mean() > 0.9
    assert thin[60:].mean() < 0.1
    assert contradicts[100:130].mean() > 0.6
    assert np.delete(contradicts, range(100, 130)).mean() < 0.1
    assert found.thin.p_value < 1e-6
    assert found.contradicting.p_value < 0.01
    assert found.sentence.startswith(f"The training set is thin at {thin.sum()} of 300 (")
    assert f"the labels of {contradicts.sum()} of 300" in found.sentence
    table = [[int(thin.sum()), 300 - int(thin.sum())], [found.thin.training, 400 - found.thin.training]]
    assert found.thin.p_value == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
    assert found.classes is not None
    for row in found.classes.to_pylist():
        of_class = y == row["class"]
        assert (row["rows"], row["thin"]) == (of_class.sum(), thin[of_class].sum())
        assert row["contradicts"] == contradicts[of_class].sum()


def test_a_regression_has_no_classes():
    X, y = oracles.regression(200, 4, 1)
    audit = assay.audit((X, y), l2=1e-2)
    X, y = oracles.regression(40, 4, 1)
    found = audit.shift((X + 30, y))
    assert found.classes is None
    assert found.thin.new == 40
    with pytest.raises(assay.ShapeError, match="3 feature columns"):
        audit.shift((X[:, :3], y))


def test_new_batches_that_do_not_fit_are_refused(audit: assay.Audit):
    X, y = data(10, 1)
    y[4] = "dog"
    with pytest.raises(assay.SourceError, match="row 4: label 'dog'"):
        audit.shift((X, y))


@pytest.mark.parametrize(("name", "size"), HEADS)
def test_the_unseen_variance_is_that_of_the_head_without_the_sample(name: str, size: int):
    """`M` with the sample's own part taken out of A, in full matrices."""
    X, y = oracles.regression(60, 3, size) if name == "linear" else oracles.blobs(60, 3, size)
    w = np.random.default_rng(0).uniform(0.5, 2, 60)
    head = assay.Head.fit(X, y, family=name, l2=1e-2, weights=w)
    leverage = head.leverage(X, y, weights=w)
    family, curvature = head.family, leverage.curvature
    found = unseen_logit_variance(family, curvature, head.V, leverage.H, leverage.w)
    eye = torch.eye(family.K, dtype=torch.float64)
    for i in (0, 31, 59):
        h, z = leverage.H[i], (leverage.H @ head.V.T)[i : i + 1]
        S = eye if family.shared else unpack(family.curvature(z), family.K)[0]
        A = torch.kron(eye, curvature.matrix) if family.shared else curvature.matrix
        rest = A - leverage.w[i] * torch.kron(S, torch.outer(h, h))
        J = torch.kron(eye, h[:, None])
        assert float(found[i]) == pytest.approx(float(family.spread(J.T @ torch.linalg.solve(rest, J))), rel=1e-9)
    assert (found >= leverage.logit_variance()).all()
