"""A fitted estimator as a head: its predictions, its penalty, its columns; and what has no equal is refused by name."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import assay
from assay.head import Head

WINE = load_wine()
X3, Y3 = StandardScaler().fit_transform(WINE.data), WINE.target_names[WINE.target]
CANCER = load_breast_cancer()
X2, Y2 = StandardScaler().fit_transform(CANCER.data)[:, :8], CANCER.target
DIABETES = load_diabetes()
XR, YR = DIABETES.data * 20, DIABETES.target
YR2 = np.c_[YR, YR[::-1]]
W = np.random.default_rng(0).uniform(0.5, 2, 569)
CLASS_WEIGHT = {"class_0": 3.0, "class_1": 1.0, "class_2": 0.5}
CHOSEN = {"Cs": [0.01, 0.1, 1.0], "l1_ratios": (0,), "scoring": "neg_log_loss", "use_legacy_attributes": False}
TIGHT = {"tol": 1e-10, "max_iter": 20_000}

CLASSIFIERS = {
    "multinomial": (LogisticRegression(C=0.7, **TIGHT), X3, Y3, None),
    "binary": (LogisticRegression(C=0.3, **TIGHT), X2, Y2, None),
    "no intercept": (LogisticRegression(C=0.3, fit_intercept=False, **TIGHT), X2, Y2, None),
    "no penalty": (LogisticRegression(C=np.inf, **TIGHT), X2[:, :3], Y2, None),
    "weights": (LogisticRegression(C=0.3, **TIGHT), X2, Y2, W),
    "weighted classes": (LogisticRegression(class_weight=CLASS_WEIGHT, **TIGHT), X3, Y3, None),
    "balanced": (LogisticRegression(class_weight="balanced", **TIGHT), X2, Y2, W),
    "elastic net": (LogisticRegression(C=0.2, l1_ratio=0.5, solver="saga", **TIGHT), X3, Y3, None),
    "binary elastic net": (LogisticRegression(C=0.05, l1_ratio=0.5, solver="saga", **TIGHT), X2, Y2, None),
    "cross-validated": (
        LogisticRegressionCV(**CHOSEN, **TIGHT), X3, Y3, None,
    ),
    "cross-validated, as it comes": (LogisticRegressionCV(Cs=3, **TIGHT), X3, Y3, None),
    "cross-validated, two classes": (LogisticRegressionCV(Cs=3, **TIGHT), X2, Y2, None),
}  # fmt: skip
REGRESSIONS = {
    "ridge": (Ridge(alpha=3.0), XR, YR, None),
    "ridge, weights": (Ridge(alpha=3.0), XR, YR, W[:442]),
    "ridge, two outputs": (Ridge(alpha=3.0), XR, YR2, None),
    "ridge, one alpha twice": (Ridge(alpha=[3.0, 3.0]), XR, YR2, None),
    "ridge, no intercept": (Ridge(alpha=3.0, fit_intercept=False), XR, YR, None),
    "ridge, cross-validated": (RidgeCV(alphas=[0.1, 1.0, 10.0]), XR, YR, None),
    "least squares": (LinearRegression(), XR, YR, W[:442]),
    "elastic net": (ElasticNet(alpha=2.0, l1_ratio=0.6, tol=1e-12, max_iter=100_000), XR, YR, None),
    "elastic net, weights": (ElasticNet(alpha=2.0, l1_ratio=0.6, tol=1e-12, max_iter=100_000), XR, YR, W[:442]),
    "elastic net, cross-validated": (ElasticNetCV(l1_ratio=0.5, tol=1e-10, max_iter=100_000), XR, YR, None),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_are_the_estimators(name: str):
    estimator, X, y, w = CLASSIFIERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # scikit-learn renames what LogisticRegressionCV has by default
        estimator.fit(X, y, sample_weight=w)
    head = Head.from_sklearn(estimator, X, y, weights=w)
    np.testing.assert_allclose(head.probabilities(X).numpy(), estimator.predict_proba(X), atol=1e-6)
    assert head.class_names == tuple(estimator.classes_.tolist())


@pytest.mark.parametrize("name", REGRESSIONS)
def test_predictions_are_the_estimators(name: str):
    estimator, X, y, w = REGRESSIONS[name]
    estimator.fit(X, y, sample_weight=w)
    head = Head.from_sklearn(estimator, X, y, weights=w)
    np.testing.assert_allclose(
        head.logits(X).numpy().reshape(y.shape), estimator.predict(X), rtol=1e-6, atol=1e-6 * y.std()
    )
    if hasattr(estimator, "l1_ratio"):
        assert ((head.coefficients()[0, :-1] == 0).numpy() == (estimator.coef_ == 0)).all()


def test_leverage_leaves_the_estimators_sample_out():
    """For Ridge the leave-one-out prediction is the refit's at the same alpha, exactly."""
    estimator = Ridge(alpha=3.0).fit(XR, YR)
    loo = Head.from_sklearn(estimator, XR, YR).leverage(XR, YR).leave_one_out()
    for i in (0, 100, 441):
        rest = np.arange(len(YR)) != i
        expected = Ridge(alpha=3.0).fit(XR[rest], YR[rest]).predict(XR[i : i + 1])
        np.testing.assert_allclose(loo.logits[i].numpy(), expected, rtol=1e-9)


