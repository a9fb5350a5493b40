"""The collision-avoidance tables: published networks meet their test vector, and a table is read in any range alike."""

import copy
import json
import os
import shlex
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import assay
import assay.cli.acas as command
from assay.datasets import acas
from assay.datasets.acas import ACAS_RHO, FINE_RHO, Labeller, acasxu_encounters, hcas_encounters, write_table
from assay.datasets.acasxu import TAUS as ACAS_TAUS
from assay.datasets.acasxu import AcasNetworks, Layers, read_networks
from assay.datasets.encounters import COLUMNS, Encounters, Grid, stored_labels
from assay.datasets.hcas import ADVISORIES, HCAS, TAUS, policy
from assay.features.keep import Encoding
from assay.models.surrogate import surrogate

PLACES = [Path(os.environ["ASSAY_DATA"])] if "ASSAY_DATA" in os.environ else []
PLACES.append(Path(__file__).parent.parent.parent / "shared" / "data")
PUBLISHED = next((place / "acasxu" for place in PLACES if (place / "acasxu").is_dir()), None)
published = pytest.mark.skipif(
    PUBLISHED is None, reason="the published networks are neither in ASSAY_DATA nor in ../shared/data"
)

RHO = (0.0, 300.0, 600.0, 1500.0, 4000.0)
HELD_OUT = ([3, 10, 18, 21, 33, 41, 48, 49], [7, 14, 16, 19, 20, 25, 33, 38])  # first of seeds 0 and 1, ever since


@pytest.fixture(scope="module")
def networks() -> AcasNetworks:
    assert PUBLISHED is not None
    return read_networks(PUBLISHED)


def invented(previous: str = "COC", taus: tuple[int, ...] = ACAS_TAUS, **more: Any) -> AcasNetworks:
    """Networks of one layer, for ranges as the published ones have."""
    rng = np.random.default_rng(0)
    layers = {t: Layers((rng.normal(size=(5, 5)).astype(np.float32),), (np.zeros(5, np.float32),)) for t in taus}
    low, high = np.array([0.0, -3.2, -3.2, 100.0, 0.0]), np.array([60760.0, 3.2, 3.2, 1200.0, 1200.0])
    arrays = {"low": low, "high": high, "mean": (low + high) / 2, "range": high - low, **more}
    return AcasNetworks(layers, **{"out_mean": 0.0, "out_range": 1.0, **arrays}, previous=previous)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Encounters:
    """A notional table of 8 × 2 × 5 × 9 × 9 points, a fifth held out."""
    return hcas_encounters(
        tmp_path_factory.mktemp("labels"), pairs=((200.0, 200.0), (600.0, 200.0)), rho=RHO, steps=9, held_out=0.2
    )


@published
def test_the_test_vector_is_met(networks):
    scores = networks.scores([[15299, 0, -3.1, 600, 500]], 0)
    np.testing.assert_allclose(scores[0], [14.87572, 12.19844, 27.18483, 5.43263, 27.24210], atol=1e-4)
    assert ADVISORIES[networks.advisory([[15299, 0, -3.1, 600, 500]], 0)[0]] == "SL"


@published
def test_inputs_beyond_the_range_are_clipped(networks):
    inside, outside = [[60760.0, 0.0, 0.0, 1200.0, 0.0]], [[90000.0, 0.0, 0.0, 2000.0, -50.0]]
    np.testing.assert_allclose(networks.scores(inside, 5), networks.scores(outside, 5))


@published
def test_properties_of_the_verification_literature(networks):
    """Katz et al. 2017, on samples: φ1 (COC's score is bounded far away), φ3 and φ4 (COC is not best, head-on).

    φ2 is of other previous advisories than COC.
    """
    rng = np.random.default_rng(0)

    def states(*ranges: tuple[float, float]) -> np.ndarray:
        return np.stack([rng.uniform(a, b, 20_000) for a, b in ranges], 1)

    far = states((55947.691, 60760), (-np.pi, np.pi), (-np.pi, np.pi), (1145, 1200), (0, 60))
    assert all(networks.scores(far, tau)[:, 0].max() <= 1500 for tau in networks.layers)
    towards = states((1500, 1800), (-0.06, 0.06), (3.10, 3.141592), (980, 1200), (960, 1200))
    away = states((1500, 1800), (-0.06, 0.06), (0, 0), (1000, 1200), (700, 800))
    for tau in (0, 1, 5, 10, 20, 40):  # φ3 and φ4 leave out the networks of τ = 60 s and more
        assert (networks.advisory(towards, tau) != 0).all()
        assert (networks.advisory(away, tau) != 0).all()


