"""The head that has not seen the mistakes, against its definition; found where there are some, and only there."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

import assay
from assay.auditing import sample
from assay.explore.judge import PRICE, judge, judged_by, label_bins, unlearn
from assay.explore.transitions import evidence, label_loss
from assay.explore.trim import MOST, trimmed
from assay.l2 import Rows

SEVEN = (0, 1, 3, 5, 6, 8, 9)


def eights_called_three(share: float = 1 / 3, seed: int = 0, digits: tuple[int, ...] = SEVEN):
    """Columns, codes, which are wrong, and the pair in codes: a head that is fitted to them learns it."""
    X, clean = load_digits(return_X_y=True)
    kept = np.isin(clean, digits)
    X, clean = X[kept], clean[kept]
    g = np.random.default_rng(seed)
    labels = np.where((clean == 8) & (g.random(len(clean)) < share), 3, clean)
    inked = (X > 0).mean(0) > 0.02  # in any part of the rows too
    return X[:, inked], np.searchsorted(digits, labels), labels != clean, [digits.index(8), digits.index(3)]


def before(X, y, l2: float = 1e-2):
    """The head, its rows, and what the trimmed head says of them."""
    head = assay.Head.fit(X, y, l2=l2)
    leverage = head.leverage(X, y)
    rows = Rows(leverage.H, leverage.y, leverage.w)
    left = trimmed(head, rows, leverage.V, leverage.curvature)
    return head, rows, leverage, left, judged_by(head.family, rows, left.V, left.curvature, left.w)


def precision(head, rows, judged, wrong) -> float:
    loss = label_loss(head.family, judged.scores.left_out_logits, rows.y, judged.mistaken.log_relative)
    return float(average_precision_score(wrong, loss))


def likely_wrong(head, judged, y, pair):
    """By hand: whose label the pair makes likelier wrong than right, and of whom that is clear, not a bin's matter."""
    i, k = pair
    rate = float(judged.mistaken.rates[i, k]) - judged.mistaken.uniform / (len(judged.mistaken.rates) - 1)
    p, T = head.family.probabilities(judged.scores.left_out_logits).numpy(), np.eye(len(judged.mistaken.rates))
    T[i, k], T[i, i] = rate, 1 - rate
    right = p[np.arange(len(y)), y] * T[y, y]
    odds = ((p * T[:, y].T).sum(1) - right) / right
    return odds > 1, np.abs(odds - 1) > 2e-2


def test_it_is_what_it_says():
    X, y, wrong, pair = eights_called_three()
    head, rows, leverage, left, plain = before(X, y)
    assert plain.mistaken.pairs.tolist() == []  # the head has learnt to call eights three
    found = unlearn(head, rows, left.V, plain)
    assert found is not None
    standardised = (X - X.mean(0)) / X.std(0)

    def fit(kept):
        l2 = head.l2 * len(y) / kept.sum()
        return assay.Head.fit(standardised[kept], y[kept], l2=l2, standardize=False)

    def seen(fitted, kept):
        return judged_by(head.family, rows, fitted.V, head_curvature(head, rows, fitted, kept), kept)

    p = head.family.probabilities(plain.scores.left_out_logits).numpy()
    agrees = p.argmax(1) == y
    first = seen(fit(agrees), torch.from_numpy(agrees).double())
    assert first.mistaken.pairs.tolist() == [pair]
    out, clear = likely_wrong(head, first, y, pair)
    assert np.array_equal((found.w.numpy() == 0)[clear], (out | (left.w.numpy() == 0))[clear])
    assert clear.mean() > 0.99

    kept = found.w.numpy() > 0
    torch.testing.assert_close(found.V, fit(kept).V, rtol=1e-4, atol=1e-5)  # stopped at a decrement of 1e-10
    second = judged_by(head.family, rows, found.V, found.curvature, found.w)
    assert second.mistaken.pairs.tolist() == found.pairs.pairs.tolist() == [pair]
    q = head.family.probabilities(second.scores.left_out_logits).numpy()
    by_hand = np.log((q * second.mistaken.rates.numpy()[:, y].T).sum(1)).sum()
    assert second.log_likelihood == pytest.approx(by_hand, rel=1e-12)
    assert second.log_likelihood - plain.log_likelihood >= PRICE * evidence(7)

    out, clear = likely_wrong(head, second, y, pair)
    suspected = found.suspects.among(label_bins(head.family, second.scores, rows.y, found.pairs), rows.y).numpy()
    assert np.array_equal(suspected[clear], out[clear])
    torch.testing.assert_close(found.fit.V, fit(~suspected & (left.w.numpy() > 0)).V, rtol=1e-4, atol=1e-5)
    assert judge(head, rows, leverage.V, leverage.curvature).log_likelihood == found.judged.log_likelihood
    assert precision(head, rows, plain, wrong) < 0.5 < 0.95 < precision(head, rows, found.judged, wrong)


