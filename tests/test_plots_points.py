"""Points, curves and traces: what is drawn is what was given."""

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import roc_auc_score

import assay
from assay import plots

RNG = np.random.default_rng(0)
POINTS = RNG.uniform(-1, 1, (50, 2))
LABELS = (POINTS[:, 0] > 0).astype(int)
INFLUENCE = RNG.exponential(size=50) ** 3


def clouds(ax) -> dict[str, PathCollection]:
    return {str(c.get_label()): c for c in ax.collections if isinstance(c, PathCollection)}


def lines(ax) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in ax.get_lines()}


def test_opacity_grows_with_influence_and_the_last_drawn_is_the_largest():
    ax = plots.influence_as_transparency(POINTS, LABELS, INFLUENCE, power=1.0, quantile=1.0)
    for code in (0, 1):
        cloud = clouds(ax)[f"class {code}"]
        values = np.sort(INFLUENCE[code == LABELS])
        alphas = np.asarray(cloud.get_facecolors())[:, 3]
        np.testing.assert_allclose(alphas, 0.06 + 0.94 * values / INFLUENCE.max())
        drawn = np.asarray(cloud.get_offsets())
        np.testing.assert_allclose(drawn[-1], POINTS[code == LABELS][INFLUENCE[code == LABELS].argmax()])
    soft = plots.influence_as_transparency(POINTS, LABELS, INFLUENCE)
    assert np.asarray(clouds(soft)["class 0"].get_facecolors())[:, 3].mean() > 0.3


def test_area_is_the_share_of_the_influence():
    ax = plots.influence_as_size(POINTS, LABELS, INFLUENCE, marked=[4, 9])
    for code in (0, 1):
        areas = np.sort(clouds(ax)[f"class {code}"].get_sizes())
        np.testing.assert_allclose(areas, 5 + 260 * np.sort(INFLUENCE[code == LABELS]) / INFLUENCE.sum())
    np.testing.assert_allclose(np.asarray(clouds(ax)["marked"].get_offsets()), POINTS[[4, 9]])


def test_the_true_boundary_is_drawn_where_the_decision_is_zero():
    ax = plots.influence_as_size(POINTS, LABELS, INFLUENCE, decision=lambda x: x[:, 0] - 0.25)
    contour = next(c for c in ax.collections if not isinstance(c, PathCollection))
    vertices = np.concatenate([path.vertices for path in contour.get_paths()])
    np.testing.assert_allclose(vertices[:, 0], 0.25, atol=1e-6)


def test_no_influence_at_all_is_drawn_too():
    for draw in (plots.influence_as_transparency, plots.influence_as_size):
        ax = draw(POINTS, LABELS, np.zeros(50))
        assert len(clouds(ax)) == 2


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (POINTS[:, :1], LABELS, r"points have shape \(50, 1\)"),
        (POINTS, LABELS[:5], r"labels \(5,\)"),
        (POINTS, LABELS + 1, "two classes are drawn, 0 and 1"),
    ],
)
def test_other_points_are_refused(points, labels, message):
    with pytest.raises(assay.ShapeError, match=message):
        plots.influence_as_size(points, labels, INFLUENCE)


def test_roc_curves_have_scikit_learns_area_and_every_run():
    truth = RNG.random((4, 300)) < 0.2
    scores = truth + RNG.normal(size=(4, 300))
    ax = plots.roc_curves(truth, scores)
    areas = [roc_auc_score(t, s) for t, s in zip(truth, scores, strict=True)]
    label = f"this ranking, area {np.mean(areas):.3f} ± {np.std(areas):.3f}"
    mean = lines(ax)[label]
    assert len(ax.get_lines()) == 4 + 2
    assert float(np.trapezoid(mean.get_ydata(), mean.get_xdata())) == pytest.approx(np.mean(areas), abs=0.01)
    assert "chance, area 0.5" in lines(ax)
    with pytest.raises(assay.ShapeError, match="run 0 has 0 errors among 300"):
        plots.roc_curves(np.zeros(300), scores[0])
    with pytest.raises(assay.ShapeError, match="give one of each per sample"):
        plots.roc_curves(truth, scores[:2])


@pytest.fixture
def trace() -> assay.Trace:
    """Two steps of the fifty points; at the second the influence is that of sample 3 alone."""
    second = np.where(np.arange(50) == 3, 1.0, 0.0)
    table = pa.table(
        {
            "step": np.repeat([10, 1000], 50),
            "id": np.tile(np.arange(50), 2),
            "cooks_distance": np.concatenate([INFLUENCE, second]),
            "loss": np.ones(100),
            "loo_loss": np.ones(100),
        }
    )
    return assay.Trace(table, pa.Table.from_pylist([{"step": 10}, {"step": 1000}]))


def test_shares_through_time(trace):
    ax = plots.trace_shares(trace, {"the third": [3], "others": [4, 5]})
    np.testing.assert_allclose(lines(ax)["the third"].get_ydata(), [INFLUENCE[3] / INFLUENCE.sum(), 1.0])
    np.testing.assert_allclose(lines(ax)["others"].get_ydata(), [INFLUENCE[4:6].sum() / INFLUENCE.sum(), 0.0])
    assert lines(ax)["the third"].get_xdata().tolist() == [10, 1000]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "1,000"]


def test_small_multiples_one_a_step(trace):
    axes = plots.trace_multiples(trace, POINTS, LABELS, marked=[3])
    assert [ax.get_title() for ax in axes] == ["step 10", "step 1,000"]
    assert clouds(axes[1])["class 0" if LABELS[3] == 0 else "class 1"].get_sizes().max() == 265
    own = list(Figure().subplots(1, 2))
    assert plots.trace_multiples(trace, POINTS, LABELS, axes=own) == own
    with pytest.raises(assay.ShapeError, match="1 axes for 2 steps"):
        plots.trace_multiples(trace, POINTS, LABELS, axes=own[:1])
