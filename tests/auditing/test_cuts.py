"""Cuts of an audited table: the rows they hold, that they do not repeat each other, and the page."""

import re
from dataclasses import replace

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
    scores.loc[TABLE.w == 0, "cooks_distance"] = 0.0  # held out: no influence on the head
    totals = scores.groupby([TABLE.c, TABLE.d]).cooks_distance.sum()
    first = cuts[0]
    assert first.fixed == {"c": "= 2", "d": "= 1"}
    assert first.influence_share == pytest.approx(totals[2.0, 1.0] / scores.cooks_distance.sum())
    assert totals.idxmax() == (2.0, 1.0)
    rows = first.rows.to_pandas()
    inside = (TABLE.c == 2) & (TABLE.d == 1)
    assert sorted(rows.row) == np.flatnonzero(inside).tolist()
    assert (rows.held_out.astype(int).diff().dropna() >= 0).all()  # no held-out sample is the most influential
    assert all((part.cooks_distance.diff().dropna() <= 0).all() for _, part in rows.groupby("held_out"))
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


def test_a_grid_with_points_missing_and_doubled_is_drawn_with_holes():
    """A cell without a point is nobody's, a point that is there twice is two dots; one point on an axis is no axis."""
    seen = RNG.random(len(TABLE)) > 0.15
    table = pd.concat([TABLE[seen], TABLE[seen][:60]], ignore_index=True)
    audit = assay.audit(table, label="y", features=NUMBERS, weight="w")
    cut = audit.cuts(["a", "b"], top=1)[0]
    assert len(cut.rows) == int(((table.c == cut.values["c"]) & (table.d == cut.values["d"])).sum())
    holes = 8 * 6 - len(set(zip(cut.rows["a"].to_pylist(), cut.rows["b"].to_pylist(), strict=True)))
    assert holes > 0
    drawn = np.asarray(plots.cut_map(cut, "given_label", audit.info["classes"]).collections[0].get_array())
    assert int((drawn.reshape(48, 4) == [1.0, 1.0, 1.0, 0.0]).all(1).sum()) == holes
    with pytest.warns(assay.AssayWarning, match="never vary and are left out: d"):
        flat = assay.audit(TABLE[TABLE.d == 1], label="y", features=NUMBERS, weight="w", l2=1e-3)
    assert flat.cuts(["a", "b"], top=1)[0].fixed == {"c": "= 2", "d": "= 1"}
    assert all("d" not in rule.split() for rule in flat.regions().rules["rule"].to_pylist())


def test_too_many_fixed_columns_are_refused_not_overflowed():
    wide = pd.DataFrame(RNG.normal(size=(4000, 30)), columns=[f"f{j}" for j in range(30)])
    audit = assay.audit(wide.assign(y=(wide.f0 > 0).astype(int)), label="y", l2=1e-2)
    with pytest.raises(assay.ShapeError, match=r"fixes 28 columns would hold less than one row; name the few"):
        audit.cuts(["f0", "f1"])
    with pytest.raises(assay.ShapeError, match=r"fixes 4 columns would hold 1\.\d of 4,000 rows in the mean"):
        audit.cuts(["f0", "f1"], ["f2", "f3", "f4", "f5"])
    assert len(audit.cuts(["f0", "f1"], ["f2"], top=3)) == 3


def test_places_and_bounds_are_told_apart():
    """Numbers as alike as 10001 and 10003, and dollars in names."""
    table = pd.DataFrame({"cost ($)": RNG.uniform(0, 1, 900), "x_$": RNG.uniform(0, 1, 900)})
    table["k"] = RNG.choice([10_001.0, 10_003.0, 1_700_000_123.0], 900)
    table["y"] = (table["x_$"] > 0.5).astype(int)
    audit = assay.audit(table, label="y", l2=1e-3)
    cuts = audit.cuts(["cost ($)", "x_$"], top=3)
    assert {cut.fixed["k"] for cut in cuts} >= {"= 1700000123"}
    assert len({cut.title for cut in cuts}) == len(cuts)
    figure = plots.cut_figure(cuts[0], audit.info["classes"])
    figure.draw_without_rendering()
    assert figure.axes[0].get_xlabel() == r"cost (\$)"


def test_the_most_influential_of_several_at_a_point_colours_it():
    flat = TABLE[(TABLE.c == 0) & (TABLE.d == 0)].reset_index(drop=True)
    wrong = flat[(flat.a == 0) & (flat.b == 0)].assign(y="turn")
    audit = assay.audit(pd.concat([flat, wrong], ignore_index=True), label="y", features=["a", "b"], l2=1e-3)
    cut = audit.cuts(["a", "b"], top=1)[0]
    drawn = np.asarray(plots.cut_map(cut, "given_label", audit.info["classes"]).collections[0].get_array())
    assert cut.rows["given_label"][0].as_py() == "turn"
    clear = drawn.reshape(6, 8, 4)[1, 1]  # given as truth has it
    assert not np.array_equal(drawn.reshape(6, 8, 4)[0, 0], clear)


def test_every_class_has_a_colour_of_its_own():
    assert len({plots.cuts.class_color(k) for k in range(24)}) == 24


def test_an_encounter_without_speeds_names_none():
    ax = plots.draw_encounter({"rho": 900.0, "theta": 0.0, "psi": 0.0})
    assert {text.get_text() for text in ax.texts} == {"own ship", "intruder"}


def test_old_pictures_go_when_the_folder_is_written_again(audit, tmp_path):
    assay.write_cuts(audit, tmp_path / "cuts", ["a", "b"], top=4)
    assay.write_cuts(audit, tmp_path / "cuts", ["a", "b"], top=1, format="svg", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "cuts").iterdir()) == ["cut-01.svg", "index.html"]


def test_a_cut_without_samples_is_refused(audit):
    cut = audit.cuts(["a", "b"], top=1)[0]
    empty = replace(cut, rows=cut.rows.slice(0, 0))
    with pytest.raises(assay.ShapeError, match="the cut at c = 2, d = 1 holds no sample"):
        plots.cut_map(empty, "given_label", audit.info["classes"])