def test_a_pipelines_transforms_are_the_encoder():
    frame = pd.DataFrame(WINE.data, columns=WINE.feature_names)
    pipeline = make_pipeline(StandardScaler(), SelectKBest(k=5), LogisticRegression(**TIGHT)).fit(frame, Y3)
    head = Head.from_sklearn(pipeline, frame, Y3)
    expected = pipeline.predict_proba(frame)
    np.testing.assert_allclose(head.probabilities(frame).numpy(), expected, atol=1e-6)  # as the pipeline takes them
    encoded = head.with_encoder(None).probabilities(pipeline[:-1].transform(frame))
    np.testing.assert_allclose(encoded.numpy(), expected, atol=1e-6)
    turned = Head.from_sklearn(pipeline, frame[frame.columns[::-1]], Y3)
    np.testing.assert_allclose(turned.V.numpy(), head.V.numpy(), atol=1e-12)
    with pytest.raises(assay.ShapeError, match="1 columns the estimator was fitted to are missing: 'ash'"):
        Head.from_sklearn(pipeline, frame.drop(columns="ash"), Y3)


def test_columns_of_a_frame_go_by_name():
    frame = pd.DataFrame(XR, columns=DIABETES.feature_names)
    estimator = Ridge().fit(frame, YR)
    turned = frame[frame.columns[::-1]]
    head = Head.from_sklearn(estimator, turned, YR)
    assert head.columns == tuple(DIABETES.feature_names)
    np.testing.assert_allclose(head.logits(turned).numpy()[:, 0], estimator.predict(frame), rtol=1e-8)


def test_columns_of_an_arrow_table_go_by_name():
    frame = pd.DataFrame(XR, columns=DIABETES.feature_names)
    estimator = Ridge().fit(frame, YR)
    head = Head.from_sklearn(estimator, pa.Table.from_pandas(frame[frame.columns[::-1]]), YR)
    np.testing.assert_allclose(head.V.numpy(), Head.from_sklearn(estimator, frame, YR).V.numpy(), rtol=1e-12)
    with pytest.raises(assay.ShapeError, match="1 columns the estimator was fitted to are missing: 'bmi'"):
        Head.from_sklearn(estimator, pa.Table.from_pandas(frame.drop(columns="bmi")), YR)


def test_sparse_features_are_taken():
    estimator = Ridge(alpha=3.0, solver="sag", tol=1e-12, max_iter=100_000, random_state=0).fit(csr_array(XR), YR)
    head = Head.from_sklearn(estimator, csr_array(XR), YR)
    np.testing.assert_allclose(head.logits(XR).numpy()[:, 0], estimator.predict(XR), rtol=1e-6)


def test_labels_may_be_a_column():
    estimator = LogisticRegression(class_weight="balanced", **TIGHT).fit(X2, Y2)
    expected = Head.from_sklearn(estimator, X2, Y2)
    np.testing.assert_array_equal(Head.from_sklearn(estimator, X2, Y2[:, None]).V.numpy(), expected.V.numpy())


@pytest.mark.parametrize(
    ("w", "error", "said"),
    [
        (np.ones(3), assay.ShapeError, r"weights have shape \(3,\), but there are 442 labels"),
        (np.zeros(442), assay.SourceError, "the weights sum to nothing"),
    ],
)
def test_bad_weights(w, error, said: str):
    with pytest.raises(error, match=said):
        Head.from_sklearn(Ridge().fit(XR, YR), XR, YR, weights=w)


def test_one_line_from_an_estimator_to_an_audit():
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, class_weight="balanced", **TIGHT))
    pipeline.fit(WINE.data, Y3)
    audit = assay.audit((WINE.data, Y3), model=pipeline)
    head = Head.from_sklearn(pipeline, WINE.data, Y3)
    expected = head.leverage(WINE.data, Y3)
    np.testing.assert_allclose(audit.table["cooks_distance"].to_numpy(), expected.cooks_distance().numpy(), rtol=1e-7)
    encoded = audit.head.with_encoder(None).probabilities(X3).numpy()
    np.testing.assert_allclose(encoded, pipeline.predict_proba(WINE.data), atol=1e-6)
    assert audit.info["rows"] == 178