@published
def test_text_and_archive_are_the_same_networks(networks, tmp_path):
    for k, (_, layers) in enumerate(networks.layers.items(), 1):
        write_nnet(tmp_path / f"ACASXU_run2a_1_{k}_batch_2000.nnet", layers, networks)
    again = read_networks(tmp_path)
    x = np.random.default_rng(0).uniform(networks.low, networks.high, (50, 5))
    for tau in networks.layers:
        np.testing.assert_allclose(again.scores(x, tau), networks.scores(x, tau), atol=1e-3)
    (tmp_path / "ACASXU_run2a_1_4_batch_2000.nnet").unlink()
    with pytest.raises(assay.SourceError, match="no network for τ = 10 s; all nine are needed"):
        read_networks(tmp_path)


def written(folder: Path, networks: AcasNetworks, firsts: str) -> Path:
    """The `.nnet` files, whose names say these previous advisories."""
    folder.mkdir(exist_ok=True)
    for k, (first, layers) in enumerate(zip(firsts, networks.layers.values(), strict=True), 1):
        write_nnet(folder / f"ACASXU_run2a_{first}_{k}_batch_2000.nnet", layers, networks)
    return folder


@pytest.mark.parametrize(("number", "advisory"), [*enumerate(ADVISORIES, 1)])
def test_networks_say_for_which_previous_advisory_they_are(tmp_path, number, advisory):
    networks = read_networks(written(tmp_path, invented(), str(number) * 9))
    assert networks.previous == advisory
    table = acasxu_encounters(networks, rho=ACAS_RHO[:2], steps=3, own=(200.0,), intruder=(200.0,))
    assert table.previous == advisory
    assert table.render([0])[0].fields["previous"] == advisory
    np.savez(tmp_path / "nets.npz", **{**good(), "a_prev": np.full(9, number, np.int8)})
    assert read_networks(tmp_path / "nets.npz").previous == advisory


def test_networks_for_several_previous_advisories_are_refused(tmp_path):
    for name, firsts, told in (("a", "123451234", "1, 2, 3, 4, 5"), ("b", "111111112", "1, 2"), ("c", "6" * 9, "6")):
        with pytest.raises(assay.SourceError, match=f"previous advisories {told}; give those of one"):
            read_networks(written(tmp_path / name, invented(), firsts))
    for a_prev in ([1] * 8 + [3], [0] * 9, [6] * 9):
        np.savez(tmp_path / "nets.npz", **{**good(), "a_prev": np.array(a_prev)})
        with pytest.raises(assay.SourceError, match=r"nets\.npz: the networks are for the previous advisories"):
            read_networks(tmp_path / "nets.npz")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (lambda text: text.replace("0.5,", "nan,"), "W0 has values that are not finite"),
        (lambda text: swap_line(text, 5, "1,2,3,4,5,"), "there are 5 means, expected 6"),
        (lambda text: swap_line(text, 3, "1,2,3,"), "there are 3 minima, expected 5"),
        (lambda text: swap_line(text, 1, "inf,5,"), "cannot be read"),
        (lambda text: text[:-20], "cannot be read"),
    ],
)
def test_text_that_is_no_network_is_refused_by_name(tmp_path, line, told):
    layers = Layers((np.full((5, 5), 0.5, np.float32),), (np.ones(5, np.float32),))
    written(tmp_path, replace(invented(), layers=dict.fromkeys(ACAS_TAUS, layers)), "1" * 9)
    for path in tmp_path.iterdir():
        path.write_text(line(path.read_text(encoding="ascii")), encoding="ascii")
    with pytest.raises(assay.SourceError, match=rf"ACASXU_run2a_1_\d_batch_2000\.nnet.*{told}"):
        read_networks(tmp_path)


def swap_line(text: str, k: int, other: str) -> str:
    """The k-th line after the comment, counted from 0, replaced."""
    lines = text.splitlines()
    return "\n".join([*lines[: k + 1], other, *lines[k + 2 :]])


def write_nnet(path: Path, layers: Layers, networks: AcasNetworks) -> None:
    sizes = [layers.weights[0].shape[1], *(len(b) for b in layers.biases)]
    lines = ["// a comment", f"{len(layers.weights)},5,5,50,", ",".join(map(str, sizes)) + ",", "0,"]
    means, ranges = [*networks.mean, networks.out_mean], [*networks.range, networks.out_range]
    lines += [",".join(f"{v:.9g}" for v in row) + "," for row in (networks.low, networks.high, means, ranges)]
    for W, b in zip(layers.weights, layers.biases, strict=True):
        lines += [",".join(f"{v:.9g}" for v in row) + "," for row in W] + [f"{v:.9g}," for v in b]
    path.write_text("\n".join(lines), encoding="ascii")


@published
def test_the_published_grid_has_the_shares_that_are_known(networks):
    """COC 80.6 %, WL 5.0 %, WR 5.2 %, SL 4.8 %, SR 4.5 % of 51.9 million points; here of a sample of them."""
    table = acasxu_encounters(networks)
    assert len(table) == 51_922_728
    rows = np.sort(np.random.default_rng(0).choice(len(table), 60_000, replace=False))
    points = table.grid.points(rows)
    codes = np.empty(len(rows), int)
    for tau in np.unique(points[:, 5]):
        here = points[:, 5] == tau
        codes[here] = networks.advisory(points[here, :5], int(tau))
    shares = np.bincount(codes, minlength=5) / len(codes)
    np.testing.assert_allclose(shares, [0.806, 0.050, 0.052, 0.048, 0.045], atol=0.006)


