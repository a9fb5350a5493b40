"""Samples for a fitted head: columns by name whatever their order, classes by name; what does not fit is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch.testing import assert_close

import assay
from assay.head import Head

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)) * [1.0, 5.0, 0.2]
WORDS = np.where(X[:, 0] + X[:, 1] + RNG.normal(size=60) > 0, "yes", "no")
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
TURNED = FRAME[["c", "a", "b"]]
HEAD = Head.fit(FRAME, WORDS, l2=1e-2)


@pytest.mark.parametrize("turned", [TURNED, pl.DataFrame(dict(TURNED)), pa.table(dict(TURNED))], ids=["pd", "pl", "pa"])
def test_columns_are_found_by_name(turned):
    """Arrays have no names and go by position."""
    assert_close(HEAD.logits(turned), HEAD.logits(X))
    assert_close(HEAD.probabilities(turned), HEAD.probabilities(X))
    assert_close(HEAD.leverage(turned, WORDS).cooks_distance(), HEAD.leverage(X, WORDS).cooks_distance())


def test_further_columns_are_left_aside_and_missing_ones_named():
    assert_close(HEAD.logits(FRAME.assign(more=1.0)), HEAD.logits(X))
    with pytest.raises(assay.ShapeError, match="1 of the head's 3 columns are missing: 'b'; the features found are"):
        HEAD.logits(FRAME.drop(columns="b"))
    with pytest.raises(assay.ShapeError, match="1 of the head's 3 columns are missing: 'b'"):
        HEAD.leverage(FRAME.drop(columns="b"), WORDS)


def test_a_head_of_arrays_takes_a_frame_by_position():
    head = Head.fit(X, WORDS, l2=1e-2)
    assert_close(head.logits(FRAME), head.logits(X))


def test_labels_of_another_type_are_refused():
    with pytest.raises(assay.SourceError, match=r"the labels in column .* are int64, but the classes are string"):
        HEAD.leverage(FRAME, np.arange(60) % 2)
    with pytest.raises(assay.SourceError, match="the labels in column"):
        assay.influence_on(HEAD.leverage(FRAME, WORDS), X[:2], [0, 1])


def test_features_of_a_head_must_be_finite():
    with pytest.raises(assay.SourceError, match="row 4: column 'b' is null; fill the value in"):
        HEAD.probabilities(FRAME.assign(b=np.where(np.arange(60) == 4, np.nan, X[:, 1])))


def test_influence_takes_frames_and_class_names():
    leverage = HEAD.leverage(FRAME, WORDS)
    by_name = assay.influence_on(leverage, TURNED[:5], WORDS[:5], top_k=3)
    by_position = assay.influence_on(leverage, torch.tensor(X[:5]), list(WORDS[:5]), top_k=3)
    assert [r.positions for r in by_name.supporters] == [r.positions for r in by_position.supporters]
    with pytest.raises(assay.ShapeError, match="5 rows of features, but 4 labels"):
        assay.influence_on(leverage, X[:5], WORDS[:4])
    with pytest.raises(assay.ShapeError, match="top_k=0; ask for at least one"):
        assay.influence_on(leverage, X[:5], WORDS[:5], top_k=0)


def test_refits_read_the_heads_own_columns_and_classes():
    """A source whose columns come in another order, or that has never seen a class, still means the same."""
    table = TURNED.assign(y=WORDS)
    expected = assay.refit_without(HEAD, (X, WORDS), [3, 7])
    assert_close(assay.refit_without(HEAD, table, [3, 7]).V, expected.V)
    three = Head.fit(X, np.where(np.arange(60) < 5, "maybe", WORDS), l2=1e-2)
    with pytest.raises(assay.ShapeError, match="the labels are"):
        assay.refit_without(three, assay.open_source((X, X[:, 0])), [3])
    with pytest.raises(assay.SourceError, match=r"label 'maybe' .* is not one of the 2 classes"):
        assay.refit_without(HEAD, assay.open_source((X, np.where(np.arange(60) < 5, "maybe", WORDS))), [7])
    with pytest.raises(assay.ShapeError, match="2 feature columns; the head was made for 3"):
        assay.refit_without(HEAD, (X[:, :2], WORDS), [3])