def test_raw_rows_behind_a_scaler_are_encoded_wherever_they_come_in(tmp_path: Path):
    """A step that keeps the number of columns: rows that skip it would be scored without a word."""
    raw = XR * 50 + 100
    pipeline = make_pipeline(StandardScaler(), Ridge(alpha=2.0)).fit(raw, YR)
    scaled = pipeline[:-1].transform(raw)
    plain = Head.from_sklearn(Ridge(alpha=2.0).fit(scaled, YR), scaled, YR)
    head = Head.from_sklearn(pipeline, raw, YR)
    close = {"rtol": 1e-9, "atol": 1e-12}
    leverage, expected = head.leverage(raw, YR), plain.leverage(scaled, YR)
    np.testing.assert_allclose(leverage.cooks_distance(), expected.cooks_distance(), **close)
    np.testing.assert_allclose(head.logits(raw)[:, 0], pipeline.predict(raw), rtol=1e-8)
    ours, theirs = assay.influence_on(leverage, raw[:3], YR[:3]), assay.influence_on(expected, scaled[:3], YR[:3])
    assert [r.positions for r in ours.supporters] == [r.positions for r in theirs.supporters]
    group, same = (assay.group_influence(one, [3, 4]) for one in (leverage, expected))
    np.testing.assert_allclose(group.loss_change(raw[:9], YR[:9]), same.loss_change(scaled[:9], YR[:9]), **close)
    refit, alone = (assay.refit_without(h, (X, YR), [7]) for h, X in ((head, raw), (plain, scaled)))
    np.testing.assert_allclose(refit.V, alone.V, rtol=1e-8, atol=1e-10)
    audit = assay.audit((raw, YR), model=pipeline, out=tmp_path / "audit")
    whole = assay.audit((scaled, YR), l2=2.0 / 442, standardize=False).score((scaled[:20], YR[:20]))
    for found in (audit.score((raw[:20], YR[:20]), model=pipeline), audit.score((scaled[:20], YR[:20]), encoded=True)):
        np.testing.assert_allclose(found["loss"].to_numpy(), whole["loss"].to_numpy(), rtol=1e-8)
    assert audit.shift((raw, YR), model=pipeline).thin.new < 30


def test_raw_rows_are_refused_where_the_encoder_is_not_known(tmp_path: Path):
    pipeline = make_pipeline(StandardScaler(), Ridge()).fit(XR, YR)
    Head.from_sklearn(pipeline, XR, YR).save(tmp_path / "head.safetensors")
    head = Head.load(tmp_path / "head.safetensors")
    audit = assay.audit((XR, YR), model=pipeline)
    for call in (
        lambda: head.logits(XR),
        lambda: head.leverage(XR, YR),
        lambda: audit.head.probabilities(XR),
        lambda: assay.refit_without(head, (XR, YR), [1]),
        lambda: audit.score((XR, YR)),
        lambda: audit.shift((XR, YR)),
    ):
        with pytest.raises(assay.ShapeError, match=r"Pipeline\(StandardScaler\)"):
            call()
    again = head.with_encoder(pipeline[:-1].transform)
    np.testing.assert_allclose(again.logits(XR)[:, 0], pipeline.predict(XR), rtol=1e-8)
    with pytest.raises(assay.ShapeError, match=r"give \(X, y\)"):
        assay.refit_without(again, pd.DataFrame(XR).assign(y=YR), [1])
    with pytest.raises(assay.ShapeError, match=r"made through Pipeline\(StandardScaler\), but this model has none"):
        audit.score((XR, YR), model=pipeline[-1])
    plain = Ridge().fit(XR, YR)
    assert len(assay.audit((XR, YR), model=plain).score((XR, YR), model=plain)) == 442


def test_class_weights_stay_with_the_head(tmp_path: Path):
    """Leverage and refits of the training set weigh its rows as the estimator did, unasked."""
    estimator = LogisticRegression(class_weight={0: 3.0, 1: 0.5}, **TIGHT).fit(X2, Y2)
    head = Head.from_sklearn(estimator, X2, Y2)
    rows = np.where(Y2 == 0, 3.0, 0.5)
    same = Head.fit(X2, Y2, l2=head.l2, weights=rows, standardize=False)
    expected = same.leverage(X2, Y2, weights=rows)
    np.testing.assert_allclose(head.leverage(X2, Y2).cooks_distance(), expected.cooks_distance(), rtol=1e-7)
    np.testing.assert_allclose(head.leverage(X2, Y2, weights=2 * W).w, 2 * W * rows)
    refit = assay.refit_without(head, (X2, Y2), [5]).V
    weighted = assay.refit_without(same, assay.open_source((X2, Y2), weight=rows), [5]).V
    np.testing.assert_allclose(refit, weighted, rtol=1e-6, atol=1e-8)
    head.save(tmp_path / "head.safetensors")
    assert Head.load(tmp_path / "head.safetensors").class_weight == (3.0, 0.5)