def test_the_fine_grid_has_ninety_three_million_points():
    assert len(FINE_RHO) == 40
    assert set(ACAS_RHO) <= set(FINE_RHO)
    assert len(acasxu_encounters(invented(), rho=FINE_RHO)) == 94_404_960


def good() -> dict[str, np.ndarray]:
    """The arrays of an NPZ of nine networks."""
    sizes = [5, 6, 6, 6, 6, 6, 6, 5]
    arrays: dict[str, np.ndarray] = {f"W{k}": np.ones((9, sizes[k + 1], sizes[k]), np.float32) for k in range(7)}
    arrays |= {f"b{k}": np.ones((9, sizes[k + 1]), np.float32) for k in range(7)}
    arrays |= {f"in_{name}": np.arange(1.0, 6.0) for name in ("min", "max", "mean", "range")}
    arrays |= {"in_min": np.array([0.0, -4, -4, 100, 0]), "in_max": np.array([60760.0, 4, 4, 1200, 1200])}
    arrays |= {"out_mean": np.array(0.0), "out_range": np.array(1.0), "notice": np.array("theirs")}
    return arrays | {"tau_s": np.array(ACAS_TAUS, np.int16), "a_prev": np.ones(9, np.int8)}


def poked(values: np.ndarray, value: float) -> np.ndarray:
    """With one value replaced."""
    return np.concatenate([[value], np.ravel(values)[1:]]).reshape(values.shape)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "W3"}, "has no array 'W3'"),
        (lambda a: {k: v for k, v in a.items() if k != "a_prev"}, "has no array 'a_prev'"),
        (lambda a: {**a, "tau_s": a["tau_s"][:8]}, "tau_s has shape .8,., expected .9,.; there must be nine"),
        (lambda a: {**a, "tau_s": a["tau_s"] + 1}, "tau_s is .*; there must be nine"),
        (lambda a: {**a, "W2": a["W2"][:, :, :4]}, "W2 has shape .6, 4. .* make no network"),
        (lambda a: {**a, "b0": a["b0"][:, :4]}, "b0 .4,., .* make no network"),
        (lambda a: {**a, "b0": a["b0"][:8]}, "b0 has shape .8, 6., expected .9, any."),
        (lambda a: {**a, "W0": np.array(1.0)}, "W0 has shape .., expected .9, any, any."),
        (lambda a: {**a, "in_mean": a["in_mean"][:4]}, "in_mean has shape .4,., expected .5,."),
        (lambda a: {**a, "out_mean": np.zeros(2)}, "out_mean has shape .2,., expected .."),
        (lambda a: {**a, "W3": poked(a["W3"], np.nan)}, "W3 has values that are not finite"),
        (lambda a: {**a, "b6": poked(a["b6"], np.inf)}, "b6 has values that are not finite"),
        (lambda a: {**a, "W1": poked(a["W1"].astype(float), 1e300)}, "W1 has values that are not finite"),
        (lambda a: {**a, "in_range": a["in_range"] * 0}, "range = .0.0, .*larger than zero"),
        (lambda a: {**a, "in_range": poked(a["in_range"], -1)}, "range = .-1.0, .*larger than zero"),
        (lambda a: {**a, "out_range": np.array(0.0)}, "out_range = 0.0; .*larger than zero"),
        (lambda a: {**a, "in_mean": poked(a["in_mean"], np.nan)}, "mean = .nan, .*all are finite"),
        (lambda a: {**a, "in_min": a["in_max"], "in_max": a["in_min"]}, "low = .* is not below high"),
    ],
)
def test_networks_that_are_none_are_refused(tmp_path, break_it, message):
    arrays = good()
    np.savez(tmp_path / "good.npz", **arrays)
    assert read_networks(tmp_path / "good.npz").scores(np.ones((2, 5)), 5).shape == (2, 5)
    np.savez(tmp_path / "bad.npz", **break_it(arrays))
    with pytest.raises(assay.SourceError, match=rf"bad\.npz.* {message}"):
        read_networks(tmp_path / "bad.npz")