def head_curvature(head, rows, fitted, w):
    """The curvature of the rows of weight, at a head fitted to them."""
    left = Rows(rows.H, rows.y, w)
    return head.objective(left.sums(head.family), total_weight=float(w.sum())).at(fitted.V).curvature


@pytest.mark.parametrize("share", [0.1, 0.2, 1 / 3])
def test_flips_that_the_head_has_learnt_come_first(share: float):
    """In the mean over draws, also where the trimmed head sees the pair by itself."""
    plain, with_pairs = [], []
    for seed in range(4):
        X, y, wrong, _ = eights_called_three(share, seed)
        head, rows, leverage, _, first = before(X, y)
        plain.append(precision(head, rows, first, wrong))
        with_pairs.append(precision(head, rows, judge(head, rows, leverage.V, leverage.curvature), wrong))
    assert np.mean(with_pairs) > np.mean(plain) + 0.1
    assert np.min(np.subtract(with_pairs, plain)) > -0.01
    assert max(with_pairs) > 0.98


def test_natural_doubts_are_no_mistakes():
    """Labels drawn from a softmax: without what disagrees a head is too sure of itself, and they are less likely."""
    for seed in range(10):
        g = np.random.default_rng(seed)
        X, W = g.normal(size=(600, 5)), 1.5 * g.normal(size=(5, 4))
        p = np.exp(X @ W)
        y = (p.cumsum(1) < (g.random(600) * p.sum(1))[:, None]).sum(1)
        head, rows, _, left, plain = before(X, y, 1e-3)
        assert (head.family.probabilities(plain.scores.left_out_logits).argmax(1).numpy() != y).mean() > 0.1
        assert unlearn(head, rows, left.V, plain) is None


def test_flips_to_any_class_leave_the_trimmed_head_its_say():
    X, clean = load_digits(n_class=5, return_X_y=True)
    X = X[:, X.std(0) > 0]
    g = np.random.default_rng(0)
    y = np.where(g.random(len(clean)) < 0.05, (clean + g.integers(1, 5, len(clean))) % 5, clean)
    head, rows, leverage, _, plain = before(X, y)
    assert judge(head, rows, leverage.V, leverage.curvature).log_likelihood == plain.log_likelihood


def test_of_no_class_more_than_half_is_left_out():
    """Two thirds of the eights are called three: what is left of them would be the mistake."""
    X, y, _, (eight, _) = eights_called_three(2 / 3)
    head, rows, _, left, plain = before(X, y)
    p = head.family.probabilities(plain.scores.left_out_logits)
    disagreeing = (p.argmax(1) != rows.y) & (rows.y == eight)
    assert float(disagreeing.double().sum()) > MOST * float((rows.y == eight).sum())
    found = unlearn(head, rows, left.V, plain)
    kept = None if found is None else float(found.w[rows.y == eight].sum())
    assert kept is None or kept >= MOST * float((rows.y == eight).sum())


