"""Classical diagnostics equal statsmodels' on real data sets, weighted ones those of the scaled problem."""

import numpy as np
import pytest
import statsmodels.api as sm
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes, load_linnerud

import assay
import oracles
from assay import plots
from assay.head import Head


def stackloss():
    data = sm.datasets.stackloss.load_pandas()
    return data.exog.to_numpy(float), data.endog.to_numpy(float)


def longley():
    data = sm.datasets.longley.load_pandas()
    return data.exog.to_numpy(float)[:, :4], data.endog.to_numpy(float)


def engel():
    data = sm.datasets.engel.load_pandas().data
    return data[["income"]].to_numpy(float), data["foodexp"].to_numpy(float)


def diabetes():
    return load_diabetes(return_X_y=True)


def diagnostics(X, y, **settings) -> assay.Classical:
    head = Head.fit(X, y, family="linear", l2=0.0, **settings)
    return assay.classical_diagnostics(head.leverage(X, y, weights=settings.get("weights")))


@pytest.mark.parametrize("load", [stackloss, longley, engel, diabetes])
@pytest.mark.parametrize("standardize", [True, False])
def test_all_equal_statsmodels(load, standardize: bool):
    X, y = load()
    found = diagnostics(X, y, standardize=standardize)
    expected = sm.OLS(y, np.c_[X, np.ones(len(X))]).fit().get_influence()
    close = {"rtol": 1e-8, "atol": 1e-10}
    if load is longley and not standardize:
        close = {"rtol": 1e-6, "atol": 1e-7}  # a condition number of 1e8 in these units takes half of the digits
    np.testing.assert_allclose(found.leverage, expected.hat_matrix_diag, **close)
    np.testing.assert_allclose(found.cooks_distance, expected.cooks_distance[0], **close)
    np.testing.assert_allclose(found.studentised, expected.resid_studentized_internal, **close)
    np.testing.assert_allclose(found.externally_studentised, expected.resid_studentized_external, **close)
    np.testing.assert_allclose(found.dffits, expected.dffits[0], **close)
    np.testing.assert_allclose(found.dfbetas, expected.dfbetas, **close)
    np.testing.assert_allclose(found.covariance_ratio, expected.cov_ratio, **close)
    assert found.parameters == X.shape[1] + 1


def test_weights_are_precisions():
    """Weighted least squares is plain least squares on rows times the roots of their weights."""
    X, y = diabetes()
    w = np.random.default_rng(0).uniform(0.2, 3, len(y))
    found = diagnostics(X, y, weights=w)
    root = np.sqrt(w)
    expected = sm.OLS(root * y, root[:, None] * np.c_[X, np.ones(len(X))]).fit().get_influence()
    np.testing.assert_allclose(found.cooks_distance, expected.cooks_distance[0], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.dfbetas, expected.dfbetas, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.dffits, expected.dffits[0], rtol=1e-8, atol=1e-10)


def test_rows_of_weight_zero_are_not_counted():
    X, y = diabetes()
    w = np.r_[np.ones(300), np.zeros(142)]
    found, rest = diagnostics(X, y, weights=w, standardize=False), diagnostics(X[:300], y[:300], standardize=False)
    assert found.samples == rest.samples == 300
    np.testing.assert_allclose(found.cooks_distance[:300], rest.cooks_distance, rtol=1e-8)
    limit = [line.get_xdata()[0] for line in plots.influence_plot(found).lines if len(set(line.get_xdata())) == 1]
    assert limit == [pytest.approx(2 * 11 / 300)]


def test_each_output_is_its_own_regression():
    X, Y = load_linnerud(return_X_y=True)
    found = diagnostics(X, Y)
    for j in range(3):
        one = diagnostics(X, Y[:, j])
        np.testing.assert_allclose(found.cooks_distance[:, j], one.cooks_distance, rtol=1e-9)
        np.testing.assert_allclose(found.dfbetas[:, j], one.dfbetas, rtol=1e-8)
        np.testing.assert_allclose(found.covariance_ratio[:, j], one.covariance_ratio, rtol=1e-9)


def test_leverage_one_is_nan():
    X, y = diabetes()
    X = np.c_[X, np.arange(len(X)) == 3]
    found = diagnostics(X, y)
    assert found.leverage[3] == pytest.approx(1.0)
    for name in ("studentised", "externally_studentised", "cooks_distance", "dffits", "covariance_ratio"):
        assert getattr(found, name).isnan().nonzero().flatten().tolist() == [3], name
    assert found.sole.nonzero().flatten().tolist() == [3]
    assert plots.influence_plot(found).collections


def test_the_textbooks_cooks_distance_ranks_as_its_own_formula():
    X, y = stackloss()
    leverage = Head.fit(X, y, family="linear", l2=0.0).leverage(X, y)
    assert int(assay.classical_cooks_distance(leverage).argmax()) == 20  # the known outlier of these data


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"l2": 1e-3}, "least squares without a penalty; fit the head with l2=0"),
        ({"family": "softmax", "l2": 1e-3}, "this head is softmax; its own are leverage"),
    ],
)
def test_heads_that_have_none(settings, said: str):
    X, y = stackloss() if "family" not in settings else oracles.blobs(40, 3, 3)
    head = Head.fit(X, y, **{"family": "linear", **settings})
    with pytest.raises(assay.ShapeError, match=said):
        assay.classical_diagnostics(head.leverage(X, y))


def test_too_few_samples():
    X, y = stackloss()
    head = Head.fit(X[:5], y[:5], family="linear", l2=0.0)
    with pytest.raises(assay.ShapeError, match="5 samples for 4 parameters leave no degree of freedom"):
        assay.classical_diagnostics(head.leverage(X[:5], y[:5]))


def test_the_influence_plot_names_the_largest():
    X, y = stackloss()
    ax = Figure().subplots()
    assert plots.influence_plot(diagnostics(X, y), most=2, ax=ax) is ax
    assert {"20", "0"} & {text.get_text() for text in ax.texts}
    assert sum(len(dots.get_offsets()) for dots in ax.collections) == len(y)
    with pytest.raises(assay.ShapeError, match="3 outputs; an influence plot shows one"):
        plots.influence_plot(diagnostics(*load_linnerud(return_X_y=True)))
