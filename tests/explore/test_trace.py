"""Influence through training: each step is the audit of that checkpoint, whichever way checkpoints are given."""

import numpy as np
import pytest
import torch
from torch import nn

import assay
from assay.datasets.toys import two_sided_square
from assay.models.mlp import mlp
from assay.models.training import Training, train

TOY = two_sided_square(80, seed=0)
X, Y = torch.tensor(TOY.points), torch.tensor(TOY.labels)
STEPS = (5, 40, 200)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return mlp([2, 8, 2]).double()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder of checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    train(network(), X, Y, Training(200, lr=1e-2, batch_size=None, checkpoints=STEPS), folder=folder)
    return folder


def test_every_step_is_the_audit_of_its_checkpoint(run):
    model = network(seed=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = assay.trace((X, Y), model=model, checkpoints=f"{run}/epoch-*.safetensors", damping=1e-4)
    assert found.steps["step"].to_pylist() == list(STEPS)
    assert found.ids.to_pylist() == list(range(80))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    from assay.features.weights import load_weights

    for k, step in enumerate(STEPS):
        own = load_weights(network(), run / f"epoch-{step:05d}.safetensors")
        audit = assay.audit((X, Y), model=own, refit=False, damping=1e-4)
        for name in ("cooks_distance", "loo_loss", "loss"):
            np.testing.assert_allclose(found.column(name)[k], audit.table[name].to_numpy(), rtol=1e-9, atol=1e-12)
        assert found.steps["gradient_norm"][k].as_py() == pytest.approx(audit.info["gradient_norm"])


def test_checkpoints_are_paths_or_states(run):
    paths = sorted(run.glob("epoch-*.safetensors"))
    from assay.features.weights import read_weights

    states = {step: read_weights(path) for step, path in zip(STEPS, paths, strict=True)}
    first = assay.trace((X, Y), model=network(), checkpoints=paths)
    second = assay.trace((X, Y), model=network(), checkpoints=states)
    assert first.table.equals(second.table)
    assert first.steps.equals(second.steps)


def test_share_and_rank(run):
    found = assay.trace((X, Y), model=network(), checkpoints=f"{run}/epoch-*.safetensors")
    distance = found.column()
    everyone = found.ids.to_pylist()
    np.testing.assert_allclose(found.share(everyone).sum(1), 1.0)
    np.testing.assert_allclose(found.share([7])[:, 0], distance[:, 7] / distance.sum(1))
    ranks = found.rank(everyone)
    assert (np.sort(ranks, axis=1) == np.arange(1, 81)).all()
    assert (ranks.argmin(1) == distance.argmax(1)).all()
    with pytest.raises(assay.ShapeError, match="id 99 is not among the 80 samples"):
        found.share([99])


def test_a_refitted_head_at_each_step(run):
    found = assay.trace((X, Y), model=network(), checkpoints=f"{run}/epoch-*.safetensors", refit=True, l2=1e-3)
    assert found.steps["l2"].to_pylist() == [1e-3] * 3
    assert max(found.steps["gradient_norm"].to_pylist()) < 1e-8
    from assay.features.split import split
    from assay.features.weights import load_weights

    own = load_weights(network(), run / "epoch-00200.safetensors")
    h = split(own, X).embeddings(X)
    expected = assay.Head.fit(h, Y, l2=1e-3, standardize=False).leverage(h, Y).cooks_distance()
    np.testing.assert_allclose(found.column()[2], expected, rtol=1e-6)


def test_a_trace_is_saved_and_read_back(run, tmp_path):
    found = assay.trace((X, Y), model=network(), checkpoints=f"{run}/epoch-*.safetensors")
    again = assay.Trace.load(found.save(tmp_path / "trace.parquet"))
    assert again.table.equals(found.table)
    assert again.steps.equals(found.steps)
    (tmp_path / "other.parquet").write_bytes(b"nothing")
    for name in ("other.parquet", "nowhere.parquet"):
        with pytest.raises(assay.OutputError, match="is not a trace that assay saved"):
            assay.Trace.load(tmp_path / name)


def test_an_interrupted_trace_goes_on(run, tmp_path, monkeypatch):
    from assay.explore import trace as module

    arguments = {"model": network(), "checkpoints": f"{run}/epoch-*.safetensors", "out": tmp_path / "trace"}
    calls: list[int] = []
    real = module._at

    def watched(step, *rest):
        calls.append(step)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(step, *rest)

    monkeypatch.setattr(module, "_at", watched)
    with pytest.raises(KeyboardInterrupt):
        assay.trace((X, Y), **arguments)
    found = assay.trace((X, Y), **arguments)
    assert calls == [5, 40, 200, 200]
    assert found.table.equals(assay.trace((X, Y), **{**arguments, "out": None}).table)
    for other in ({"damping": 1e-2}, {"data": (X, 1 - Y)}, {"data": (X[:40], Y[:40])}):
        with pytest.raises(assay.OutputError, match="holds steps of another trace"):
            assay.trace(**{"data": (X, Y), **arguments, **other})
    with pytest.raises(assay.SourceError, match=r"no checkpoint matches .*epoch-99999\.safetensors"):
        assay.trace(
            (X, Y), model=network(), checkpoints=[run / "epoch-00005.safetensors", run / "epoch-99999.safetensors"]
        )


def test_ids_are_those_of_the_samples(run):
    names = [f"s{k}" for k in range(80)]
    found = assay.trace((X, Y, names), model=network(), checkpoints=f"{run}/epoch-*.safetensors")
    assert found.ids.to_pylist() == names
    assert found.rank(["s3"]).shape == (3, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"checkpoints": "nowhere/*.safetensors"}, "no checkpoint matches"),
        ({"checkpoints": {}}, "no checkpoint matches"),
        ({"checkpoints": {1: mlp([2, 9, 2]).double().state_dict()}}, "have another shape"),
        ({"damping": 0.0}, "refit=False needs l2= or damping="),
        ({"damping": -1.0}, "damping=-1.0 is not a finite number"),
    ],
)
def test_refusals(run, given, message):
    arguments = {"checkpoints": f"{run}/epoch-*.safetensors", **given}
    with pytest.raises(assay.AssayError, match=message):
        assay.trace((X, Y), model=network(), **arguments)


def test_names_without_steps_and_steps_twice_are_refused(run, tmp_path):
    raw = (run / "epoch-00005.safetensors").read_bytes()
    (tmp_path / "last.safetensors").write_bytes(raw)
    with pytest.raises(assay.SourceError, match="has no number in its name"):
        assay.trace((X, Y), model=network(), checkpoints=tmp_path / "last.safetensors")
    for name in ("a-7", "b-7"):
        (tmp_path / f"{name}.safetensors").write_bytes(raw)
    with pytest.raises(assay.SourceError, match="are both step 7"):
        assay.trace((X, Y), model=network(), checkpoints=f"{tmp_path}/?-7.safetensors")