def test_an_archive_cut_short_or_damaged_is_refused(tmp_path):
    path = tmp_path / "nets.npz"
    np.savez_compressed(path, **good())
    whole = path.read_bytes()
    turned = bytearray(whole)
    at = whole.index(b"W3.npy") + 40
    turned[at : at + 20] = bytes(255 - value for value in turned[at : at + 20])
    for torn, told in ((whole[: len(whole) // 2], "the archive"), (b"", "the archive"), (bytes(turned), "W3")):
        path.write_bytes(torn)
        with pytest.raises(assay.SourceError, match=rf"nets\.npz cannot be read, {told} is damaged"):
            read_networks(path)
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(path)
    with pytest.raises(assay.SourceError, match=r"nets\.npz cannot be read"):
        read_networks(path)


def test_other_files_and_states_are_refused(tmp_path):
    (tmp_path / "torn.nnet").write_text("// nothing\n1,2\n", encoding="ascii")
    for path, message in (
        (tmp_path / "nowhere.npz", "there is no file"),
        (tmp_path / "torn.nnet", "does not say which τ"),
    ):
        with pytest.raises(assay.SourceError, match=message):
            read_networks(path)
    layers = Layers((np.ones((5, 5), np.float32),), (np.ones(5, np.float32),))
    one = AcasNetworks({0: layers}, *(np.ones(5),) * 4, 0.0, 1.0)
    with pytest.raises(assay.ShapeError, match=r"states\[1\] has theta = nan; give finite values"):
        one.advisory([[1, 1, 1, 1, 1], [1, np.nan, 1, 1, 1]], 0)
    with pytest.raises(assay.ShapeError, match=r"states\[0\] has rho = inf"):
        one.scores([[np.inf, 1, 1, 1, 1]], 0)
    with pytest.raises(assay.ShapeError, match="tau=7 s has no network"):
        one.scores(np.ones((1, 5)), 7)
    with pytest.raises(assay.ShapeError, match=r"give \[n, 5\]"):
        one.scores(np.ones((1, 6)), 0)


def test_a_table_is_the_policy_of_its_process(small):
    batch = next(small.batches(len(small)))
    Q = HCAS(600.0, 200.0, RHO, 9).solve()
    rows = np.flatnonzero((batch.x[:, 3] == 600) & (batch.x[:, 5] == 20))
    assert batch.y[rows].tolist() == policy(Q[20][:, 0]).tolist()
    assert small.vocabulary == ADVISORIES
    assert len(small) == len(TAUS) * 2 * 5 * 81


def test_a_table_after_another_advisory(small, tmp_path):
    after = hcas_encounters(tmp_path, pairs=((600.0, 200.0),), rho=RHO, steps=9, previous="SL")
    Q = HCAS(600.0, 200.0, RHO, 9).solve()
    batch = next(after.batches(len(after)))
    assert batch.y[batch.x[:, 5] == 20].tolist() == policy(Q[20][:, ADVISORIES.index("SL")]).tolist()
    assert not np.array_equal(policy(Q[20][:, 3]), policy(Q[20][:, 0]))
    write_table(after, tmp_path / "written")
    assert set(pq.read_table(tmp_path / "written")["previous"].to_pylist()) == {"SL"}
    assert after.render([3])[0].fields["previous"] == "SL"
    plain = hcas_encounters(tmp_path, pairs=((600.0, 200.0),), rho=RHO, steps=9)
    assert plain.fingerprint() != after.fingerprint()
    assert plain.label(0, len(plain)).tolist() != after.label(0, len(after)).tolist()  # labels kept apart
    with pytest.raises(assay.ShapeError, match="previous='LEFT' is none of COC, WL"):
        hcas_encounters(tmp_path, previous="LEFT")


@pytest.mark.parametrize("size", [1, 100, 7000])
def test_rows_are_the_same_in_any_batches_and_one_by_one(small, size):
    whole = next(small.batches(len(small)))
    stop = 6480 if size > 1 else 50
    parts = list(small.batches(size, start=3, stop=stop))
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x[3:stop])
    assert torch.equal(torch.cat([part.y for part in parts]), whole.y[3:stop])
    assert torch.equal(torch.cat([part.w for part in parts]), whole.w[3:stop])
    asked = [77, 5, 6000, 5, 1234]
    taken = small.take(asked)
    assert torch.equal(taken.x, whole.x[asked])
    assert taken.y.tolist() == whole.y[asked].tolist()
    assert taken.ids.to_pylist() == asked


def test_held_out_rows_are_drawn_by_their_number_and_the_seed(small):
    w = next(small.batches(len(small))).w
    assert 0.18 < float((w == 0).double().mean()) < 0.22
    other = Encounters(small.grid, small.label, small.name, 0.2, seed=1)
    assert not torch.equal(w, next(other.batches(len(small))).w)
    assert other.fingerprint() != small.fingerprint()
    assert Encounters(small.grid, small.label, small.name, 0.2).fingerprint() == small.fingerprint()


def test_what_is_held_out_for_any_seed(small):
    """The masks of seeds 0 and 1 are those they always were; no seed overflows (warnings are errors here)."""
    masks: dict[int, bytes] = {}
    for seed in (0, 1, 2, 3, 12_345, 2**63, 2**64 - 1, 2**64 + 7):
        rows = np.arange(len(small))
        w = Encounters(small.grid, small.label, small.name, 0.2, seed).weights(rows)
        assert 0.16 < (w == 0).mean() < 0.24
        masks[seed] = w.tobytes()
        mask = 2**64 - 1
        for row in (0, 1, 777):  # splitmix64 in Python's integers
            z = (row + (seed + 1) * 0x9E3779B97F4A7C15) & mask
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            assert w[row] == ((z ^ (z >> 31)) / 2**64 >= 0.2)
    assert len(set(masks.values())) == 8
    assert np.flatnonzero(np.frombuffer(masks[0]) == 0)[:8].tolist() == HELD_OUT[0]
    assert np.flatnonzero(np.frombuffer(masks[1]) == 0)[:8].tolist() == HELD_OUT[1]
    for wrong in ({"seed": -1}, {"held_out": 1.0}, {"held_out": -0.1}, {"held_out": float("nan")}):
        with pytest.raises(assay.ShapeError, match="a seed is 0 or more, a share in"):
            replace(small, **wrong)


def test_the_fingerprint_sees_every_label(small, tmp_path):
    codes = small.label(0, len(small))
    once, again, other = (tmp_path / name for name in ("once", "again", "other"))
    codes.astype(np.uint8).tofile(once)
    codes.astype(np.uint8).tofile(again)
    codes[3001] = (codes[3001] + 1) % 5
    codes.astype(np.uint8).tofile(other)
    found = [replace(small, label=stored_labels(path, len(small))).fingerprint() for path in (once, again, other)]
    assert found[0] == found[1] == small.fingerprint() != found[2]
    changing = replace(small, label=stored_labels(once, len(small)))
    codes.astype(np.uint8).tofile(once)
    assert changing.fingerprint() == found[2]
    plain = replace(small, label=lambda start, stop: codes[start:stop])
    assert plain.fingerprint() == found[2], "a callable without a digest is read to the end"


def test_the_fingerprint_sees_every_weight_of_the_networks():
    def of(networks: AcasNetworks) -> str:
        return acasxu_encounters(networks, rho=ACAS_RHO[:2], steps=3, own=(200.0,), intruder=(200.0,)).fingerprint()

    one = invented()
    bias = one.layers[80].biases[0].copy()
    bias[2] += 1e-6
    other = replace(one, layers={**one.layers, 80: Layers(one.layers[80].weights, (bias,))})
    assert of(one) == of(invented())
    assert len({of(one), of(other), of(replace(one, mean=one.mean + 1e-9)), of(invented("SL"))}) == 4
    grid = Grid((1.0,), (0.0,), (0.0,), ((200.0, 200.0),), (0,))
    assert Labeller(one, grid).digest != Labeller(one, replace(grid, rho=(2.0,))).digest


def test_label_files_of_another_length_are_refused(tmp_path):
    np.zeros(99, np.uint8).tofile(tmp_path / "short.labels")
    with pytest.raises(assay.SourceError, match=r"short\.labels holds 99 labels, a byte each, but the grid has 100"):
        stored_labels(tmp_path / "short.labels", 100)
    with pytest.raises(assay.SourceError, match="is not there, but the grid has 100 points"):
        stored_labels(tmp_path / "none.labels", 100)


def test_label_files_are_named_by_all_they_are_made_of(tmp_path):
    """Another axis, speed, angle or advisory is another file; any number of pairs has a name that fits."""
    one: dict[str, Any] = {"pairs": ((200.0, 200.0),), "rho": (0.0, 500.0), "steps": 3}
    many = tuple((100.0 + a, 100.0 + b) for a in range(5) for b in range(6))
    others = (
        {"pairs": ((200.00001, 200.0),)}, {"pairs": ((1000000.0, 200.0),)}, {"pairs": ((1000001.0, 200.0),)},
        {"rho": (0.0, 500.0, 600.0)}, {"rho": (0.0, 501.0)}, {"steps": 5}, {"previous": "WL"}, {"pairs": many},
    )  # fmt: skip
    for change in ({}, *others):
        hcas_encounters(tmp_path, **{**one, **change})
    files = list(tmp_path.iterdir())
    assert len(files) == 1 + len(others)
    assert max(len(file.name) for file in files) < 60
    before = {file: file.stat().st_mtime_ns for file in files}
    hcas_encounters(tmp_path, **one)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before
    path = next(tmp_path.glob("hcas-WL-*"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(assay.SourceError, match="remove it and make the table again"):
        hcas_encounters(tmp_path, **one, previous="WL")


def test_neighbours_are_one_step_away_and_angles_close():
    grid = Grid((0.0, 1.0, 2.0), (-1.0, 0.0, 1.0), (-1.0, 0.0, 1.0), ((1.0, 1.0),), (0, 5))
    first = {tuple(row) for row in grid.points(np.array(grid.neighbours(0))).tolist()}
    assert first == {
        (1.0, -1.0, -1.0, 1.0, 1.0, 0.0),
        (0.0, 0.0, -1.0, 1.0, 1.0, 0.0),
        (0.0, -1.0, 0.0, 1.0, 1.0, 0.0),
        (0.0, -1.0, -1.0, 1.0, 1.0, 5.0),
    }  # fmt: skip  the other way round an angle is the same neighbour, of three values with the ends one


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid((), (0.0,), (0.0,), ((1.0, 1.0),), (0,)), "rho has 0 values"),
        (lambda: Grid((0.0,), (1.0, 0.0), (0.0,), ((1.0, 1.0),), (0,)), "theta has 2 values"),
        (lambda: Grid((0.0,), (0.0,), (0.0,), (), (0,)), "0 pairs of speeds"),
        (lambda: Grid((0.0,), (0.0,), (0.0,), ((1.0, 1.0),) * 2, (0,)), "2 pairs of speeds"),
        (lambda: Grid((float("nan"),), (0.0,), (0.0,), ((1.0, 1.0),), (0,)), "rho has 1 values; .* finite"),
        (lambda: Grid((0.0,), (0.0,), (0.0,), ((1.0, float("inf")),), (0,)), "1 pairs of speeds; .* finite"),
    ],
)
def test_grids_that_are_none_are_refused(make, message):
    with pytest.raises(assay.ShapeError, match=message):
        make()


def test_a_grid_of_one_point_an_axis():
    grid = Grid((499.0,), (0.0,), (1.0,), ((200.0, 300.0),), (5,))
    assert len(grid) == 1
    assert grid.neighbours(0) == []
    table = Encounters(grid, lambda start, stop: np.full(stop - start, 3), "one")
    batch = next(table.batches(10))
    assert batch.x.tolist() == [[499.0, 0.0, 1.0, 200.0, 300.0, 5.0]]
    assert batch.y.tolist() == [3]
    assert table.render([0])[0].fields["advisory"] == "SL"


def test_tau_and_speeds_outside_the_networks_are_refused():
    few = invented(taus=(0, 1, 5))
    with pytest.raises(assay.ShapeError, match=r"the grid has tau=10 s, which has no network; .* each of 0, 1, 5"):
        acasxu_encounters(few)
    grid = Grid((499.0,), (0.0,), (1.0,), ((200.0, 300.0),), (0, 7))
    with pytest.raises(assay.ShapeError, match="the grid has tau=7 s"):
        Labeller(few, grid)
    with pytest.raises(assay.ShapeError, match="own=50 ft/s, but the networks are for 100 to 1200 ft/s"):
        acasxu_encounters(invented(), own=(200.0, 50.0))
    with pytest.raises(assay.ShapeError, match="intruder=1300 ft/s"):
        acasxu_encounters(invented(), intruder=(1300.0,))


def test_a_table_is_written_and_goes_on_where_it_stopped(small, tmp_path):
    files = write_table(small, tmp_path, shard=3000)
    assert len(files) == 3
    table = pq.read_table(tmp_path)
    whole = next(small.batches(len(small)))
    assert table.column_names == [*COLUMNS, "previous", "advisory", "weight"]
    assert table["advisory"].to_pylist() == [ADVISORIES[k] for k in whole.y.tolist()]
    assert set(table["previous"].to_pylist()) == {"COC"}
    before = [file.stat().st_mtime_ns for file in files]
    files[1].unlink()
    write_table(small, tmp_path, shard=3000)
    assert [file.stat().st_mtime_ns for file in (files[0], files[2])] == [before[0], before[2]]
    assert pq.read_table(tmp_path).equals(table)


def test_a_folder_of_another_table_is_refused(small, tmp_path):
    write_table(small, tmp_path, shard=3000)
    before = contents(tmp_path)
    others = (
        replace(small, seed=1), replace(small, held_out=0.0), replace(small, previous="WL"),
        replace(small, grid=replace(small.grid, rho=(0.0, 300.0, 600.0, 1500.0, 4001.0))),
        replace(small, label=lambda start, stop: np.zeros(stop - start, np.int64)),
    )  # fmt: skip
    for other in others:
        with pytest.raises(
            assay.OutputError, match=r"holds another table \(HCAS .*: rows 6480, previous COC, held_out"
        ):
            write_table(other, tmp_path, shard=3000)
    with pytest.raises(assay.OutputError, match=r"shard 3000\); name another folder, or remove it"):
        write_table(small, tmp_path, shard=5000)
    assert contents(tmp_path) == before
    (tmp_path / acas.MANIFEST).write_text("torn", encoding="utf-8")
    with pytest.raises(assay.OutputError, match="holds another table; name another folder"):
        write_table(small, tmp_path, shard=3000)
    (tmp_path / acas.MANIFEST).unlink()
    with pytest.raises(assay.OutputError, match="holds Parquet files of something else"):
        write_table(small, tmp_path, shard=3000)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore:.* never vary:assay.AssayWarning")  # the intruder's one speed
def test_the_command_writes_a_folder_that_others_read(tmp_path, monkeypatch):
    import pandas as pd

    monkeypatch.setattr(acas, "hcas_encounters", partial(hcas_encounters, rho=RHO, steps=5))
    out = tmp_path / "a table"
    options = ["acas", "table", "--out", str(out), "--own", "200,600", "--intruder", "300", "--held-out", "0.2"]
    done = CliRunner().invoke(command.app, options)
    assert done.exit_code == 0, done.output
    rows = len(TAUS) * 2 * len(RHO) * 25
    assert pq.read_table(out).num_rows == len(pd.read_parquet(out)) == rows
    assert (out / "_labels").is_dir()
    table = pq.read_table(out)
    assert set(zip(table["v_own"].to_pylist(), table["v_int"].to_pylist(), strict=True)) == {(200, 300), (600, 300)}
    line = next(line for line in done.output.splitlines() if line.startswith("next"))
    said = shlex.split(line.removeprefix("next"))
    assert said[:3] == ["assay", "audit", str(out)]
    audit = CliRunner().invoke(command.app, [*said[1:], "--out", str(tmp_path / "audit"), "--json", "--l2", "1e-2"])
    assert audit.exit_code == 0, audit.output
    info = json.loads((tmp_path / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert info["columns"] == list(COLUMNS)
    assert info["total_weight"] == sum(table["weight"].to_pylist())
    for wrong, message in (("200,x", "give speeds in ft/s by commas"), ("", "give speeds"), ("nan", "give speeds")):
        refused = CliRunner().invoke(command.app, ["acas", "table", "--out", str(tmp_path / "no"), "--own", wrong])
        assert refused.exit_code == 2
        assert message in refused.output
    again = CliRunner().invoke(command.app, [*options, "--seed", "1"])
    assert again.exit_code == 1
    assert "holds another table" in again.output


def test_the_command_takes_the_networks_previous_advisory(tmp_path):
    written(tmp_path / "nets", invented(), "4" * 9)
    options = ["acas", "table", "--kind", "acasxu", "--nets", str(tmp_path / "nets"), "--own", "200", "--intruder", "0"]
    refused = CliRunner().invoke(command.app, [*options, "--out", str(tmp_path / "no"), "--previous", "WL"])
    assert refused.exit_code == 2
    assert "those for SL" in refused.output
    done = CliRunner().invoke(command.app, [*options, "--out", str(tmp_path / "yes")])
    assert done.exit_code == 0, done.output
    assert set(pq.read_table(tmp_path / "yes", columns=["previous"])["previous"].unique().to_pylist()) == {"SL"}


def test_the_demo_trains_each_table_and_seed_in_a_place_of_its_own(tmp_path):
    """Another seed or table trains anew in the same folder; the same ones are found again."""
    tiny = hcas_encounters(tmp_path, pairs=((200.0, 200.0), (600.0, 300.0)), rho=RHO, steps=5, held_out=0.2)
    shifted = replace(tiny, label=lambda a, b: (tiny.label(a, b) + 1) % 5)
    found: list[str] = []
    for table, seed in ((tiny, 0), (replace(tiny, seed=1), 1), (shifted, 0), (tiny, 0)):
        batch = next(table.batches(len(table)))
        net = command.learned(table, batch.x[batch.w > 0], batch.y[batch.w > 0], tmp_path / "nets", seed, None)
        found.append(str(torch.cat([parameter.flatten() for parameter in net.parameters()]).tolist()))
    assert len(set(found)) == 3
    assert found[0] == found[3]
    assert len(list((tmp_path / "nets").iterdir())) == 3


class LastFirst(Executor):
    """Does what was submitted last first; `order` is the place of each among those submitted."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.order: list[int] = []
        self.one = ThreadPoolExecutor(1)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.waiting.append((fn, args, kwargs))
        return self.one.submit(self.last)

    def last(self) -> Any:
        time.sleep(0.005)
        fn, args, kwargs = self.waiting.pop()
        self.order.append(len(self.waiting))
        return fn(*args, **kwargs)


def test_streamed_scores_of_a_table_are_those_in_memory(small):
    """In any order of the shards: to 1e-9 in float64, to 1e-3 of the largest score in float32."""
    torch.manual_seed(0)
    single = surrogate(
        [(0.0, 4000.0), (-3.2, 3.2), (-3.2, 3.2), (200.0, 600.0), (0.0, 200.0), (0.0, 60.0)], 5, width=12
    )
    double = copy.deepcopy(single).double()
    expected = scores(small, double, 16_384, "memory")
    for net, keep, shard_rows, workers in (
        (double, "recompute", 777, LastFirst()), (double, "file", 5000, None), (single, "recompute", 1000, LastFirst()),
    ):  # fmt: skip
        found = scores(small, net, shard_rows, keep, workers=workers)
        assert workers is None or workers.order[:4] != sorted(workers.order[:4])
        for name, truth in expected.items():
            near = {"rtol": 1e-9, "atol": 1e-12} if net is double else {"rtol": 0, "atol": 1e-3 * np.abs(truth).max()}
            np.testing.assert_allclose(found[name], truth, **near, err_msg=f"{name} {keep}")


def scores(table: Encounters, net: torch.nn.Module, shard_rows: int, keep: str, **more: Any) -> dict[str, np.ndarray]:
    encoding = Encoding(keep=keep, batch=500)  # type: ignore[arg-type]
    audit = assay.audit(table, model=net, refit=False, damping=1e-3, shard_rows=shard_rows, encoding=encoding, **more)
    names = ("cooks_distance", "loo_loss", "logit_variance", "leverage")
    return {name: audit.table[name].to_numpy() for name in names}


def test_a_labeller_says_what_the_networks_say():
    layers = Layers((np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32),), (np.zeros(5, np.float32),))
    networks = AcasNetworks({0: layers, 1: layers}, np.zeros(5), np.full(5, 9e9), np.zeros(5), np.ones(5), 0.0, 1.0)
    grid = Grid((0.0, 1.0), (-1.0, 0.0), (0.0, 2.0), ((1.0, 2.0),), (0, 1))
    codes = Labeller(networks, grid)(3, 13)
    points = grid.points(np.arange(3, 13))
    assert codes.tolist() == [int(networks.advisory(point[None, :5], int(point[5]))[0]) for point in points]


def test_a_surrogate_takes_columns_as_they_are():
    torch.manual_seed(0)
    net = surrogate([(0.0, 10.0), (-1.0, 1.0)], 3, width=4, depth=2)
    x = torch.tensor([[0.0, -1.0], [10.0, 1.0]])
    torch.testing.assert_close(net[0](x), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    assert sum(isinstance(layer, torch.nn.ReLU) for layer in net) == 2
    with pytest.raises(assay.ShapeError, match="column 1 never varies"):
        surrogate([(0.0, 10.0), (1.0, 1.0)], 3)


@pytest.mark.filterwarnings("ignore:.* never vary:assay.AssayWarning")  # units that are never on
def test_columns_in_another_order_or_unit_are_refused(small):
    import pyarrow as pa

    torch.manual_seed(0)
    ranges = [(0.0, 4000.0), (-3.2, 3.2), (-3.2, 3.2), (200.0, 600.0), (0.0, 200.0), (0.0, 60.0)]
    net = surrogate(ranges, 5, width=8, columns=COLUMNS)
    batch = next(small.batches(len(small)))
    columns = {name: batch.x[:, j].numpy() for j, name in enumerate(COLUMNS)}
    arguments = {"label": "advisory", "model": net, "l2": 1e-2}
    table = pa.table({**columns, "advisory": batch.y.numpy()})
    swapped = table.select([*reversed(COLUMNS), "advisory"])
    with pytest.raises(assay.ShapeError, match="column 0 is 'tau', but the network was made for 'rho' there"):
        assay.audit(swapped, **arguments)
    metres = table.set_column(0, "rho", pa.array(columns["rho"] * 3.0))
    with pytest.raises(assay.ShapeError, match=r"column 'rho' has the value 12000, but .* 0 to 4000; is it in another"):
        assay.audit(metres, **arguments)
    named = {**arguments, "features": list(COLUMNS)}
    found = assay.audit(swapped, **named)
    assert found.table["loss"].to_pylist() == assay.audit(table, **named).table["loss"].to_pylist()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_streamed_scores_of_two_hundred_thousand_rows(tmp_path, dtype):
    """Whatever the chunks: to 1e-9 in float64, to 1e-3 of the largest in float32, of those of all rows at once."""
    table = hcas_encounters(tmp_path, pairs=((200.0, 200.0),), steps=29, held_out=0.2)
    assert len(table) == 8 * 32 * 29**2 > 200_000
    torch.manual_seed(0)
    ranges = [(0.0, 56000.0), (-3.2, 3.2), (-3.2, 3.2), (0.0, 400.0), (0.0, 400.0), (0.0, 60.0)]
    net = surrogate(ranges, 5, width=12).to(dtype)

    def scores(network: torch.nn.Module, keep: str, shard_rows: int, batch: int) -> dict[str, np.ndarray]:
        encoding = Encoding(keep=keep, batch=batch)
        audit = assay.audit(table, model=network, refit=False, damping=1e-3, shard_rows=shard_rows, encoding=encoding)
        return {
            name: audit.table[name].to_numpy() for name in ("cooks_distance", "loo_loss", "logit_variance", "leverage")
        }

    truth = scores(copy.deepcopy(net).double(), "memory", len(table), 16_384)
    for shard_rows, batch in ((16_384, 4096), (7777, 1000)):
        for name, found in scores(net, "recompute", shard_rows, batch).items():
            if dtype == torch.float64:
                np.testing.assert_allclose(found, truth[name], rtol=1e-9, atol=1e-9 * truth[name].max())
            else:
                np.testing.assert_allclose(found, truth[name], atol=1e-3 * truth[name].max(), rtol=0)
