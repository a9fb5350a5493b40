"""`assay demo cifar10` on a small data set of the same form: planted flips come first."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import assay
from assay.cli import cifar


@pytest.fixture
def coloured(tmp_path):
    """300 training images whose class is their colour."""
    rng = np.random.default_rng(0)
    labels = np.arange(320) % 10
    colours = rng.integers(0, 256, (10, 3))
    pixels = colours[labels][:, None, None, :] + rng.normal(0, 25, (320, 32, 32, 3))
    files: list[bytes] = []
    for image in np.clip(pixels, 0, 255).astype(np.uint8):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    index = [*range(300), *range(20)]
    split = ["train"] * 300 + ["test"] * 20
    columns = {"image": files, "label": labels.astype(np.uint8), "split": split, "index": index}
    pq.write_table(pa.table(columns), tmp_path / "cifar10.parquet")
    return tmp_path / "cifar10.parquet"


def test_flipped_labels_stand_first(coloured, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cifar, "IMAGES", 300)
    monkeypatch.setattr(cifar, "EPOCHS", 5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cifar.demo(tmp_path / "out", coloured, 0.05, 0, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["found"]["planted"] == 15
    assert told["found"]["found_in_first"] >= 12
    audit = assay.load(tmp_path / "out" / "audit")
    assert set(audit.info["classes"]) <= {
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    }
    assert audit.source.render([0])[0].png is not None


def test_a_share_that_flips_nothing_and_data_that_are_not_there_are_said(coloured, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "IMAGES", 300)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(assay.ShapeError, match=r"cannot flip 0\.01% of 300 labels"):
        cifar.demo(tmp_path / "out", coloured, 1e-4, 0, as_json=True)
    with pytest.raises(assay.SourceError, match="is not there; give cifar10"):
        cifar.demo(tmp_path / "out", tmp_path / "nowhere", 0.05, 0, as_json=True)
