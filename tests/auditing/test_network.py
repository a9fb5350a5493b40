"""An audit of a trained network: any data set, any way to keep its features, its own head or one fitted anew."""

import copy
import json
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
import skorch
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils import data as td

import assay
from assay.features.network import Network
from assay.features.split import split
from assay.models.mlp import mlp
from assay.models.training import Training, train

N = 120
X = torch.randn(N, 1, 3, 4, generator=torch.Generator().manual_seed(0))
Y = (X.mean((1, 2, 3)) > 0.1).long() + (X[:, 0, 0, 0] > 0.5).long()


def network(outputs: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, outputs)).to(
        dtype
    )


@pytest.fixture(scope="module")
def trained() -> nn.Sequential:
    model = network()
    optimizer = Training(60, lr=5e-3, batch_size=40, options=(("weight_decay", 1e-3),))
    train(model, X, Y, optimizer)
    return model


def columns(audit, *names: str) -> list[np.ndarray]:
    return [audit.table[name].to_numpy() for name in names]


class Wrapped(td.Dataset):
    def __len__(self) -> int:
        return N

    def __getitem__(self, k: int):
        return X[k], int(Y[k])


ABSENT = "mps" if torch.cuda.is_available() else "cuda"

KINDS = {
    "dataset": lambda: Wrapped(),
    "loader": lambda: td.DataLoader(td.TensorDataset(X, Y), batch_size=32, shuffle=True),
    "arrays": lambda: (X.numpy(), Y.numpy()),
    "subset": lambda: td.Subset(Wrapped(), list(range(N))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_set_gives_the_same_scores(trained, kind):
    expected = assay.audit((X, Y), model=trained, l2=1e-2)
    found = assay.audit(KINDS[kind](), model=trained, l2=1e-2)
    assert found.table["id"].to_pylist() == list(range(N))
    # float32 embeddings of batches of 32 and of 256 differ in their last bits
    for name in ("cooks_distance", "loo_loss"):
        a, b = *columns(found, name), *columns(expected, name)
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_scores_are_the_same_bits_however_features_are_kept(trained, tmp_path, workers):
    state = copy.deepcopy(trained.state_dict())
    found = {}
    for keep in ("memory", "file", "recompute"):
        if keep == "recompute" and workers:
            continue
        audit = assay.audit(
            Wrapped(), model=trained, l2=1e-2, out=tmp_path / keep, encoding=assay.Encoding(keep=keep, batch=32),
            workers=workers,
        )  # fmt: skip
        found[keep] = audit.table
        assert len(audit.explain(7).supporters) == 5
    assert all(table.equals(found["memory"]) for table in found.values())
    for name, value in trained.state_dict().items():
        assert torch.equal(value, state[name]), name
    arrow = list((tmp_path / "file" / "source").iterdir())
    assert [path.suffix for path in arrow] == [".arrow"]


def test_features_are_kept_by_their_size(trained, tmp_path, monkeypatch):
    from assay.features import keep

    def kept(budget: int) -> str:
        audit = assay.audit(
            Wrapped(), model=trained, l2=1e-2, out=tmp_path / "a", overwrite=True,
            encoding=assay.Encoding(budget=budget),
        )  # fmt: skip
        return audit.info["source"]["store"]["kind"]

    row = 16 * 4 + 8 + 90  # features, label, and about as much for the picture
    assert kept(N * 2 * row) == "parquet"  # in memory, and kept in Parquet for when the audit is opened again
    assert kept(N * (16 * 4 + 8)) == "arrow"
    monkeypatch.setattr(keep.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    assert kept(0) == "recomputed"


def test_a_recomputed_audit_is_opened_with_its_network(trained, tmp_path):
    audit = assay.audit(
        Wrapped(), model=trained, l2=1e-2, out=tmp_path / "a", encoding=assay.Encoding(keep="recompute")
    )
    again = assay.load(tmp_path / "a")
    assert again.table.equals(audit.table)
    shown = again.source.render([7])[0]
    assert shown.fields["label"] == int(Y[7])
    assert shown.png == audit.source.render([7])[0].png
    with pytest.raises(assay.SourceError, match=r"recomputes its features by Sequential before its layer '4'; give"):
        again.explain(3)
    opened = assay.load(tmp_path / "a", data=Wrapped(), model=trained)
    assert opened.explain(3).sentence == audit.explain(3).sentence
    with pytest.raises(assay.SourceError, match="no longer those that were audited"):
        assay.load(tmp_path / "a", data=Wrapped(), model=network(seed=3))
    with pytest.raises(assay.ShapeError, match="cannot go to worker processes"):
        assay.audit(Wrapped(), model=trained, l2=1e-2, encoding=assay.Encoding(keep="recompute"), workers=2)


def hessian_cooks(model: nn.Sequential, h: Tensor, y: Tensor, l2: float, damping: float, decay_bias: bool) -> Tensor:
    """Brute force over the head's parameters, in float64."""
    W, b = model[-1].weight.detach().double(), model[-1].bias.detach().double()
    theta = torch.cat([W.flatten(), b])

    def logits(flat: Tensor) -> Tensor:
        return h @ flat[: W.numel()].view_as(W).T + flat[W.numel() :]

    def objective(flat: Tensor) -> Tensor:
        decayed = flat if decay_bias else flat[: W.numel()]
        return nn.functional.cross_entropy(logits(flat), y) + l2 / 2 * decayed.square().sum()

    H = torch.autograd.functional.hessian(objective, theta) + damping * torch.eye(len(theta), dtype=torch.float64)
    G = torch.autograd.functional.jacobian(
        lambda flat: nn.functional.cross_entropy(logits(flat), y, reduction="none"), theta
    )
    return torch.linalg.vecdot(G, (G @ torch.linalg.pinv(H, hermitian=True)))


@pytest.mark.parametrize(
    ("given", "truth"),
    [
        ({"l2": 1e-2}, (1e-2, 0.0, False)),
        ({"damping": 1e-2}, (0.0, 1e-2, False)),
        ({"l2": 1e-3, "damping": 1e-2}, (1e-3, 1e-2, False)),
    ],
)
def test_the_trained_head_is_scored_as_brute_force_does(given, truth):
    model = network(dtype=torch.float64)
    train(model, X.double(), Y, Training(40, lr=5e-3, batch_size=None))
    audit = assay.audit((X.double(), Y), model=model, refit=False, **given)
    h = split(model, X.double()).embeddings(X.double())
    expected = hessian_cooks(model, h, Y, *truth)
    assert_close(torch.tensor(audit.table["cooks_distance"].to_numpy()), expected, rtol=1e-6, atol=1e-10)
    assert audit.info["trained"]["gradient_norm"] == pytest.approx(audit.info["gradient_norm"])
    assert audit.trust.checks[0].sentence.startswith("The gradient of the objective at the trained head is")
    assert audit.info["damping"] == given.get("damping", 0.0)


def test_the_optimisers_weight_decay_is_read(trained):
    adam = torch.optim.Adam(trained.parameters(), weight_decay=1e-3)
    audit = assay.audit((X, Y), model=trained, refit=False, optimizer=adam)
    told = audit.info["trained"]
    assert (told["l2"], told["penalize_bias"], told["damping"]) == (1e-3, True, 0.0)
    h = split(trained, X).embeddings(X).double()
    expected = hessian_cooks(trained, h, Y, 1e-3, 0.0, True)
    assert_close(torch.tensor(audit.table["cooks_distance"].to_numpy()), expected, rtol=1e-6, atol=1e-10)


def test_both_heads_stand_side_by_side(trained):
    both = assay.audit((X, Y), model=trained, refit="both", l2=1e-2)
    refitted = assay.audit((X, Y), model=trained, l2=1e-2)
    kept = assay.audit((X, Y), model=trained, refit=False, l2=1e-2)
    assert both.table.drop_columns(["trained_cooks_distance"]).equals(refitted.table)
    np.testing.assert_allclose(*columns(both, "trained_cooks_distance"), *columns(kept, "cooks_distance"), rtol=1e-12)
    assert "trained_cooks_distance" in both.info["units"]
    assert both.top(3, by="trained_cooks_distance")["id"].to_pylist() == kept.top(3)["id"].to_pylist()
    assert refitted.info["trained"]["gradient_norm"] > 1e-6 > refitted.info["gradient_norm"]


LOSSES = [
    (nn.CrossEntropyLoss(), "softmax"),
    (nn.functional.cross_entropy, "softmax"),
    ("softmax", "softmax"),
    (None, "softmax"),
]


@pytest.mark.parametrize(("loss", "family"), LOSSES)
def test_the_family_follows_from_the_loss(trained, loss, family):
    assert assay.audit((X, Y), model=trained, family=loss, l2=1e-2).info["family"] == family


def test_class_weights_of_the_loss_are_row_weights(trained):
    weight = torch.tensor([1.0, 2.0, 0.5])
    found = assay.audit((X, Y), model=trained, family=nn.CrossEntropyLoss(weight=weight), l2=1e-2)
    expected = assay.audit((X, Y), model=trained, weight=weight[Y].numpy(), l2=1e-2)
    np.testing.assert_allclose(*columns(found, "cooks_distance"), *columns(expected, "cooks_distance"), rtol=1e-6)


def test_one_logit_is_logistic_and_floats_are_targets():
    model = network(1, dtype=torch.float64)
    binary = (Y > 0).double()[:, None]
    assert assay.audit((X.double(), binary), model=model, l2=1e-2).info["family"] == "logistic"
    targets = X.double().mean((1, 2, 3))
    audit = assay.audit((X.double(), targets), model=model, l2=1e-2)
    assert audit.info["family"] == "linear"
    mse = assay.audit((X.double(), Y), model=model, family=nn.MSELoss(), l2=1e-2)
    assert mse.info["family"] == "linear"
    two = assay.audit(
        (X.double(), torch.stack([targets, targets**2], 1)), model=network(2, dtype=torch.float64), l2=1e-2
    )
    assert two.info["targets"] == ["label0", "label1"]


def image_folder(path):
    colours = np.random.default_rng(0).integers(0, 200, (40, 3))
    for k, colour in enumerate(colours):
        kind = ("red", "blue")[int(colour[2] > colour[0])] if k != 7 else "blue"
        file = path / kind / f"{k:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.broadcast_to(colour.astype(np.uint8), (4, 4, 3)).copy()).save(file)
    return path


def picture_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.filterwarnings("ignore:.* columns never vary:assay.AssayWarning")  # units that are never on
def test_a_folder_of_images_is_audited_and_shown(tmp_path):
    folder = image_folder(tmp_path / "images")
    audit = assay.audit(folder, model=picture_network(), out=tmp_path / "audit", l2=1e-3)
    assert set(audit.table["given_label"].to_pylist()) == {"red", "blue"}
    assert audit.table["id"].to_pylist()[0].startswith("blue/")
    shown = assay.load(tmp_path / "audit").source.render([0])[0]
    assert shown.png is not None
    assert shown.png.startswith(b"\x89PNG")
    page = assay.write_report(audit).read_text(encoding="utf-8")
    assert "data:image/png;base64" in page


@pytest.mark.filterwarnings("ignore:.* columns never vary:assay.AssayWarning")
def test_an_export_of_a_networks_audit_has_its_ids(tmp_path):
    folder = image_folder(tmp_path / "images")
    audit = assay.audit(folder, model=picture_network(), out=tmp_path / "audit", l2=1e-3)
    audit.export(tmp_path / "clean.parquet")
    table = pq.read_table(tmp_path / "clean.parquet")
    assert table["id"].to_pylist() == audit.table["id"].to_pylist()
    assert "suggested_label" in table.schema.names


def test_a_table_is_a_networks_input(tmp_path):
    import pyarrow as pa

    flat = X.flatten(1)
    table = pa.table({**{f"c{j}": flat[:, j].numpy() for j in range(12)}, "label": Y.numpy()})
    pq.write_table(table, tmp_path / "t.parquet")
    model = network()
    found = assay.audit(tmp_path / "t.parquet", model=model, l2=1e-2)
    expected = assay.audit((flat, Y), model=model, l2=1e-2)
    np.testing.assert_allclose(*columns(found, "cooks_distance"), *columns(expected, "cooks_distance"), rtol=1e-4)
    scored = found.score(tmp_path / "t.parquet", model=model)
    assert len(scored) == N


def test_another_head_on_the_same_encoder_is_another_run(trained, tmp_path, monkeypatch):
    from assay.auditing import job

    other = copy.deepcopy(trained)
    other[-1].weight.data *= 3
    settings = {"refit": False, "damping": 1e-2, "out": tmp_path / "a"}

    def stop(*_given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(job.Job, "_trust", stop)
        with pytest.raises(KeyboardInterrupt):
            assay.audit((X, Y), model=trained, **settings)
    with pytest.raises(assay.OutputError, match="something else"):
        assay.audit((X, Y), model=other, **settings)
    audit = assay.audit((X, Y), model=trained, **settings)
    with pytest.raises(assay.ShapeError, match=r"made through Sequential .* with other weights"):
        audit.score((X, Y), model=other)


def test_an_audit_is_scored_in_the_precision_it_was_made_in(trained):
    half = assay.audit((X, Y), model=trained, refit=False, damping=1e-2, encoding=assay.Encoding(precision="bf16"))
    scored = half.score((X, Y), model=trained)
    np.testing.assert_allclose(scored["loss"].to_numpy(), half.table["loss"].to_numpy(), rtol=1e-12)


class Inplace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1)).sigmoid_()


class Caching(nn.Module):
    """Keeps a tensor of its last run, and trains on after an audit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fc, self.seen = nn.Linear(12, 5), nn.Linear(5, 3), torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.first(x.flatten(1))
        return self.fc(self.seen + 0 * self.seen.mean())


def test_a_module_that_caches_can_train_on():
    model = Caching()
    assay.audit((X, Y), model=model, l2=1e-2)
    (model.fc(model.seen).sum() + model(X).sum()).backward()


def test_new_samples_of_any_kind_are_scored(trained):
    audit = assay.audit(Wrapped(), model=trained, l2=1e-2)
    a = audit.score(td.Subset(Wrapped(), [3, 9]), model=trained)
    assert a["id"].to_pylist() == [3, 9]
    b = audit.score((X[[3, 9]], Y[[3, 9]]), model=trained)
    assert a["loss"].to_pylist() == b["loss"].to_pylist()


def test_a_killed_encoding_goes_on_and_a_changed_network_is_refused(trained, tmp_path, monkeypatch):
    from assay.features import keep

    monkeypatch.setattr(keep, "SHARD_ROWS", 32)
    encoding = assay.Encoding(keep="file", batch=32)

    class Dies(Wrapped):
        left = 1000

        def __getitem__(self, k: int):
            if k == 70 and Dies.left:
                raise KeyboardInterrupt
            return super().__getitem__(k)

    with pytest.raises(KeyboardInterrupt):
        assay.audit(Dies(), model=trained, l2=1e-2, out=tmp_path / "a", encoding=encoding)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "source").glob("*.arrow")}
    assert len(before) == 2
    Dies.left = 0
    audit = assay.audit(Dies(), model=trained, l2=1e-2, out=tmp_path / "a", encoding=encoding)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "source").glob("*.arrow")}
    assert {name: after[name] for name in before} == before
    assert audit.table.equals(assay.audit(Wrapped(), model=trained, l2=1e-2, encoding=encoding).table)


def test_features_of_other_samples_are_not_taken(trained, tmp_path, monkeypatch):
    encoding = assay.Encoding(keep="file", batch=32)
    from assay.auditing import run

    def stop(*_given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run.Passes, "scan", stop)
        with pytest.raises(KeyboardInterrupt):
            assay.audit((X, Y), model=trained, l2=1e-2, out=tmp_path / "a", encoding=encoding)
    for other in ((X + 1, Y), (X, Y.roll(1)), (X[:90], Y[:90])):
        with pytest.raises(assay.OutputError, match="unfinished audit of something else"):
            assay.audit(other, model=trained, l2=1e-2, out=tmp_path / "a", encoding=encoding)
    found = assay.audit((X, Y.roll(1)), model=trained, l2=1e-2, out=tmp_path / "a", encoding=encoding, overwrite=True)
    assert found.table.equals(assay.audit((X, Y.roll(1)), model=trained, l2=1e-2, encoding=encoding).table)


class Nan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1) / 0 * 0)


class Float8(td.Dataset):
    def __len__(self) -> int:
        return N

    def __getitem__(self, k: int):
        return X[k], int(Y[k]) if k != 90 else 7


REFUSED = {
    "shapes": (lambda m: dict(data=(X[..., :2], Y)), "Sequential cannot run on inputs of shape"),
    "range known": (lambda m: dict(data=(X, Y + 1)), r"has the label 3, but the model tells 3 classes apart \(0–2\)"),
    "range at an item": (lambda m: dict(data=Float8()), r"sample 90 \(item 90 of the Float8\) has the label 7"),
    "loss": (lambda m: dict(family=nn.HuberLoss()), "the loss HuberLoss is not known; give nn.CrossEntropyLoss"),
    "no logits": (lambda m: dict(family=nn.NLLLoss()), "the loss NLLLoss takes no logits; give nn.CrossEntropyLoss"),
    "smoothing": (lambda m: dict(family=nn.CrossEntropyLoss(label_smoothing=0.1)), "label_smoothing=0.1"),
    "sum": (lambda m: dict(family=nn.CrossEntropyLoss(reduction="sum")), "reduction='sum' is no mean"),
    "nan": (lambda m: dict(model=Nan()), "embedding is not finite"),
    "device": (lambda m: dict(encoding=assay.Encoding(device=ABSENT)), f"device='{ABSENT}' is not on this machine"),
    "layer": (lambda m: dict(layer="fc"), "layer='fc' is no trainable nn.Linear"),
    "kept without penalty": (lambda m: dict(refit=False), "refit=False keeps the trained head, whose curvature needs"),
    "refit": (lambda m: dict(refit="maybe"), 'is not True, False or "both"'),
    "adamw": (
        lambda m: dict(refit=False, optimizer=torch.optim.AdamW(m.parameters())),
        "the weight decay of AdamW is no penalty of an objective",
    ),
    "another's optimiser": (
        lambda m: dict(refit=False, optimizer=torch.optim.Adam(nn.Linear(2, 2).parameters())),
        "the Adam does not train the model's last layer",
    ),
    "two decays": (
        lambda m: dict(
            refit=False,
            optimizer=torch.optim.SGD(
                [{"params": [m[-1].weight], "weight_decay": 1e-3}, {"params": [m[-1].bias], "weight_decay": 1e-2}],
                lr=0.1,
            ),
        ),
        "bias decays by 0.01, its weights by 0.001",
    ),
    "absent class": (
        lambda m: dict(data=(X[Y < 2], Y[Y < 2]), refit=False, damping=1e-2),
        "class 2 of the model has no sample",
    ),
    "names": (
        lambda m: dict(data=(X, np.array(["a", "b", "c"])[Y]), refit=False, damping=1e-2),
        "label 'a' cannot be matched with one of the model's 3 outputs",
    ),
    "two labels": (lambda m: dict(data=(X, torch.stack([Y, Y], 1))), "give one class a sample"),
    "in place": (lambda m: dict(model=Inplace()), "a sigmoid follows it"),
    "ignored class": (lambda m: dict(family=nn.CrossEntropyLoss(ignore_index=0)), "ignore_index=0 leaves a class out"),
    "weights of classes": (
        lambda m: dict(family=nn.CrossEntropyLoss(weight=torch.ones(5))),
        "the loss weighs 5 classes, but the model has 3",
    ),
    "one-hot": (lambda m: dict(data=(X, nn.functional.one_hot(Y).float())), "labels are rows that sum to one"),
    "float codes": (lambda m: dict(data=(X, Y.float())), "one float a sample, but the model has 3 outputs"),
    "targets": (lambda m: dict(data=(X, X[:, 0, 0]), family=nn.MSELoss()), "4 targets a sample, but the model has 3"),
    "pos_weight": (
        lambda m: dict(
            data=(X, (Y > 0).long()),
            model=(one := network(1)),
            family=nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0])),
            refit=False,
            optimizer=torch.optim.SGD(one.parameters(), lr=0.1, weight_decay=0.1),
        ),
        "a mean over rows, not over weights",
    ),
    "adafactor": (
        lambda m: dict(refit=False, optimizer=torch.optim.Adafactor(m.parameters(), weight_decay=0.1)),
        "the weight decay of Adafactor is no penalty",
    ),
    "two penalties": (
        lambda m: dict(refit=False, l2=0.5, optimizer=torch.optim.SGD(m.parameters(), lr=0.1, weight_decay=0.1)),
        r"l2=0\.5 and an optimizer both say",
    ),
    "damping of a refitted head": (lambda m: dict(damping=5.0), "damping=5 is of a head that is kept"),
    "integer targets": (
        lambda m: dict(data=(X, 10 * Y), model=network(1)),
        r'or a regression \(family="linear"\)\?',
    ),
    "no model": (lambda m: dict(model=None, refit=False), "are of a network; give one as model="),
    "precision": (lambda m: dict(encoding=assay.Encoding(precision="int4")), "neither"),
    "keep": (lambda m: dict(encoding=assay.Encoding(keep="cloud")), "keep='cloud' is not one of"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore::assay.AssayWarning")
def test_refusals_leave_nothing_behind(trained, tmp_path, case):
    make, message = REFUSED[case]

    def run() -> None:
        given = {"data": (X, Y), "model": trained, "out": tmp_path / "audit", **make(trained)}
        assay.audit(given.pop("data"), **given)

    with pytest.raises(assay.AssayError, match=message):
        run()
    assert not (tmp_path / "audit").exists()


def test_absent_classes_are_no_trouble_to_a_refitted_head(trained):
    audit = assay.audit((X[Y < 2], Y[Y < 2]), model=trained, l2=1e-2)
    assert audit.info["classes"] == [0, 1]
    assert audit.info["trained"] is None


def test_bfloat16_is_close_and_says_so(trained):
    half = assay.audit((X, Y), model=trained, l2=1e-2, encoding=assay.Encoding(precision="bf16"))
    full = assay.audit((X, Y), model=trained, l2=1e-2)
    a, b = *columns(half, "cooks_distance"), *columns(full, "cooks_distance")
    assert not np.array_equal(a, b)
    assert np.corrcoef(a, b)[0, 1] > 0.99


def test_a_skorch_net_is_its_module(trained):
    net = skorch.NeuralNetClassifier(network, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0, module__seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(X, Y)
    found = assay.audit((X, Y), model=net, l2=1e-2)
    assert found.table.equals(assay.audit((X, Y), model=net.module_, l2=1e-2).table)


def test_weights_from_a_file(trained, tmp_path):
    from assay.features.weights import load_weights

    save_file(trained.state_dict(), tmp_path / "net.safetensors")
    torch.save(trained.state_dict(), tmp_path / "net.pt")
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "checkpoint.pt")
    for name in ("net.safetensors", "net.pt", "checkpoint.pt"):
        model = load_weights(network(seed=5), tmp_path / name)
        assert all(torch.equal(value, trained.state_dict()[key]) for key, value in model.state_dict().items())


class Harmful:
    """What a pickle could do."""

    def __reduce__(self):
        return (open, (json.dumps("harm"), "w"))


def test_weights_that_are_not_this_networks(trained, tmp_path, monkeypatch):
    from assay.features.weights import load_weights

    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Harmful()}, tmp_path / "harm.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"nothing")
    save_file(mlp([2, 3, 2]).state_dict(), tmp_path / "other.safetensors")
    wide = {**trained.state_dict(), "4.weight": torch.ones(3, 99)}
    save_file(wide, tmp_path / "wide.safetensors")
    save_file({**trained.state_dict(), "4.bias": torch.full((3,), torch.nan)}, tmp_path / "nan.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, message in (
        ("harm.pt", "needs code to be loaded, which is not executed"),
        ("torn.safetensors", "cannot be read as weights"),
        ("other.safetensors", r"is not of this Sequential: of its 9 weights and buffers .* are missing .* are unknown"),
        ("wide.safetensors", r"1 have another shape \(4\.weight\)"),
        ("nan.safetensors", "the weights '4.bias' are not all finite"),
        ("list.pt", "holds no state dict"),
        ("nowhere.pt", "there is no file"),
    ):
        with pytest.raises(assay.SourceError, match=message):
            load_weights(network(), tmp_path / name)
    assert not (tmp_path / '"harm"').exists()


def test_a_lightning_module_is_a_module(trained, tmp_path):
    lightning = pytest.importorskip("lightning", reason="lightning is not among what the tests install: run by hand")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            self.net.load_state_dict(trained.state_dict())

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch, k):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    found = assay.audit(td.TensorDataset(X, Y), model=Module(), l2=1e-2)
    expected = assay.audit((X, Y), model=trained, l2=1e-2)
    assert found.table.equals(expected.table)
    assert found.info["arguments"]["encoder"] == "Module before its layer 'net.4'"


@pytest.mark.parametrize("keep", ["memory", "file", "recompute"])
def test_mirrored_too_is_the_mean_embedding_of_both(trained, tmp_path, keep):
    encoding = assay.Encoding(keep=keep, mirror=True)
    audit = assay.audit((X, Y), model=trained, l2=1e-2, encoding=encoding, out=tmp_path / "a")
    found = split(trained, X)
    H = (found.embed(X) + found.embed(X.flip(3))) / 2
    assert not torch.allclose(H, found.embed(X))
    head = assay.Head.fit(H, Y, family="softmax", l2=1e-2, standardize=False)
    leverage = head.leverage(H, Y)
    assert_close(torch.tensor(audit.table["loo_loss"].to_numpy()), leverage.leave_one_out().loss, rtol=1e-5, atol=1e-7)
    new = audit.score((X[:9].numpy(), Y[:9].numpy()), model=trained)
    assert_close(
        torch.tensor(new["loss"].to_numpy()), torch.tensor(audit.table["loss"].to_numpy()[:9]), rtol=1e-6, atol=1e-9
    )
    if keep == "recompute":
        again = assay.load(tmp_path / "a", data=(X, Y), model=trained)
        assert again.explain(3).id == 3
    plain = assay.audit((X, Y), model=trained, l2=1e-2)
    assert plain.info["fingerprint"] != audit.info["fingerprint"]
    kept = assay.audit((X, Y), model=trained, refit=False, damping=1e-3, encoding=encoding)
    logits = (trained(X) + trained(X.flip(3))).detach() / 2
    expected = nn.functional.cross_entropy(logits.double(), Y, reduction="none")
    assert_close(torch.tensor(kept.table["loss"].to_numpy()), expected, rtol=1e-4, atol=1e-5)


def test_mirror_images_alone(trained):
    alone = assay.audit((X, Y), model=trained, l2=1e-2, encoding=assay.Encoding(mirror="only"))
    turned = assay.audit((X.flip(3), Y), model=trained, l2=1e-2)
    assert alone.table.equals(turned.table)
    assert alone.info["arguments"]["network"]["mirror"] == "only"
    new = alone.score((X[:9].numpy(), Y[:9].numpy()), model=trained)
    np.testing.assert_allclose(new["loss"].to_numpy(), alone.table["loss"].to_numpy()[:9], rtol=1e-6, atol=1e-9)


def of_mirror_images(audit) -> list:
    return [check for check in audit.trust.checks if "mirror" in check.name]


@pytest.fixture(scope="module")
def by_heart():
    """Images with random labels, and a network that has learnt them: the images, not their mirror images."""
    images = torch.randn(300, 1, 4, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 3, (300,), generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 3))
    train(model, images, labels, Training(300, lr=5e-3, batch_size=300))
    return images, labels, model.eval()


def test_a_network_that_knows_its_images_by_heart_is_found_out(by_heart):
    images, labels, model = by_heart
    right = torch.stack([model(x).argmax(1) == labels for x in (images, images.flip(3))]).double()
    shares = right.mean(1).tolist()
    assert shares[0] > shares[1] + 0.4
    (check,) = of_mirror_images(assay.audit((images, labels), model=model, l2=1e-2))
    assert check.verdict == "caution"
    assert f"{shares[0]:.1%} of 300 images, and of {shares[1]:.1%} of their mirror images" in check.sentence
    error = float((right[0] - right[1]).std()) / 300**0.5
    assert check.value == pytest.approx(shares[0] - shares[1] - 2 * error, rel=1e-2)
    one = nn.Sequential(*model[:3], nn.Linear(96, 1))  # of one logit: class 1 where it is positive
    with torch.no_grad():
        one[3].weight.copy_(model[3].weight[1:2] - model[3].weight[:1])
        one[3].bias.copy_(model[3].bias[1:2] - model[3].bias[:1])
    two = labels < 2
    (check,) = of_mirror_images(assay.audit((images[two], labels[two]), model=one, l2=1e-2))
    assert check.value > 0.2


def test_what_cannot_be_compared_with_mirror_images_is_not(by_heart):
    images, labels, model = by_heart
    held_out = np.where(np.arange(300) < 250, 1.0, 0.0)
    for audit in (
        assay.audit((images, labels), model=model, l2=1e-2, encoding=assay.Encoding(mirror="only")),
        assay.audit((images, labels), model=model, l2=1e-2, encoding=assay.Encoding(mirror=None)),
        assay.audit((images, np.array(["a", "b", "c"])[labels]), model=model, l2=1e-2),  # which outputs are they?
        assay.audit((images, labels), model=model, l2=1e-2, weight=held_out),  # held-out samples tell it better
        assay.audit((images.flatten(1), labels), model=model, l2=1e-2),
    ):
        assert not of_mirror_images(audit)


def test_the_images_compared_are_spread_over_all(by_heart, monkeypatch):
    """Sorted by class, in one block or many: the same images, of all classes."""
    from assay.features import agreement as module

    images, labels, model = by_heart
    order = labels.argsort(stable=True)
    monkeypatch.setattr(module, "SAMPLES", 40)
    found = [
        module.agreement(Network(model, encoding=assay.Encoding(batch=b)).encoded((images[order], labels[order])))
        for b in (7, 256)
    ]
    rows = order[torch.arange(40) * 300 // 40]
    right = model(images[rows].flip(3)).argmax(1) == labels[rows]
    assert found[0] == found[1]
    assert found[0].samples == 40
    assert found[0].mirrored == pytest.approx(float(right.double().mean()))


def test_only_images_have_a_mirror_image(trained):
    flat = nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(assay.ShapeError, match=r"mirror= is for images \[n, c, h, w\], but the inputs are \[120, 12\]"):
        assay.audit((X.flatten(1), Y), model=flat, l2=1e-2, encoding=assay.Encoding(mirror=True))


def test_a_kept_head_takes_two_passes(trained):
    """One that reads and sums, one that scores; a head that is fitted sums once a Newton step."""

    class Stages:
        def __init__(self) -> None:
            self.names: list[str] = []

        def start(self, stage: str, total: int) -> None:
            self.names.append(stage)

        def advance(self, n: int = 1) -> None:
            """Not looked at."""

        def done(self) -> None:
            """Nor this."""

    kept, fitted = Stages(), Stages()
    assay.audit((X, Y), model=trained, refit=False, damping=1e-3, progress=kept)
    assay.audit((X, Y), model=trained, l2=1e-2, progress=fitted)
    assert [name for name in kept.names if name in ("read", "fit", "score")] == ["read", "score"]
    assert fitted.names.count("fit") >= 2
