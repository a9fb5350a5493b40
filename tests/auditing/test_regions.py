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
