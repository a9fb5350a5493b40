"""The paper's figures, re-run small: what the full runs in experiments/results/ claim holds here too."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


def load(name: str, monkeypatch: pytest.MonkeyPatch):
    """An experiment's module, its `common` beside it; torch's threads as they were."""
    import torch

    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    torch.set_num_threads(threads)
    for other in (name, "common", "cifar10", "cifar10_scores", "cifar10_results", "fig5_cifar10"):
        sys.modules.pop(other, None)
    return module


@pytest.mark.slow
def test_influential_points_lie_at_the_boundary(tmp_path, monkeypatch):
    found = load("fig1_toys", monkeypatch).main(0.1, tmp_path)
    assert set(found) == {"unit circle", "down-sampled circle", "noisy band", "line and sine"}
    for name, settings in found.items():
        assert len(settings) == 4  # two widths, two dampings
        for setting in settings:
            closer = setting["median distance of the top over that of all"]["mean"]
            held = setting["share of influence in the nearest band"]["mean"]
            assert closer < (2 / 3 if name == "noisy band" else 1 / 3), (name, setting)
            assert held > (0.4 if name == "noisy band" else 0.7), (name, setting)
    for setting in found["noisy band"]:
        assert (
            setting["share of influence of the flipped"]["mean"]
            > 3 * setting["share of points that are flipped"]["mean"]
        )
    written = json.loads((tmp_path / "fig1_toys.json").read_text(encoding="utf-8"))
    assert written["problems"] == found
    assert {"command", "versions", "seconds", "seeds"} <= set(written)
    assert (tmp_path / "fig1_toys.png").stat().st_size > 20_000


@pytest.mark.slow
def test_influence_goes_from_the_boundary_to_the_flipped_point(tmp_path, monkeypatch):
    found = load("fig4_trace", monkeypatch).main(0.1, tmp_path)["settings"]
    assert len(found) == 8  # two rates, two widths, two dampings
    for setting in found:
        first, last = setting["epochs"][0], setting["epochs"][-1]
        assert first["share of the flipped"]["mean"] < 0.05 < first["share of the boundary"]["mean"]
        assert first["share of the flipped"]["mean"] < last["share of the flipped"]["mean"]
        assert last["seeds with the flipped first"] == 2
        assert last["mean loss"]["mean"] < first["mean loss"]["mean"]
    assert {path.name for path in tmp_path.iterdir()} == {"fig4_trace.json", "fig4_trace.png", "fig4_shares.png"}


@pytest.mark.parametrize("name", ["fig1_toys", "fig4_trace"])
def test_the_committed_results_are_of_these_settings(name, monkeypatch):
    module = load(name, monkeypatch)
    written = json.loads((EXPERIMENTS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert written["seeds"] == module.SEEDS
    assert written["seconds"] < 600
    assert written["points"] == round(0.8 * module.POINTS)
    settings = (
        written["settings"] if name == "fig4_trace" else [s for each in written["problems"].values() for s in each]
    )
    assert {s["width"] for s in settings} == set(module.WIDTHS)
    assert {s["damping"] for s in settings} == set(module.DAMPINGS)


@pytest.mark.filterwarnings("ignore::assay.AssayWarning")
@pytest.mark.slow
def test_influential_points_of_a_table_lie_where_the_advisory_changes(tmp_path, monkeypatch):
    module = load("fig3_acas", monkeypatch)
    claims = module.main("hcas", None, tmp_path / "work", 0.02, tmp_path)["claims"]
    assert claims["within one step of a change"]["top 1 %"] > 0.97
    assert claims["within one step of a change"]["top 1 %"] > claims["within one step of a change"]["all"]
    axes = claims["axes along which the advisory changes"]
    assert axes["top 1 %"] > 1.5 * axes["all"]
    held = [claims["share of the influence held by the top"][share] for share in ("0.001", "0.01", "0.05", "0.1")]
    assert held == sorted(held)
    assert held[1] > 0.1
    assert (tmp_path / "fig3_hcas.png").stat().st_size > 20_000


def test_axes_of_change_are_those_of_brute_force(monkeypatch):
    import numpy as np

    from assay.datasets.encounters import Grid

    module = load("fig3_acas", monkeypatch)
    grid = Grid((0.0, 1.0, 2.0), (-1.0, 0.0, 1.0, 2.0), (-1.0, 0.0, 1.0), ((1.0, 1.0), (2.0, 1.0)), (0, 5))
    codes = np.random.default_rng(0).integers(0, 2, len(grid))
    codes = codes.reshape(grid.shape)
    codes[:, :, :, -1], codes[..., -1] = codes[:, :, :, 0], codes[..., 0]  # one direction, one label
    found = module.axes_of_change(codes).ravel()
    flat = codes.ravel()
    for row in range(len(grid)):
        at = np.unravel_index(row, grid.shape)
        axes = set()
        for other in grid.neighbours(row):
            if flat[other] != flat[row]:
                place = np.unravel_index(other, grid.shape)
                axes |= {axis for axis in range(5) if at[axis] != place[axis]}
        assert found[row] == len(axes)


def test_cifar10_units_are_made_once_and_give_both_figures(tmp_path, monkeypatch):
    """The smoke plan on the real images: every score is there, a unit that is there is not made again."""
    places = [Path(os.environ["ASSAY_DATA"])] if "ASSAY_DATA" in os.environ else []
    places.append(Path(__file__).parent.parent.parent / "shared" / "data")
    data = next((place / "cifar10.parquet" for place in places if (place / "cifar10.parquet").is_file()), None)
    if data is None:
        pytest.skip("cifar10.parquet is neither in ASSAY_DATA nor in ../shared/data")
    cifar10 = load("cifar10", monkeypatch)
    folder, work = tmp_path / "units", tmp_path / "work"
    table = pq.read_table(data)  # some of the images: decoding all of them takes longer than all the rest
    few = pc.less(table["index"], pc.if_else(pc.equal(table["split"], "train"), 1_000, 300))
    data = tmp_path / "cifar10.parquet"
    pq.write_table(table.filter(few), data)
    for unit in cifar10.plan("smoke"):
        cifar10.run(unit, work, data, folder)
    files = sorted(folder.iterdir())
    assert len(files) == 2
    before = [file.stat().st_mtime_ns for file in files]
    assert cifar10.run(cifar10.plan("smoke")[0], work, data, folder).endswith("there")
    assert [file.stat().st_mtime_ns for file in files] == before
    results = load("cifar10_results", monkeypatch).read_units(folder)
    for result in results:
        assert result.wrong.sum() == 20
        assert [point["epoch"] for point in result.points] == [2]
        assert {"AUM", "TracIn, last layer", "trimmed leave-one-out loss"} <= set(result.points[-1]["found"])
        again = roc_auc_score(result.wrong, result.score("refit leave-one-out loss"))
        assert again == pytest.approx(result.last("refit leave-one-out loss", "AUROC"), abs=2e-3)  # float16
    mistaken = load("cifar10_mistaken", monkeypatch)
    unit, images = cifar10.plan("smoke")[0], cifar10.cifar10(data, cache=work)
    for labels in mistaken.LABELS:
        told = mistaken.compare(unit, work / unit.name, images, labels)
        assert len(told["found"]) == (6 if labels == mistaken.TRAINED else 4)  # its own head says nothing of others
        assert told["flips"] > 0
        if not told["pairs"]:
            assert told["found"]["mislabeled_score"] == told["found"]["trimmed leave-one-out loss"]
    fig5 = load("fig5_cifar10", monkeypatch)
    fig5.draw(results[1:], tmp_path / "fig5.png")
    assert fig5.measure(results[1:])["ResNet-20, 5.00%"]["refit Cook's distance"]["AUROC"]["models"] == 1
    fig6 = load("fig6_regularisation", monkeypatch)
    fig6.draw_curves(results, tmp_path / "fig6.png")
    fig6.draw_collapse(results, tmp_path / "collapse.png")
    gained = fig6.measure(results)["elastic minus plain"]["refit Cook's distance"]["AUROC"]
    areas = [result.last("refit Cook's distance", "AUROC") for result in results]
    assert gained["mean"] == pytest.approx(areas[0] - areas[1])
    assert all((tmp_path / f"{name}.png").stat().st_size > 20_000 for name in ("fig5", "fig6", "collapse"))


def test_units_are_small_enough_to_be_kept():
    """And hold no bytes a ranking does not need: 2 MiB at most, of 40,000 images too."""
    units = sorted((EXPERIMENTS / "results" / "cifar10" / "units").glob("*.parquet"))
    assert units
    assert [unit.name for unit in units if unit.stat().st_size > 2 << 20] == []


def test_intervals_cover_the_mean(monkeypatch):
    """95 % bootstrap intervals over 12 models: in 400 simulations the true mean is inside nearly as often."""
    interval = load("cifar10_results", monkeypatch).interval
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        low, high = interval(rng.beta(8, 3, 12).tolist(), seed=seed)["interval"]
        covered += low <= 8 / 11 <= high
    assert 0.87 <= covered / 400 <= 0.97  # a percentile interval of twelve is a little narrow
