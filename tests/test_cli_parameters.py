"""`assay influence DATA --model package.module:factory --params … --inverse …`."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import assay
from assay.cli import app
from assay.datasets.toys import unit_circle

NETS = """
import torch
from torch import nn

def table():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2)).double()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "parameternets.py").write_text(NETS, encoding="utf-8")
    toy = unit_circle(80, seed=0)
    pq.write_table(pa.table({"a": toy.points[:, 0], "b": toy.points[:, 1], "y": toy.labels}), tmp_path / "t.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run(*given: str):
    return CliRunner().invoke(app, ["influence", "t.parquet", "--model", "parameternets:table", "--label", "y", *given])


def test_scores_are_those_of_the_library_with_their_error_beside(folder: Path):
    done = run("--params", "2", "--inverse", "ekfac", "--damping", "0.1", "--l2", "0.01", "--json")
    assert done.exit_code == 0, done.output
    info = json.loads(done.stdout)
    table = pq.read_table(folder / "influence" / "scores.parquet")
    assert table.column_names == ["id", "given_label", "loss", "cooks_distance"] == list(info["units"])
    names: dict[str, object] = {}
    exec(NETS, names)
    net = names["table"]()  # pyright: ignore[reportCallIssue]
    assert isinstance(net, nn.Module)
    source = pq.read_table("t.parquet")
    x = torch.tensor([source["a"].to_pylist(), source["b"].to_pylist()], dtype=torch.float64).T
    y = torch.tensor(source["y"].to_pylist())
    own = assay.Influence(net, "softmax", (x, y), params="2", l2=0.01, inverse=assay.EKFAC(0.1))
    assert table["cooks_distance"].to_pylist() == pytest.approx(own.self_influence().cooks_distance.tolist())
    assert table["loss"].to_pylist() == pytest.approx(own.losses().tolist())
    assert table["given_label"].to_pylist() == source["y"].to_pylist()
    assert own.error is not None
    assert info["error"]["median"] == pytest.approx(own.error.median, rel=1e-3)
    assert info["names"] == ["2.weight", "2.bias"]
    assert info["parameters"] == 14
    assert not (folder / "influence" / "work").exists()


def test_auto_says_what_it_took(folder: Path):
    done = run("--out", "all", "--damping", "0.01", "--l2", "0.01")
    assert done.exit_code == 0, done.output
    assert "scored    80 samples through 32 parameters, Auto: " in done.stdout
    assert "flops" in done.stdout
    assert (folder / "all" / "influence.json").exists()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (("--inverse", "newton"), "--inverse newton is none of auto, dense"),
        (("--params", "layer4"), "params='layer4' matches no parameter"),
        (("--damping", "-1"), "damping=-1.0"),
        (("--out", "parameternets.py"), "holds something else"),
        (("--loss", "hinge"), "loss='hinge' is none of softmax"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(folder: Path, given: tuple[str, ...], match: str):
    done = run(*given)
    assert done.exit_code == 1
    assert match in done.stderr


def test_finished_scores_are_not_overwritten_unasked(folder: Path):
    given = ("--params", "2", "--inverse", "dense", "--damping", "0.1")
    assert run(*given).exit_code == 0
    again = run(*given)
    assert again.exit_code == 1
    assert "holds finished scores" in again.stderr
    assert run(*given, "--overwrite").exit_code == 0


def test_audit_with_params_is_the_same(folder: Path):
    options = ["--model", "parameternets:table", "--label", "y", "--params", "2", "--inverse", "ekfac", "--l2", "0.01"]
    audited = CliRunner().invoke(app, ["audit", "t.parquet", *options, "--damping", "0.1", "--out", "audited"])
    assert audited.exit_code == 0, audited.output
    assert run("--params", "2", "--inverse", "ekfac", "--l2", "0.01", "--damping", "0.1").exit_code == 0
    own, other = (pq.read_table(folder / name / "scores.parquet") for name in ("audited", "influence"))
    assert own.equals(other)
    refused = CliRunner().invoke(app, ["audit", "t.parquet", "--label", "y", "--params", "2"])
    assert refused.exit_code == 2
    assert "go with --model" in refused.output
