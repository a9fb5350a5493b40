"""Which classes are mistaken for which, against the likelihood written out, and in an audit."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

import assay
from assay.auditing import sample
from assay.cli.summary import print_summary
from assay.explore.judge import judge
from assay.explore.transitions import LEAST, Transitions, _Mixture, evidence, find_transitions, label_loss
from assay.families import Softmax
from assay.l2 import Rows


def drawn(n: int = 3_000, classes: int = 4, seed: int = 0):
    """Probabilities, and clean labels drawn from them."""
    g = np.random.default_rng(seed)
    p = np.exp(3 * g.normal(size=(n, classes)))
    p /= p.sum(1, keepdims=True)
    return torch.from_numpy(p), (p.cumsum(1) < g.random(n)[:, None]).sum(1), g


def mistaken(share: float = 0.2, **how):
    """A share of class 2 is called 0."""
    p, clean, g = drawn(**how)
    return p, torch.from_numpy(np.where((clean == 2) & (g.random(len(clean)) < share), 0, clean)), clean


def columns(classes: int) -> Softmax:
    """Whose logits are those of the classes."""
    return Softmax(classes, contrasts=False)


def ones(y):
    return torch.ones(len(y), dtype=torch.float64)


def likelihood(p, y, T):
    return float((p * T[:, y].T).sum(1).log().sum())


def matrix(rho: float, own: dict[tuple[int, int], float], classes: int):
    T = torch.full((classes, classes), rho / (classes - 1), dtype=torch.float64)
    for (i, k), rate in own.items():
        T[i, k] += rate
    T.fill_diagonal_(0.0)
    return T + torch.diag(1 - T.sum(1))


def test_the_rates_are_the_likeliest():
    p, y, _ = mistaken()
    special = torch.zeros(4, 4, dtype=torch.bool)
    special[2, 0] = special[1, 3] = True
    found = _Mixture(p, y, ones(y))
    found.climb(1e-2, torch.where(special, 1e-2, 0.0).double())

    def unlikely(x):
        return -likelihood(p, y, matrix(x[0], {(2, 0): x[1], (1, 3): x[2]}, 4))

    best = minimize(unlikely, [0.01, 0.1, 0.01], bounds=[(1e-9, 0.3)] * 3, method="L-BFGS-B")
    assert likelihood(p, y, found.matrix()) >= -best.fun - 0.05  # where a step gains less than 1e-3 nats, few are left
    assert float(found.matrix()[2, 0]) == pytest.approx(best.x[1] + best.x[0] / 3, rel=0.02)
    torch.testing.assert_close(found.matrix().sum(1), torch.ones(4, dtype=torch.float64))
    assert (found.matrix() >= 0).all()


def test_a_gain_is_that_of_the_likelihood():
    p, y, _ = mistaken(n=400)
    model = _Mixture(p, y, ones(y))
    model.climb(1e-2, torch.zeros(4, 4).double())
    gains, before = model.gains(1.0), likelihood(p, y, model.matrix())
    for i, k in (gains > -np.inf).nonzero().tolist():
        tried = [likelihood(p, y, matrix(model.rho, {(i, k): rate}, 4)) for rate in np.geomspace(1e-3, 0.5, 200)]
        # sixteen rates stand for all: a quarter apart from the next, where the likelihood is flat
        assert max(tried) - before == pytest.approx(float(gains[i, k]), abs=0.05 * abs(max(tried) - before) + 1e-3)
        assert float(gains[i, k]) <= max(tried) - before + 1e-3


def test_a_pair_that_is_mistaken_is_found_and_its_flips_come_first():
    for seed in range(3):
        p, y, clean = mistaken(seed=seed)
        wrong = y.numpy() != clean
        found = find_transitions(p, y, ones(y))
        assert found.pairs.tolist() == [[2, 0]]
        assert float(found.rates[2, 0]) == pytest.approx(wrong.sum() / (clean == 2).sum(), rel=0.25)
        assert found.log_relative is not None
        doubt = label_loss(columns(4), p.log(), y, found.log_relative)
        plain = -p.log().gather(1, y[:, None])[:, 0]
        assert average_precision_score(wrong, doubt) > average_precision_score(wrong, plain) + 0.1


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_without_such_pairs_labels_are_judged_by_their_loss(share: float):
    """Clean labels, and labels flipped to any other class alike: hardly a pair in ten data sets stands out."""
    pairs = 0
    for seed in range(10):
        p, clean, g = drawn(seed=seed)
        flipped = g.random(len(clean)) < share
        y = torch.from_numpy(np.where(flipped, (clean + g.integers(1, 4, len(clean))) % 4, clean))
        found = find_transitions(p, y, ones(y))
        pairs += len(found.pairs)
        assert len(found.pairs) or found.log_relative is None
        off = found.rates[~torch.eye(4, dtype=torch.bool)]
        assert float(off.sum() / 4) == pytest.approx(share, abs=0.02)
    assert pairs <= 2


def test_doubt_is_the_odds_of_a_wrong_label():
    p, y, _ = mistaken(n=300)
    found = find_transitions(p, y, ones(y))
    T, rows, right = found.rates, torch.arange(300), torch.diagonal(found.rates)
    T = torch.maximum(T, 0.5 / (torch.bincount(y) + 2)[:, None])  # half a flip of each pair, at least
    wrong = (p * T[:, y].T).index_put((rows, y), torch.zeros(300).double()).sum(1) / (right[y] * p[rows, y])
    most = (found.rates / right).fill_diagonal_(0.0).max()
    assert found.log_relative is not None
    torch.testing.assert_close(label_loss(columns(4), p.log(), y, found.log_relative), torch.log1p(wrong / most))
    even = torch.zeros(4, 4, dtype=torch.float64)
    torch.testing.assert_close(label_loss(columns(4), p.log(), y, even), -p[rows, y].log())
    sure = torch.tensor([[40.0, 0.0, -5.0]], dtype=torch.float64)
    assert float(label_loss(columns(3), sure, torch.tensor([0]), torch.zeros(3, 3).double())) == pytest.approx(
        4.3e-18, rel=0.05
    )


def test_rows_count_by_their_weight_in_any_order():
    p, y, _ = mistaken(n=900)
    w = torch.where(torch.arange(900) % 3 == 0, 2.0, 1.0).double()
    w[700:] = 0.0
    one = find_transitions(p, y, w)
    rows = torch.cat([torch.arange(700), torch.arange(0, 700, 3)])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    two = find_transitions(p[rows], y[rows], ones(rows))
    assert one.pairs.tolist() == two.pairs.tolist() == [[2, 0]]
    torch.testing.assert_close(one.class_weight, two.class_weight)
    torch.testing.assert_close(one.rates, two.rates, rtol=1e-3, atol=1e-6)  # it may settle a step sooner


def test_labels_that_no_probability_allows_and_classes_without_samples():
    p = torch.tensor([[1.0, 0.0, 0.0]] * 40 + [[0.0, 1.0, 0.0]] * 40, dtype=torch.float64)
    y = torch.tensor([0] * 30 + [1] * 10 + [1] * 40)
    found = find_transitions(p, y, ones(y))
    assert found.pairs.tolist() == [[0, 1]]
    assert float(found.rates[0, 1]) == pytest.approx(0.25, abs=1e-2)
    assert torch.isfinite(found.rates).all()
    assert found.log_relative is not None
    assert torch.isfinite(found.log_relative).all()


def test_a_pair_that_takes_most_of_a_class_leaves_the_rates_probabilities():
    """Class 2 is nearly always called 0: what is left of it is no room for the rate that the next pair begins with."""
    certain = [(0, 0, 3000), (1, 1, 3000), (2, 0, 20000), (0, 1, 1000), (2, 1, 12), (2, 2, 2)]
    of = torch.tensor([i for i, _, n in certain for _ in range(n)])
    y = torch.tensor([k for _, k, n in certain for _ in range(n)])
    p = torch.full((len(y), 3), 1e-9, dtype=torch.float64).scatter(1, of[:, None], 1 - 2e-9)
    found = find_transitions(p, y, ones(y))
    assert (found.rates >= 0).all()
    torch.testing.assert_close(found.rates.sum(1), torch.ones(3, dtype=torch.float64))
    assert [2, 0] in found.pairs.tolist()
    assert float(found.rates[2, 0]) == pytest.approx(20000 / 20014, rel=1e-2)
    assert found.log_relative is not None
    assert torch.isfinite(found.log_relative).all()


def test_a_class_of_hardly_any_samples_does_not_count_for_more_than_a_pair_that_is_mistaken():
    p, y, _ = mistaken()
    few = torch.cat([p, torch.zeros(len(p), 1, dtype=torch.float64)], 1)
    found = find_transitions(few, y, ones(y))
    assert found.pairs.tolist() == [[2, 0]]
    assert found.log_relative is not None
    assert float(found.log_relative[2, 0]) == 0.0
    assert (found.log_relative <= 0).all()


def test_rates_come_back_from_a_file(tmp_path: Path):
    p, y, _ = mistaken(n=900)
    found = find_transitions(p, y, ones(y))
    found.save(tmp_path / "mistaken.safetensors")
    again = Transitions.load(tmp_path / "mistaken.safetensors")
    assert again.pairs.tolist() == found.pairs.tolist()
    assert torch.equal(again.log_relative, found.log_relative)


def test_more_pairs_to_choose_from_need_more_evidence():
    assert [evidence(C) for C in (2, 3)] == [LEAST, LEAST]
    assert evidence(10) == pytest.approx(np.log(90))


def digits_mistaken(*which: int):
    """Some of the digits; a third of the eights are called three."""
    X, clean = load_digits(return_X_y=True)
    kept = np.isin(clean, which)
    X, clean = X[kept], clean[kept]
    g = np.random.default_rng(0)
    y = np.where((clean == 8) & (g.random(len(clean)) < 1 / 3), 3, clean)
    return X[:, X.std(0) > 0], y, clean


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory):
    """Their audit, by names."""
    X, y, clean = digits_mistaken(0, 3, 5, 8, 9)
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    audit = assay.audit((X, names[y]), l2=1e-2, shard_rows=400, out=tmp_path_factory.mktemp("named") / "audit")
    return audit, X, names[y], y != clean


def test_an_audit_says_which_classes_are_mistaken(named):
    audit, X, labels, wrong = named
    assert [(pair["true"], pair["given"]) for pair in audit.info["mistaken"]] == [("eight", "three")]
    assert 0.05 < audit.info["mistaken"][0]["rate"] < 1 / 3  # the head was fitted to the flips: too low
    others = assay.audit((X, labels), l2=1e-2, shard_rows=1_000, trim=False)
    assert others.info["mistaken"] is None
    first, plain = (a.table["mislabeled_score"].to_numpy() for a in (audit, others))
    assert average_precision_score(wrong, first) > average_precision_score(wrong, plain)

    codes = np.unique(labels, return_inverse=True)[1]
    head = assay.Head.fit(X, codes, l2=1e-2)
    leverage = head.leverage(X, codes)
    judged = judge(head, Rows(leverage.H, leverage.y, leverage.w), leverage.V, leverage.curvature)
    p = head.family.probabilities(judged.scores.left_out_logits)
    found = find_transitions(p, leverage.y, ones(codes))
    assert found.log_relative is not None
    doubt = label_loss(columns(5), p.log(), leverage.y, found.log_relative).numpy()
    np.testing.assert_allclose(first, doubt / (1 + doubt), rtol=1e-5)
    np.testing.assert_allclose(
        audit.table["label_score"].to_numpy(), p.gather(1, leverage.y[:, None])[:, 0].numpy(), rtol=1e-5
    )


def test_the_pages_say_so_and_an_audit_from_before_is_read_too(named, capsys):
    audit = named[0]
    print_summary(audit, as_json=False)
    assert re.search(r"^mistaken  about \d+\.\d% of eight are labelled three$", capsys.readouterr().out, re.M)
    page = assay.write_report(audit, overwrite=True).read_text(encoding="utf-8")
    assert "<bdi>eight</bdi> called <bdi>three</bdi>" in page
    file = audit.path / "audit.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    del told["mistaken"]
    file.write_text(json.dumps(told), encoding="utf-8")
    before = assay.load(audit.path)
    print_summary(before, as_json=False)
    assert "mistaken" not in capsys.readouterr().out
    assert "called <bdi>" not in assay.write_report(before, overwrite=True).read_text(encoding="utf-8")


def test_a_sample_of_the_rows_tells_it_for_all_of_any_number_of_workers(tmp_path, monkeypatch):
    X, y, _ = digits_mistaken(*range(10))
    labels = np.array(list("0123456789"))[y]
    monkeypatch.setattr(sample, "CELLS", 1_200 * X.shape[1])
    audits = [
        assay.audit((X, labels), l2=1e-2, shard_rows=400, workers=workers, out=tmp_path / str(workers))
        for workers in (None, 2)
    ]
    assert audits[0].info["sampled_rows"] == 1_200
    assert audits[0].info["mistaken"] == audits[1].info["mistaken"]
    assert [(pair["true"], pair["given"]) for pair in audits[0].info["mistaken"]] == [("8", "3")]
    assert audits[0].table.equals(audits[1].table)


def test_a_trace_has_the_loss_an_audit_scores_by():
    """Of a network whose last layer sees the columns themselves, all above zero."""
    X, y, _ = digits_mistaken(0, 3, 5, 8, 9)
    X = torch.from_numpy(X / 16).float()
    y = np.unique(y, return_inverse=True)[1]
    network = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(X.shape[1], 5))
    audit = assay.audit((X, y), model=network, l2=1e-4)
    assert audit.info["mistaken"]
    trace = assay.trace((X, y), model=network, checkpoints={1: network.state_dict()}, refit=True, l2=1e-4)
    loss = trace.column("label_loss")[0]
    np.testing.assert_allclose(audit.table["mislabeled_score"].to_numpy(), loss / (1 + loss), rtol=1e-5)


def test_an_ensemble_joins_audits_by_the_loss_they_score_by(named):
    """Three audits, each without a fifth of the pixels."""
    _, X, labels, wrong = named
    pixels = np.arange(X.shape[1])
    audits = [assay.audit((X[:, pixels % 5 != k], labels), l2=1e-2) for k in range(3)]
    for audit in audits:
        assert [(pair["true"], pair["given"]) for pair in audit.info["mistaken"]] == [("eight", "three")]
    scores = np.stack([audit.table["mislabeled_score"].to_numpy() for audit in audits])
    mean = (scores / (1 - scores)).mean(0)
    joined = assay.ensemble(audits).table["mislabeled_score"].to_numpy()
    np.testing.assert_allclose(joined, mean / (1 + mean))
    assert average_precision_score(wrong, joined) > np.mean([average_precision_score(wrong, one) for one in scores])


def test_two_classes_of_a_logistic_head():
    g = np.random.default_rng(0)
    X = g.normal(size=(2_000, 3))
    clean = (X[:, 0] + 0.2 * g.normal(size=2_000) > 0).astype(int)
    y = np.where((clean == 1) & (g.random(2_000) < 0.2), 0, clean)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)
        audits = [assay.audit((X, y), family=family, l2=1e-3) for family in ("logistic", "softmax")]
    for audit in audits:
        assert [(pair["true"], pair["given"]) for pair in audit.info["mistaken"]] == [(1, 0)]
    ranks = [audit.table["mislabeled_score"].to_numpy().argsort()[-200:] for audit in audits]
    assert len(set(ranks[0]) & set(ranks[1])) > 180


def test_a_regression_mistakes_no_class():
    X = np.random.default_rng(0).normal(size=(100, 3))
    assert assay.audit((X, X @ np.arange(3.0)), family="linear", l2=1e-3).info["mistaken"] is None
