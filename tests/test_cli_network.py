"""`assay audit images/ --model package.module:factory`, and the demos of the toy problems."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import assay
from assay.cli import toys
from assay.datasets.toys import unit_circle
from commands import together
from test_cli import strict_json

NETS = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))

def small():
    def transform(image):
        return torch.tensor(list(image.resize((2, 2)).tobytes())).float().reshape(2, 2, 3).permute(2, 0, 1) / 255
    return build(), transform

def table():
    return nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2))

def nothing():
    return "a model"

number = 7
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Forty pictures of two colours, a module of networks, weights, and a table."""
    path = tmp_path_factory.mktemp("networks")
    (path / "nets.py").write_text(NETS, encoding="utf-8")
    colours = np.random.default_rng(0).integers(0, 200, (40, 3))
    for k, colour in enumerate(colours):
        file = path / "images" / ("red", "blue")[int(colour[2] > colour[0])] / f"{k:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.broadcast_to(colour.astype(np.uint8), (4, 4, 3)).copy()).save(file)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(NETS, names)
    model = names["build"]()  # pyright: ignore[reportCallIssue]
    assert isinstance(model, nn.Module)
    save_file(model.state_dict(), path / "net.safetensors")
    toy = unit_circle(200, seed=0)
    pq.write_table(pa.table({"a": toy.points[:, 0], "b": toy.points[:, 1], "y": toy.labels}), path / "t.parquet")
    return path


def test_a_folder_of_images_is_audited(folder, tmp_path):
    network = ["--model", "nets:build", "--weights", "net.safetensors", "--l2", "1e-3"]
    planned, audited, again, kept, sized, mirrored, both = together(
        folder,
        ["audit", "images", *network, "--dry-run"],
        ["audit", "images", *network, "--out", str(tmp_path / "a")],
        ["audit", "images", *network, "--out", str(tmp_path / "b"), "--keep", "file", "--json"],
        ["audit", "images", *network, "--out", str(tmp_path / "c"), "--no-refit", "--damping", "1e-3"],
        ["audit", "images", "--model", "nets:small", "--l2", "1e-3", "--out", str(tmp_path / "d")],
        ["audit", "images", *network, "--out", str(tmp_path / "e"), "--mirror-only"],
        ["audit", "images", *network, "--out", str(tmp_path / "f"), "--mirror", "--mirror-only"],
    )
    assert [end[0] for end in (planned, audited, again, kept, sized, mirrored)] == [0] * 6, (
        planned,
        audited,
        kept,
        sized,
    )
    assert "40 × 8 columns" in planned[1]
    assert "network   its own head was at a gradient of" in audited[1]
    found = assay.load(tmp_path / "a")
    assert found.info["classes"] == ["blue", "red"]
    assert found.table["id"][0].as_py().startswith("blue/")
    assert strict_json(again[1])["fingerprint"] == found.info["fingerprint"]
    assert assay.load(tmp_path / "b").table.equals(found.table)
    assert assay.load(tmp_path / "c").info["damping"] == 1e-3
    assert assay.load(tmp_path / "e").info["arguments"]["network"]["mirror"] == "only"
    assert both[0] == 2
    assert "give one of them" in both[2]


def test_a_table_goes_through_a_network(folder, tmp_path):
    ((code, out, err),) = together(
        folder, ["audit", "t.parquet", "--label", "y", "--model", "nets:table", "--out", str(tmp_path / "a")]
    )
    assert code == 0, err
    assert "audited   200 samples" in out


def test_a_corrupt_image_is_named_or_skipped(folder, tmp_path):
    images = tmp_path / "images"
    for file in sorted((folder / "images").rglob("*.png")):
        copy = images / file.relative_to(folder / "images")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes() if file.name != "07.png" else file.read_bytes()[:50])
    common = ["audit", str(images), "--model", "nets:build", "--l2", "1e-3", "--out"]
    named, skipped = together(folder, [*common, str(tmp_path / "a")], [*common, str(tmp_path / "b"), "--skip-corrupt"])
    assert named[0] == 1
    assert "07.png cannot be decoded" in named[2]
    assert not (tmp_path / "a").exists()
    assert skipped[0] == 0, skipped[2]
    assert "1 of 40 images cannot be decoded and are left out" in skipped[2]
    assert "audited   39 samples" in skipped[1]


def test_what_is_no_network_is_refused_in_one_line(folder, tmp_path):
    (tmp_path / "harm.pt").write_bytes(b"\x80\x04c__builtin__\neval\n.")
    cases = {
        "nets": (1, "names no factory"),
        "nowhere:build": (1, "nowhere cannot be imported"),
        "nets:absent": (1, "nets has no 'absent'"),
        "nets:number": (1, "is a int; name a function"),
        "nets:nothing": (1, "returned a str; return the model"),
    }
    ends = together(folder, *(["audit", "images", "--model", name, "--out", str(tmp_path / "a")] for name in cases))
    for (code, _, err), (wanted, message) in zip(ends, cases.values(), strict=True):
        assert code == wanted
        assert message in err
        assert err.count("\n") == 1
    weights, alone = together(
        folder,
        ["audit", "images", "--model", "nets:build", "--weights", str(tmp_path / "harm.pt"), "--out", "a"],
        ["audit", "t.parquet", "--label", "y", "--weights", "net.safetensors"],
    )
    assert (weights[0], alone[0]) == (1, 2)
    assert "harm.pt" in weights[2]
    assert "--weights, --layer" in alone[2]


def test_the_toy_demos_write_their_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(toys, "TOYS", replace(toys.TOYS, epochs=300))
    monkeypatch.setattr(toys, "EPOCHS", (20, 400))
    monkeypatch.setattr(toys, "TRACE", replace(toys.TRACE, epochs=400, lr=1e-2, checkpoints=(20, 400)))
    found = toys.toys(tmp_path, 0, None)
    assert len(found) == 4
    assert found["unit circle"]["median distance of the top 5 % over that of all"] < 1 / 3
    told = toys.through_time(tmp_path, 0, None)
    assert told["400"]["rank of the flipped"] == 1
    assert told["20"]["share of the flipped"] < 0.1 < told["400"]["share of the flipped"]
    assert json.loads((tmp_path / "trace.json").read_text(encoding="utf-8")) == told
    assert len(assay.Trace.load(tmp_path / "trace.parquet").steps) == 2
    assert {"toys.png", "toys.json", "trace.png"} <= {path.name for path in tmp_path.iterdir()}
