"""Samples for people."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from samples import FRAME, WORDS, D, N, X

from assay.sources import open_source


def test_images_render_as_thumbnails_on_the_scale_of_the_source():
    pixels = np.zeros((3, 2, 4), np.uint8)
    pixels[1, 0, 0], pixels[2, 1, 3] = 255, 51
    source = open_source((pixels, [0, 1, 1]))
    assert source.image_shape == (2, 4)
    image = np.asarray(Image.open(BytesIO(source.render([2])[0].png)))
    assert image.shape == (2, 4)
    assert image[1, 3] == 51
    assert open_source((np.zeros((3, 2, 4, 3)), [0, 1, 1])).render([0])[0].png.startswith(b"\x89PNG")


def test_a_table_renders_its_fields():
    table = pa.table({**FRAME, "note": [f"row {i}" for i in range(N)], "e": list(X)})
    shown = open_source(table, features="f*", image_shape=(2, 2)).render([3])[0]
    assert shown.png is not None
    assert shown.fields == {"label": WORDS[3], "note": "row 3"}
    shown = open_source(table, features="f0").render([3])[0]
    assert shown.png is None
    assert shown.fields == {**{f"f{j}": float(X[3, j]) for j in range(D)}, "label": WORDS[3], "note": "row 3"}


@pytest.mark.parametrize("kept", ["npz", "parquet", "pictures", "memory"])
def test_pictures_of_any_rows_are_those_that_render_gives(kept: str, tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 4), np.uint8)
    labels = np.arange(40) % 2
    pngs = open_source((pixels, labels)).pictures_of(range(40))
    if kept == "npz":
        np.savez(tmp_path / "a.npz", X=pixels, y=labels)
        source = open_source(tmp_path / "a.npz")
    elif kept == "memory":
        source = open_source((pixels, labels))
    else:
        columns = {"image": pngs, "f0": labels * 1.0, "e": list(pixels.reshape(40, 12) * 1.0)}
        pq.write_table(pa.table({**columns, "label": labels}), tmp_path / "a.parquet", row_group_size=7)
        source = open_source(tmp_path / "a.parquet", embedding="e", image_shape=(3, 4))
        if kept == "pictures":
            source = replace(source, image_shape=None, picture="image")
    rows = [31, 0, 39, 7, 31, 6]
    assert None not in source.pictures_of(rows)
    together, alone = source.render(rows), [source.render([row])[0] for row in rows]
    assert together == alone
    assert source.pictures_of(rows) == [one.png for one in together]
    assert source.render([]) == []
    assert list(source.pictures(5, 9)) == source.pictures_of(range(5, 9))
