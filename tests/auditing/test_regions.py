"""Regions of an audited table: their numbers are those of the rows they hold, and bad columns are refused."""

import json

import numpy as np
import pandas as pd
import pytest

import assay

RNG = np.random.default_rng(0)
N = 1500
TABLE = pd.DataFrame(RNG.uniform(0, 1, (N, 3)), columns=["a", "b", "c"])
CLASS = (TABLE.a + TABLE.b > 1).to_numpy()
WRONG = (TABLE.c > 0.7).to_numpy() & (RNG.random(N) < 0.35)
TABLE["y"] = np.where(CLASS ^ WRONG, "up", "down")
TABLE["note"] = "text"


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return assay.audit(
        TABLE, label="y", features=["a", "b", "c"], out=tmp_path_factory.mktemp("r") / "a", shard_rows=400
    )


def test_the_numbers_of_a_rule_are_those_of_its_rows(audit):
    found = audit.regions(resamples=3)
    assert found.columns == ("a", "b", "c")
    scores = audit.table.to_pandas()
    for rule, box in zip(found.rules.to_pylist(), found.boxes, strict=True):
        inside = box.contains(TABLE[["a", "b", "c"]].to_numpy())
        rows = scores[inside]
        assert rule["rows"] == inside.sum()
        assert rule["coverage"] == pytest.approx(inside.mean())
        assert rule["influence_share"] == pytest.approx(rows.cooks_distance.sum() / scores.cooks_distance.sum())
        assert rule["lift"] == pytest.approx(rule["influence_share"] / rule["coverage"])
        assert rule["loo_margin"] == pytest.approx(rows.loo_margin.mean())
        assert rule["mislabeled"] == pytest.approx((rows.kind == "mislabeled").mean())
        assert json.loads(rule["classes"]) == rows.given_label.value_counts().to_dict()
        assert 0 <= rule["stability"] <= 1
    first = found.rules.to_pylist()[0]
    assert "c ≥ 0.6" in first["rule"] or "c ≥ 0.7" in first["rule"]
    assert first["lift"] > 2


def test_where_to_sample_next_is_the_box_and_as_many_points(audit):
    found = audit.regions(resamples=0)
    needs = found.needs().to_pylist()
    assert [row["points"] for row in needs] == found.rules["rows"].to_pylist()
    assert [row["c_low"] for row in needs] == [box.low[2] for box in found.boxes]
    assert set(needs[0]) == {"rule", "points", *(f"{name}_{side}" for name in "abc" for side in ("low", "high"))}


def test_clusters_are_of_influential_samples(audit):
    clusters = audit.regions(resamples=0).clusters.to_pylist()
    assert clusters
    top = set(audit.top(20)["id"].to_pylist())
    assert {cluster["representative"] for cluster in clusters} <= top
    assert sum(cluster["rows"] for cluster in clusters) <= 20
    assert all("→" in pair for cluster in clusters for pair in json.loads(cluster["classes"]))


def test_only_some_columns(audit):
    assert audit.regions(["c"], resamples=0).columns == ("c",)
    for columns, message in ((["note"], "'note' is not numeric"), (["z"], "'z' is not there; the numeric columns are")):
        with pytest.raises(assay.ShapeError, match=message):
            audit.regions(columns)


def test_an_embedding_alone_has_no_columns():
    embedded = pd.DataFrame({"e": list(RNG.normal(size=(50, 4))), "y": [0, 1] * 25})
    audit = assay.audit(embedded, embedding="e", label="y", l2=1e-2)
    with pytest.raises(assay.ShapeError, match="no numeric columns beside an embedding"):
        audit.regions()


@pytest.mark.filterwarnings("ignore:.* never vary:assay.AssayWarning")  # units that are never on
def test_a_networks_table_keeps_its_columns(tmp_path):
    import torch

    codes = (TABLE.y == "up").astype(int)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    data = TABLE[["a", "b", "c"]].assign(y=codes)
    for keep in ("memory", "file", "recompute"):
        audit = assay.audit(data, label="y", model=model, l2=1e-3, encoding=assay.Encoding(keep=keep))
        assert audit.regions(resamples=0).columns == ("a", "b", "c")
        again = assay.load(audit.save(tmp_path / keep).path)
        known = audit.regions(resamples=0).rules.drop_columns(["stability"])
        assert again.regions(resamples=0).rules.drop_columns(["stability"]).equals(known)
        again.export(tmp_path / f"{keep}.parquet")
        assert len(pd.read_parquet(tmp_path / f"{keep}.parquet")) == N
        assert again.cuts(["a", "b"], top=2)[0].rows.equals(audit.cuts(["a", "b"], top=2)[0].rows)


