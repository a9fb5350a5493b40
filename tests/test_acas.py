"""The collision-avoidance tables: published networks meet their test vector, and a table is read in any range alike."""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import assay
from assay.datasets.acas import ACAS_RHO, FINE_RHO, Labeller, acasxu_encounters, hcas_encounters, write_table
from assay.datasets.acasxu import AcasNetworks, Layers, read_networks
from assay.datasets.encounters import COLUMNS, Encounters, Grid
from assay.datasets.hcas import ADVISORIES, HCAS, TAUS, policy
from assay.features.keep import Encoding
from assay.models.surrogate import surrogate

PLACES = [Path(os.environ["ASSAY_DATA"])] if "ASSAY_DATA" in os.environ else []
PLACES.append(Path(__file__).parent.parent.parent / "shared" / "data")
PUBLISHED = next((place / "acasxu" for place in PLACES if (place / "acasxu").is_dir()), None)
published = pytest.mark.skipif(PUBLISHED is None, reason="the published networks are not in ASSAY_DATA")

RHO = (0.0, 300.0, 600.0, 1500.0, 4000.0)


@pytest.fixture(scope="module")
def networks() -> AcasNetworks:
    assert PUBLISHED is not None
    return read_networks(PUBLISHED)


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
    assert 9 * 12 * 13 * 40 * 41 * 41 >= 93_000_000


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "W3"}, "has no array"),
        (lambda a: {**a, "tau_s": a["tau_s"][:8]}, "there must be nine"),
        (lambda a: {**a, "W2": a["W2"][:, :, :4]}, "make no network"),
        (lambda a: {**a, "b0": a["b0"][:, :4]}, "make no network"),
    ],
)
def test_networks_that_are_none_are_refused(tmp_path, break_it, message):
    sizes = [5, 6, 6, 6, 6, 6, 6, 5]
    arrays = {f"W{k}": np.ones((9, sizes[k + 1], sizes[k]), np.float32) for k in range(7)}
    arrays |= {f"b{k}": np.ones((9, sizes[k + 1]), np.float32) for k in range(7)}
    arrays |= {f"in_{name}": np.arange(1.0, 6.0) for name in ("min", "max", "mean", "range")}
    arrays |= {
        "out_mean": np.array(0.0),
        "out_range": np.array(1.0),
        "tau_s": np.array([0, 1, 5, 10, 20, 40, 60, 80, 100]),
    }
    np.savez(tmp_path / "good.npz", **arrays)
    assert read_networks(tmp_path / "good.npz").scores(np.ones((2, 5)), 5).shape == (2, 5)
    np.savez(tmp_path / "bad.npz", **break_it(arrays))
    with pytest.raises(assay.SourceError, match=message):
        read_networks(tmp_path / "bad.npz")


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
    ],
)
def test_grids_that_are_none_are_refused(make, message):
    with pytest.raises(assay.ShapeError, match=message):
        make()


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


def test_streamed_scores_of_a_table_are_those_in_memory(small, tmp_path):
    torch.manual_seed(0)
    net = surrogate([(0.0, 4000.0), (-3.2, 3.2), (-3.2, 3.2), (200.0, 600.0), (0.0, 200.0), (0.0, 60.0)], 5, width=12)
    net = net.double()
    found = {}
    for keep, shard_rows in (("memory", 16_384), ("recompute", 1000), ("recompute", 777), ("file", 5000)):
        audit = assay.audit(
            small, model=net, refit=False, damping=1e-3, shard_rows=shard_rows, encoding=Encoding(keep=keep, batch=500)
        )
        found[keep, shard_rows] = audit.table
        assert audit.table["given_label"].to_pylist()[:3] == ["SL", "SL", "SL"] or audit.info["classes"] == list(
            ADVISORIES
        )
    expected = found["memory", 16_384].to_pandas()
    for table in found.values():
        for name in ("cooks_distance", "loo_loss", "logit_variance", "leverage"):
            np.testing.assert_allclose(table[name].to_numpy(), expected[name], rtol=1e-9, atol=1e-12)


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
