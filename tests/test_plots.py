"""What is drawn, not only that something is: the data of the artists are read back."""

import matplotlib.pyplot
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from assay import canvas, plots


@pytest.fixture
def ax() -> Axes:
    return Figure(layout="constrained").subplots()


def lines(ax: Axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in ax.get_lines()}


def clouds(ax: Axes) -> dict[str, PathCollection]:
    return {str(dots.get_label()): dots for dots in ax.collections if isinstance(dots, PathCollection)}


def texts(ax: Axes) -> set[str]:
    return {text.get_text().strip() for text in ax.texts}


def ticks(labels: list) -> list[str]:
    return [label.get_text() for label in labels]


def render(ax: Axes) -> None:
    ax.figure.savefig("/dev/null", format="svg")


def test_every_function_draws_on_the_axes_given_and_opens_no_pyplot_figure(ax):
    before = matplotlib.pyplot.get_fignums()
    assert plots.score_distribution([1.0], ["typical"], ax=ax) is ax
    assert plots.score_distribution([1.0], ["typical"]).figure is not ax.figure
    assert matplotlib.pyplot.get_fignums() == before


class TestScoreDistribution:
    def test_one_strip_a_kind_counting_its_samples(self, ax):
        rng = np.random.default_rng(0)
        scores = rng.lognormal(size=300)
        kinds = ["mislabeled"] * 60 + ["typical"] * 240
        plots.score_distribution(scores, kinds, ax=ax)
        strips = {str(patch.get_label()): patch.get_data() for patch in ax.patches}
        assert set(strips) == {"mislabeled", "typical"}
        for row, kind in enumerate(["typical", "mislabeled"]):
            expected, _ = np.histogram(scores[np.array(kinds) == kind], strips[kind].edges)
            np.testing.assert_allclose(strips[kind].values - row, 0.82 * expected / expected.max())
            assert expected.sum() == kinds.count(kind)
        assert ticks(ax.get_yticklabels()) == ["typical\n240", "mislabeled\n60"]
        assert ax.get_xscale() == "log"

    def test_zeros_and_nans(self, ax):
        plots.score_distribution([0.0, 0.0, 1e-30, 1.0, np.nan], ["typical"] * 5, ax=ax)
        (strip,) = ax.patches
        values = strip.get_data().values / 0.82
        assert values[0] == 1.0  # three at the left edge: zero and what is far below the largest
        np.testing.assert_allclose(values[-1], 1 / 3)
        assert ticks(ax.get_yticklabels()) == ["typical\n4"]

    @pytest.mark.parametrize("scores", [[], [0.0, 0.0], [np.nan]])
    def test_nothing_to_see(self, scores, ax):
        plots.score_distribution(scores, ["typical"] * len(scores), ax=ax)
        render(ax)


class TestRecall:
    effort = np.array([0.0, 0.05, 0.1, 0.5])

    def test_mean_runs_chance_and_oracle(self, ax):
        runs = np.array([[0.0, 0.4, 0.9, 1.0], [0.0, 0.6, 0.7, 1.0]])
        plots.recall_against_effort(self.effort, runs, share=0.05, ax=ax)
        drawn = lines(ax)
        np.testing.assert_allclose(drawn["this ranking"], np.column_stack([self.effort, runs.mean(0)]))
        np.testing.assert_allclose(drawn["chance"], [[0, 0], [0.5, 0.5]])
        np.testing.assert_allclose(drawn["oracle: nothing but errors"], [[0, 0], [0.05, 1], [0.5, 1]])
        single = [line.get_ydata() for line in ax.get_lines() if line.get_label() == "_single run"]
        np.testing.assert_allclose(single, runs)

    def test_the_band_stays_within_what_is_possible(self, ax):
        plots.recall_against_effort(self.effort, [0, 0.5, 0.95, 1], spread=[0, 0.1, 0.1, 0.1], ax=ax)
        band = ax.collections[0].get_paths()[0].vertices
        assert band[:, 1].max() == 1.0
        assert {0.4, 0.6} <= set(band[:, 1].round(12))
        assert "oracle: nothing but errors" not in lines(ax)