def test_of_no_class_more_than_half_is_left_out_by_both_together():
    """Twenty threes, flips of all kinds, and eights called three: what the pair suspects comes after the flips."""
    X, clean = load_digits(return_X_y=True)
    kept = np.isin(clean, SEVEN) & ((clean != 3) | (np.cumsum(clean == 3) <= 20))
    X, clean = X[kept][:, (X[kept] > 0).mean(0) > 0.02], np.searchsorted(SEVEN, clean[kept])
    g = np.random.default_rng(0)
    y = np.where((clean == 5) & (g.random(len(clean)) < 0.15), 2, clean)
    y = np.where(g.random(len(clean)) < 0.05, (y + g.integers(1, 7, len(clean))) % 7, y)
    head, rows, _, left, plain = before(X, y)
    found = unlearn(head, rows, left.V, plain)
    assert found is not None
    assert bool((left.w == 0).any())
    for k in range(7):
        assert float(found.judged.w[rows.y == k].sum()) >= MOST * float((rows.y == k).sum())


def test_two_classes_and_no_penalty():
    """A rest that can be parted has no fit: the trimmed head judges."""
    g = np.random.default_rng(0)
    X = np.r_[g.normal(-2, 1, 150), g.normal(2, 1, 150)][:, None]
    y = np.r_[np.zeros(150), np.ones(150)].astype(int)
    y[:20] = 1
    head = assay.Head.fit(X, y, family="logistic", l2=0.0)
    leverage = head.leverage(X, y)
    judged = judge(head, Rows(leverage.H, leverage.y, leverage.w), leverage.V, leverage.curvature)
    assert np.isfinite(judged.log_likelihood)


@pytest.mark.parametrize(("share", "sampled"), [(0.0, None), (0.0, 1_400), (0.03, None)])
def test_an_audit_judges_so(share: float, sampled: int | None, tmp_path, monkeypatch):
    """Of all rows as in memory, a share of them flipped to any class too; told of the pair by a sample, much alike."""
    X, y, wrong, pair = eights_called_three(0.2, seed=2, digits=tuple(range(10)))
    g = np.random.default_rng(0)
    other = g.random(len(y)) < share
    y, wrong = np.where(other, (y + g.integers(1, 10, len(y))) % 10, y), wrong | other
    head, rows, _, left, plain = before(X, y)
    assert bool((left.w == 0).any()) == bool(share)  # flips to any class the trimmed head has left out
    found = unlearn(head, rows, left.V, plain)
    assert found is not None
    loss = label_loss(head.family, found.judged.scores.left_out_logits, rows.y, found.judged.mistaken.log_relative)
    if sampled:
        monkeypatch.setattr(sample, "CELLS", sampled * X.shape[1])
    audit = assay.audit((X, y), l2=1e-2, shard_rows=700, out=tmp_path / "audit")
    assert audit.info["sampled_rows"] == (sampled or len(y))
    assert [(one["true"], one["given"]) for one in audit.info["mistaken"]] == [tuple(pair)]
    score = audit.table["mislabeled_score"].to_numpy()
    assert average_precision_score(wrong, score) > max(0.9, precision(head, rows, plain, wrong))
    if not sampled:
        np.testing.assert_allclose(score, (loss / (1 + loss)).numpy(), rtol=1e-4, atol=1e-7)
        assert audit.info["trimmed"]["weight"] == len(y) - float(found.judged.w.sum())
        assert bool(audit.info["trimmed"]["flip_rate"]) == bool(share)


class Stop:
    """Progress that interrupts when a pass of the fits without suspects begins, after so many of them."""

    def __init__(self, passes: int) -> None:
        self.left = passes

    def start(self, stage: str, total: int) -> None:
        self.left -= stage == "trim"
        if self.left < 0:
            raise KeyboardInterrupt

    def advance(self, n: int = 1) -> None: ...

    def done(self) -> None: ...


def test_an_audit_that_is_interrupted_judges_as_one_that_is_not(tmp_path):
    X, y, _, _ = eights_called_three()
    whole = assay.audit((X, y), l2=1e-2, shard_rows=400, out=tmp_path / "whole")
    assert whole.info["mistaken"]
    for passes in range(60):
        try:
            cut = assay.audit(
                (X, y), l2=1e-2, shard_rows=400, out=tmp_path / "cut", progress=Stop(passes), workers=None
            )
        except KeyboardInterrupt:
            continue
        assert passes > 2
        assert contents(cut.path) == contents(whole.path)
        return
    pytest.fail("it never came to its end")


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
