"""The map of many samples: a picture of their density, whatever order they come in, and a click that finds one."""

import io

import numpy as np
import pytest
from PIL import Image

import assay
from assay.review import plane

N = 900


@pytest.fixture(scope="module")
def by_class(tmp_path_factory):
    """Three far classes, one after the other, as folders of images have them."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], N // 3)
    X = (rng.normal(size=(N, 3)) + 20 * np.eye(3)[y]).astype(np.float32)
    return assay.audit((X, y), l2=1.0, out=tmp_path_factory.mktemp("by class") / "audit", shard_rows=300)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plane, "POINTS", 100)
    monkeypatch.setattr(plane, "KEPT", 600)
    monkeypatch.setattr(plane, "AXES_FROM", 300)
    monkeypatch.setattr(plane, "block_rows", lambda _: 128)


def test_the_density_shows_every_class(by_class):
    found = plane.plane(by_class)
    (x0, x1), (y0, y1) = found["limits"]
    places = np.array(plane.placed(by_class, list(range(N))))
    inside = (places[:, 0] > x0) & (places[:, 0] < x1) & (places[:, 1] > y0) & (places[:, 1] < y1)
    for k in range(3):
        assert inside[by_class.table["given_label"].to_numpy() == k].mean() > 0.9
    with Image.open(io.BytesIO(found["png"])) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (plane.SIDE, plane.SIDE, 4)
    for place in places[[0, N // 2, N - 1]]:  # there is ink near a sample, the top row is the largest y
        column = int((place[0] - x0) / (x1 - x0) * plane.SIDE)
        row = plane.SIDE - 1 - int((place[1] - y0) / (y1 - y0) * plane.SIDE)
        near = pixels[max(row - 20, 0) : row + 20, max(column - 20, 0) : column + 20, 3]
        assert near.max() > 0
    assert len(found["row"]) == 600


def test_a_click_finds_a_sample_that_is_near(by_class):
    places = np.array(plane.placed(by_class, list(range(N))))
    for row in (5, 450, 899):
        at = plane.at(by_class, *places[row])
        assert np.hypot(*(places[at] - places[row])) < 2
    assert plane.placed(by_class, []) == []