def test_held_out_rows_are_marked_and_count_in_no_share(tmp_path):
    """Half the table is held out, with labels so wrong that they would outweigh all others."""
    held = RNG.random(N) < 0.5
    table = TABLE.assign(w=np.where(held, 0.0, 1.0))
    table.loc[held & (TABLE.a < 0.1), "y"] = "up"
    audit = assay.audit(table, label="y", features=["a", "b", "c"], weight="w", out=tmp_path / "a", shard_rows=400)
    assert audit.table["held_out"].to_pylist() == held.tolist()
    assert audit.info["held_out"] == held.sum()
    scores = audit.table.to_pandas()
    assert audit.info["kinds"] == scores.kind[~held].value_counts().to_dict()
    found = audit.regions(resamples=0)
    for rule, box in zip(found.rules.to_pylist(), found.boxes, strict=True):
        inside = box.contains(TABLE[["a", "b", "c"]].to_numpy()) & ~held
        assert rule["rows"] == inside.sum()
        assert rule["influence_share"] == pytest.approx(
            scores.cooks_distance[inside].sum() / scores.cooks_distance[~held].sum()
        )
    assert not any(audit.score(table)["held_out"].to_pylist())  # new samples, whatever their weights were


def test_regions_do_not_depend_on_the_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("assay.auditing.regions.ROWS", 700)
    found = [
        assay.audit(TABLE, label="y", features=["a", "b", "c"], out=tmp_path / str(rows), shard_rows=rows).regions()
        for rows in (400, 333)
    ]
    rules = [regions.rules.select(["rule", "rows", "stability", "density"]) for regions in found]
    assert rules[0].equals(rules[1])
    assert found[0].clusters.select(["rows", "extent"]).equals(found[1].clusters.select(["rows", "extent"]))


def test_columns_that_were_not_audited_are_asked_for_and_must_be_finite():
    table = TABLE.assign(d=np.where(np.arange(N) == 7, np.nan, 1.0 * np.arange(N)), e=np.inf)
    audit = assay.audit(table, label="y", features=["a", "b"])
    assert audit.regions(resamples=0).columns == ("a", "b")
    assert audit.regions(["a", "c"], resamples=0).columns == ("a", "c")
    for look in (
        lambda: audit.regions(["a", "d"]),
        lambda: audit.cuts(["a", "d"]),
        lambda: audit.cuts(["a", "b"], ["d"]),
    ):
        with pytest.raises(assay.SourceError, match=r"row 7.*column 'd' is nan; fill it in"):
            look()
    with pytest.raises(assay.SourceError, match="column 'e' is inf"):
        audit.regions(["e"])
    for none in ([], "abc"):
        with pytest.raises(assay.ShapeError, match="give a list of one or more names"):
            audit.regions(none)


def test_an_index_left_out_of_the_audit_is_no_column_of_regions(tmp_path):
    embedded = pd.DataFrame({"e": list(RNG.normal(size=(90, 4))), "age": np.arange(90.0), "y": [0, 1] * 45})
    embedded[embedded.age >= 5].to_parquet(tmp_path / "a.parquet")
    audit = assay.audit(tmp_path / "a.parquet", embedding="e", label="y", l2=1e-2)
    assert audit.regions(resamples=0).columns == ("age",)


def test_a_table_that_changed_after_its_audit_is_refused(tmp_path):
    TABLE.to_parquet(tmp_path / "a.parquet", index=False)
    assay.audit(tmp_path / "a.parquet", label="y", features=["a", "b", "c"], out=tmp_path / "audit")
    TABLE.sample(frac=1, random_state=0).to_parquet(tmp_path / "a.parquet", index=False)
    again = assay.load(tmp_path / "audit")
    for look in (again.regions, lambda: again.cuts(["a", "b"])):
        with pytest.raises(assay.AssayError, match="changed"):
            look()


def test_columns_called_as_the_audit_calls_its_own():
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    names = {"a": "weight", "b": "id", "c": "label0"}
    data = TABLE[["a", "b", "c"]].rename(columns=names).assign(y=(TABLE.y == "up").astype(int))
    audit = assay.audit(data, label="y", features=list(names.values()), model=model, l2=1e-3)
    assert audit.regions(resamples=0).columns == ("input.weight", "input.id", "input.label0")
    assert audit.table["id"].to_pylist() == list(range(N))
    plain = assay.audit(data.rename(columns={v: k for k, v in names.items()}), label="y", model=model, l2=1e-3)
    assert audit.table["cooks_distance"].to_pylist() == plain.table["cooks_distance"].to_pylist()
    cut = assay.audit(
        TABLE[["a", "b", "c", "y"]].rename(columns={"a": "row", "b": "held_out"}),
        label="y",
        features=["row", "held_out"],
    ).cuts(["row", "held_out"], top=1)[0]
    assert cut.rows.column_names[:2] == ["row", "held_out"]
    assert cut.rows.column(0).to_pylist() == TABLE.a[cut.rows.column(3).to_numpy()].tolist()