def test_an_audit_of_an_estimator_takes_its_ids():
    ridge = Ridge(alpha=2.0).fit(XR, YR)
    audit = assay.audit((XR, YR, [f"p{i}" for i in range(442)]), model=ridge)
    assert audit.table["id"].to_pylist()[:2] == ["p0", "p1"]
    assert audit.info["l2"] == pytest.approx(2.0 / 442)


UNFIT = {
    "unfitted": (LogisticRegression(), X2, Y2, "the LogisticRegression is not fitted"),
    "unfitted pipeline": (make_pipeline(StandardScaler(), Ridge()), XR, YR, "the Ridge is not fitted"),
    "another": (RandomForestClassifier(2).fit(X2, Y2), X2, Y2, "RandomForestClassifier is no estimator that a head"),
    "one-vs-rest": (OneVsRestClassifier(LogisticRegression()).fit(X3, Y3), X3, Y3, "OneVsRestClassifier is no"),
    "no estimator": ("clf", X2, Y2, "str is no estimator"),
    "liblinear": (LogisticRegression(solver="liblinear").fit(X2, Y2), X2, Y2, "'liblinear' penalises the intercept"),
    "mean of folds": (
        LogisticRegressionCV(**{**CHOSEN, "Cs": [0.1]}, refit=False).fit(X3, Y3), X3, Y3,
        "refit=False averages the folds",
    ),
    "positive": (Ridge(positive=True).fit(XR, YR), XR, YR, r"Ridge\(positive=True\) constrains the weights"),
    "two alphas": (Ridge(alpha=[1.0, 2.0]).fit(XR, YR2), XR, YR2, r"one alpha for each output \(1\.0, 2\.0\)"),
    "pure L1": (LogisticRegression(l1_ratio=1, solver="saga", tol=0.1).fit(X2, Y2), X2, Y2, r"needs l2 > 0"),
    "another class": (LogisticRegression().fit(X2, Y2), X2, np.where(Y2, 2, 0), "label 2 is not one of the"),
    "a class less": (LogisticRegression().fit(X3, Y3), X3[:130], Y3[:130], "class 'class_2' has no sample"),
    "columns": (LogisticRegression().fit(X2, Y2), X2[:, :3], Y2, r"estimator was fitted to \[n, 8\]"),
    "lengths": (LogisticRegression().fit(X2, Y2), X2, Y2[:9], "569 rows of features, but 9 labels"),
    "fewer rows": (
        make_pipeline(FunctionTransformer(lambda X: X[::2]), LinearRegression()),
        XR, YR, r"step 'functiontransformer' \(FunctionTransformer\) makes 221 rows of 442",
    ),
}  # fmt: skip
UNFIT["fewer rows"][0].steps[-1][1].fit(XR, YR)


@pytest.mark.parametrize("name", UNFIT)
def test_what_has_no_equal_is_refused_by_name(name: str):
    estimator, X, y, said = UNFIT[name]
    with pytest.raises((assay.ShapeError, assay.SourceError), match=said):
        Head.from_sklearn(estimator, X, y)


def test_an_estimator_that_stopped_early_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        early = LogisticRegression(max_iter=2).fit(X2, Y2)
    with pytest.warns(assay.AssayWarning, match="of the LogisticRegression differ by .* it stopped early"):
        Head.from_sklearn(early, X2, Y2)


@pytest.mark.parametrize(
    ("estimator", "data", "options", "said"),
    [
        (ElasticNet().fit(XR, YR), (XR, YR), {}, "an audit has no L1 penalty"),
        (Ridge(fit_intercept=False).fit(XR, YR), (XR, YR), {}, "an audit's head has an intercept"),
        (Ridge().fit(XR, YR), "train.parquet", {}, r"model= needs its samples in memory, as \(X, y\)"),
        (Ridge().fit(XR, YR), (XR, YR), {"l2": 0.1}, "l2 follows from model="),
        (Ridge().fit(XR, YR), (XR, YR), {"family": "softmax"}, "family follows from model="),
    ],
)
def test_an_audit_that_cannot_equal_its_model(estimator, data, options, said):
    with pytest.raises(assay.ShapeError, match=said):
        assay.audit(data, model=estimator, **options)