class TestConfusion:
    def test_cells_hold_the_counts(self, ax):
        plots.confusion_pairs([("3", "8", 5), ("8", "3", 2), ("10", "3", 1)], ax=ax)
        (mesh,) = (artist for artist in ax.collections if isinstance(artist, QuadMesh))
        np.testing.assert_array_equal(mesh.get_array().filled(0), [[0, 5, 0], [2, 0, 0], [1, 0, 0]])
        assert ticks(ax.get_yticklabels()) == ["3", "8", "10"]  # numbers in their order, given downwards
        assert texts(ax) == {"5", "2", "1"}
        assert ax.get_ylim() == (3, 0)
        assert (ax.get_ylabel(), ax.get_xlabel()) == ("given label", "suggested label")

    def test_the_busiest_classes_are_kept(self, ax):
        pairs = [(f"class {i}", f"class {i + 1}", 40 - i) for i in range(30)]
        plots.confusion_pairs(pairs, limit=4, ax=ax)
        assert ticks(ax.get_yticklabels()) == ["class 1", "class 2", "class 3", "class 4"]

    def test_names_are_not_mathematics(self, ax):
        plots.confusion_pairs([("$\\frac{", "$x$", 1), ("a very long name of a class indeed", "$x$", 1)], ax=ax)
        render(ax)
        assert "a very long name …" in ticks(ax.get_yticklabels())

    def test_empty(self, ax):
        plots.confusion_pairs([], ax=ax)
        render(ax)


class TestRefits:
    def test_points_and_diagonal(self, ax):
        plots.refit_agreement([0.1, 1.1], [0.1, 1.0], first_order=[0.08, 0.7], ax=ax)
        drawn = lines(ax)
        np.testing.assert_allclose(drawn["leave-one-out, one Newton step"], [[0.1, 0.1], [1.0, 1.1]])
        np.testing.assert_allclose(drawn["first order, D/N"], [[0.1, 0.08], [1.0, 0.7]])
        np.testing.assert_allclose(drawn["exact"][:, 0], drawn["exact"][:, 1])
        assert ax.get_xscale() == ax.get_yscale() == "log"

    def test_negative_changes_take_a_linear_axis(self, ax):
        plots.refit_agreement([0.1, -0.2], [0.1, -0.1], ax=ax)
        assert ax.get_xscale() == "linear"
        assert set(lines(ax)) == {"exact", "leave-one-out, one Newton step"}


class TestClouds:
    def test_kinds_have_their_colour_and_place(self, ax):
        kinds = ["mislabeled", "boundary", "typical", "under-represented", "typical"]
        plots.kinds_map([1, 2, 3, 4, np.nan], [-1, 0, 1, 2, 3], kinds, ax=ax)
        drawn = clouds(ax)
        np.testing.assert_array_equal(drawn["mislabeled"].get_offsets(), [[-1, 1]])
        np.testing.assert_array_equal(drawn["typical"].get_offsets(), [[1, 3]])  # leverage one is left out
        assert {kind: to_hex(dots.get_facecolor()[0]) for kind, dots in drawn.items()} == {
            kind: style.color for kind, style in canvas.KINDS.items()
        }
        assert ax.get_yscale() == "log"
        legend = ax.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == list(canvas.KINDS)

    def test_the_cloud_is_thinned_evenly(self, ax):
        n = 10_000
        plots.kinds_map(np.ones(n), np.arange(n), ["typical"] * n, limit=101, ax=ax)
        x = np.asarray(clouds(ax)["typical"].get_offsets())[:, 0]
        assert (len(x), x[0], x[-1]) == (101, 0, n - 1)
        assert np.ptp(np.diff(x)) <= 1

    def test_regression(self, ax):
        plots.given_against_predicted([1.0, 5.0], [1.5, 2.0], ["typical", "mislabeled"], ax=ax)
        np.testing.assert_array_equal(clouds(ax)["mislabeled"].get_offsets(), [[5.0, 2.0]])
        np.testing.assert_array_equal(lines(ax)["_agreement"], [[1, 1], [5, 5]])


class TestClassBars:
    def test_most_first_with_shares(self, ax):
        plots.class_bars({"cat": 2, "dog": 8, "$": 0}, {"cat": 10, "dog": 100, "$": 5}, ax=ax)
        assert ticks(ax.get_yticklabels()) == ["dog", "cat", "$"]
        assert [bar.get_width() for bar in ax.patches] == [8, 2, 0]
        assert texts(ax) == {"8 of 100 (8 %)", "2 of 10 (20 %)", "0 of 5 (0 %)"}
        render(ax)

    def test_limit(self, ax):
        plots.class_bars({str(i): i for i in range(40)}, limit=3, ax=ax)
        assert ticks(ax.get_yticklabels()) == ["39", "38", "37"]


def test_kinds_are_told_apart_without_colour():
    assert len({style.marker for style in canvas.KINDS.values()}) == len(canvas.KINDS)
    assert len({style.glyph for style in canvas.KINDS.values()}) == len(canvas.KINDS)
