"""Cuts of an audited table: the rows they hold, that they do not repeat each other, and the page."""

import re

import numpy as np
import pandas as pd
import pytest

import assay
from assay import plots

RNG = np.random.default_rng(0)
A, B, C, D = np.meshgrid(np.arange(8.0), np.arange(6.0) ** 3, np.arange(4.0), np.arange(3.0), indexing="ij")
TABLE = pd.DataFrame({"a": A.ravel(), "b": B.ravel(), "c": C.ravel(), "d": D.ravel()})
TRUE = (TABLE.a + TABLE.c > 4).to_numpy()
WRONG = (TABLE.c == 2).to_numpy() & (TABLE.d == 1).to_numpy() & (RNG.random(len(TABLE)) < 0.4)
TABLE["y"] = np.where(TRUE ^ WRONG, "turn", "<b>clear</b>")
TABLE["w"] = np.where(RNG.random(len(TABLE)) < 0.2, 0.0, 1.0)
NUMBERS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    out = tmp_path_factory.mktemp("cuts") / "a"
    return assay.audit(TABLE, label="y", features=NUMBERS, weight="w", out=out, shard_rows=100)


def test_cuts_hold_their_rows_and_the_most_influence(audit):
    cuts = audit.cuts(["a", "b"], top=20)
    scores = audit.table.to_pandas()
    totals = scores.groupby([TABLE.c, TABLE.d]).cooks_distance.sum()
    first = cuts[0]
    assert first.fixed == {"c": "= 2", "d": "= 1"}
    assert first.influence_share == pytest.approx(totals[2.0, 1.0] / scores.cooks_distance.sum())
    assert totals.idxmax() == (2.0, 1.0)
    rows = first.rows.to_pandas()
    inside = (TABLE.c == 2) & (TABLE.d == 1)
    assert sorted(rows.row) == np.flatnonzero(inside).tolist()
    assert (rows.cooks_distance.diff().dropna() <= 0).all()
    assert (rows.a == TABLE.a[rows.row].to_numpy()).all()
    assert (rows.held_out == (TABLE.w[rows.row] == 0).to_numpy()).all()
    assert first.values["c"] == 2.0
    assert first.values["a"] == rows.a[0]


def test_no_two_cuts_are_one_step_apart(audit):
    places = [(float(cut.fixed["c"][2:]), float(cut.fixed["d"][2:])) for cut in audit.cuts(["a", "b"], top=20)]
    for k, one in enumerate(places):
        for other in places[:k]:
            assert abs(one[0] - other[0]) + abs(one[1] - other[1]) > 1


def test_columns_without_a_grid_are_cut_in_bins():
    X = RNG.uniform(0, 1, (3000, 3))
    table = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=(X.sum(1) > 1.5).astype(int))
    audit = assay.audit(table, label="y", features=["a", "b", "c"], l2=1e-3)
    cut = audit.cuts(["a", "b"], top=3)[0]
    low, high = map(float, cut.fixed["c"].split("–"))
    inside = table.c[cut.rows["row"].to_numpy()]
    assert inside.min() >= low - 1e-3
    assert inside.max() <= high + 1e-3
    assert 0.04 < len(cut.rows) / 3000 < 0.15


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        (["a"], "name two different columns"),
        (["a", "a"], "name two different columns"),
        (["a", "y"], "'y' is not numeric"),
        (["a", "z"], "'z' is not there"),
    ],
)
def test_columns_that_cannot_be_swept_are_refused(audit, vary, message):
    with pytest.raises(assay.ShapeError, match=message):
        audit.cuts(vary)


def test_a_constant_cannot_be_swept():
    table = TABLE.assign(e=1.0)
    with pytest.warns(assay.AssayWarning, match="never vary"):
        audit = assay.audit(table, label="y", features=[*NUMBERS, "e"])
    with pytest.raises(assay.ShapeError, match="column 'e' never varies"):
        audit.cuts(["a", "e"])


def test_the_page_shows_every_cut_and_escapes_names(audit, tmp_path):
    page = assay.write_cuts(audit, tmp_path / "cuts", ["a", "b"], top=4)
    text = page.read_text(encoding="utf-8")
    images = re.findall(r'src="(cut-\d+\.png)"', text)
    assert len(images) == len(audit.cuts(["a", "b"], top=4))
    assert all((tmp_path / "cuts" / image).stat().st_size > 10_000 for image in images)
    assert "<b>clear" not in text
    assert "&lt;b&gt;clear" in text
    assert "http" not in text
    with pytest.raises(assay.OutputError, match="is not an empty folder"):
        assay.write_cuts(audit, tmp_path / "cuts", ["a", "b"])
    svg = assay.write_cuts(audit, tmp_path / "svg", ["a", "b"], top=1, format="svg")
    assert (svg.parent / "cut-01.svg").exists()
    with pytest.raises(assay.ShapeError, match="'gif' is not one of png, svg"):
        assay.write_cuts(audit, tmp_path / "gif", ["a", "b"], format="gif")


def test_a_regression_has_no_classes_to_draw(tmp_path):
    audit = assay.audit(TABLE.assign(t=TABLE.a * 1.5), label="t", features=["b", "c", "d"], l2=1e-3)
    with pytest.raises(assay.ShapeError, match="cuts show classes"):
        assay.write_cuts(audit, tmp_path / "cuts", ["b", "c"])


def test_a_map_draws_cells_dots_and_the_ring(audit):
    cut = audit.cuts(["a", "b"], top=1)[0]
    for polar in (False, True):
        ax = plots.cut_map(cut, "given_label", audit.info["classes"], polar=polar)
        labels = {str(c.get_label()): c for c in ax.collections}
        seen = int((~cut.rows["held_out"].to_numpy()).sum())
        assert len(labels["trained on"].get_offsets()) == seen
        assert len(labels["held out"].get_offsets()) == len(cut.rows) - seen
        assert len(labels["most influential"].get_offsets()) == 1
        mesh = ax.collections[0]
        assert mesh.get_array().size == 8 * 6 * 4 or len(mesh.get_facecolors()) == 8 * 6
    assert [tick.get_text() for tick in plots.cut_map(cut, "given_label", audit.info["classes"]).get_yticklabels()] == [
        "0",
        "1",
        "8",
        "27",
        "64",
        "125",
    ]  # fmt: skip  uneven steps: places in the grid


def test_an_encounter_is_drawn_as_it_is():
    values = {"rho": 3000.0, "theta": np.pi / 2, "psi": np.pi, "v_own": 200.0, "v_int": 800.0, "tau": 5.0}
    ax = plots.draw_encounter(values)
    own, intruder = (line for line in ax.get_lines() if line.get_marker() == "o")
    np.testing.assert_allclose([own.get_xdata()[0], own.get_ydata()[0]], [0, 0])
    np.testing.assert_allclose([intruder.get_xdata()[0], intruder.get_ydata()[0]], [-1, 0], atol=1e-12)  # to the left
    assert ax.get_title() == "3,000 ft apart, τ = 5 s"
    assert {text.get_text().split("\n")[0] for text in ax.texts} == {"own ship", "intruder"}
