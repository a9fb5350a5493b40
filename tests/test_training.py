"""The training loop: seeded, resumed to the bit, stopped when it should; many seeds side by side as each alone."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import minimize
from torch import nn
from torch.testing import assert_close

import assay
from assay.datasets.toys import noisy_circle
from assay.models.augment import crop_and_flip, normalise
from assay.models.mlp import mlp
from assay.models.resnet import resnet
from assay.models.schedules import constant, cosine, one_cycle, step
from assay.models.stacked import Stacked
from assay.models.training import ElasticNet, Training, train

TOY = noisy_circle(120, seed=0)
X, Y = torch.tensor(TOY.points).float(), torch.tensor(TOY.labels)


def network(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(seed)
    return mlp([2, 8, 2], activation=nn.ReLU, dropout=dropout)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def shift(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return batch + 0.01 * torch.randn(batch.shape, generator=generator)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    settings = Training(5, lr=1e-2, batch_size=32)
    first, second, other = network(dropout=0.3), network(dropout=0.3), network(dropout=0.3)
    torch.manual_seed(1)
    train(first, X, Y, settings, augment=shift)
    torch.manual_seed(2)  # what the caller draws makes no difference, nor is it disturbed
    state = torch.get_rng_state()
    train(second, X, Y, settings, augment=shift)
    assert torch.equal(torch.get_rng_state(), state)
    train(other, X, Y, replace(settings, seed=1), augment=shift)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))
    assert not first.training


OPTIMIZERS = [
    (torch.optim.Adam, ()),
    (torch.optim.AdamW, (("weight_decay", 1e-2),)),
    (torch.optim.SGD, (("momentum", 0.9), ("weight_decay", 1e-3))),
]


@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_an_interrupted_training_ends_in_the_same_bits(tmp_path, optimizer, options, stop):
    settings = Training(
        9, lr=1e-2, optimizer=optimizer, options=options, schedule=cosine, batch_size=32, checkpoints=(3, 9)
    )
    whole = network(dropout=0.2)
    expected = train(whole, X, Y, settings, augment=shift, folder=tmp_path / "whole")

    class Stop(Exception):
        pass

    left = [stop]

    def interrupt() -> None:
        left[0] -= 1
        if not left[0]:
            raise Stop

    resumed = network(dropout=0.2)
    with pytest.raises(Stop):
        train(resumed, X, Y, settings, augment=shift, folder=tmp_path / "torn", advance=interrupt)
    again = network(seed=5, dropout=0.2)  # its own weights are of no matter
    found = train(again, X, Y, settings, augment=shift, folder=tmp_path / "torn")
    assert torch.equal(weights(again), weights(whole))
    assert found.loss == expected.loss
    for name in ("epoch-00003.safetensors", "epoch-00009.safetensors"):
        one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "torn" / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


SCRIPT = """
import sys, torch
from assay.models.mlp import mlp
from assay.models.training import Training, train
from assay.datasets.toys import noisy_circle
toy = noisy_circle(120, seed=0)
torch.manual_seed(0)
model = mlp([2, 8, 2])
train(model, torch.tensor(toy.points).float(), torch.tensor(toy.labels), Training(200, batch_size=16),
      folder=__import__("pathlib").Path(sys.argv[1]))
print(float(sum(p.double().sum() for p in model.parameters())).hex())
"""


def test_a_killed_training_ends_in_the_same_bits(tmp_path):
    def run(folder) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, text=True)

    whole = run(tmp_path / "whole")
    torn = run(tmp_path / "torn")
    state = tmp_path / "torn" / "state.safetensors"
    while not state.exists() and torn.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(torn.pid, signal.SIGKILL)
    torn.communicate()
    assert torn.returncode == -signal.SIGKILL
    again = run(tmp_path / "torn")
    assert again.communicate()[0] == whole.communicate()[0] != ""


def test_another_trainings_state_is_refused(tmp_path):
    train(network(), X, Y, Training(2, batch_size=32), folder=tmp_path)
    with pytest.raises(assay.OutputError, match="holds the state of another training"):
        train(network(), X, Y, Training(3, batch_size=32), folder=tmp_path)
    for other in ({"labels": 1 - Y}, {"training": Training(2, batch_size=32, optimizer=torch.optim.SGD)}):
        with pytest.raises(assay.OutputError, match="holds the state of another training"):
            train(
                network(),
                **{"inputs": X, "labels": Y, "training": Training(2, batch_size=32), **other},
                folder=tmp_path,
            )


def test_patience_keeps_the_best_weights(tmp_path):
    settings = Training(60, lr=0.05, batch_size=16, patience=5)
    model = network()
    kept: list[torch.Tensor] = []
    history = train(
        model, X[:60], Y[:60], settings, validation=(X[60:], Y[60:]), advance=lambda: kept.append(weights(model))
    )
    assert history.epochs < 60
    assert history.best == history.epochs - 5
    assert min(history.validation_loss) == history.validation_loss[history.best - 1]
    assert torch.equal(weights(model), kept[history.best - 1])


def test_full_batch_training_reaches_the_minimum_and_stops():
    """A linear model with a penalty: the gradient ends below the tolerance, at scipy's minimum."""
    torch.manual_seed(0)
    model = mlp([2, 2]).double()
    settings = Training(
        20_000, lr=2e-2, batch_size=None, penalty=ElasticNet(l2=1e-2), tolerance=1e-6, schedule=constant
    )
    history = train(model, X.double(), Y, settings)
    assert history.epochs < 20_000
    assert history.gradient_norm[-1] <= 1e-6
    x, y = X.double().numpy(), Y.numpy()

    def objective(theta: np.ndarray) -> float:
        z = x @ theta[:4].reshape(2, 2).T + theta[4:]
        return float(np.mean(np.logaddexp(z[:, 0], z[:, 1]) - z[np.arange(len(y)), y]) + 5e-3 * (theta[:4] ** 2).sum())

    best = minimize(objective, np.zeros(6), tol=1e-12)
    assert history.loss[-1] == pytest.approx(best.fun, abs=1e-9)


def test_an_elastic_net_is_on_the_weights_of_the_last_layer():
    model = network()
    W = model[-1].weight
    assert_close(ElasticNet(0.1, 0.4)(model), 0.1 * W.abs().sum() + 0.2 * W.square().sum())


def test_an_elastic_net_is_on_as_many_layers_as_are_asked_for():
    model = mlp([2, 8, 4, 2])
    weights = [model[2].weight, model[4].weight]
    expected = sum(0.1 * W.abs().sum() + 0.2 * W.square().sum() for W in weights)
    assert_close(ElasticNet(0.1, 0.4, layers=2)(model), expected)
    for layers in (0, 4):
        with pytest.raises(assay.ShapeError, match=rf"layers={layers}, but the model has 3 nn\.Linear"):
            ElasticNet(0.1, 0.4, layers=layers)(model)


IMAGES = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CODES = torch.arange(24) % 3


def small_resnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return resnet(8, width=4, classes=3)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_an_interrupted_training_of_images_ends_in_the_same_bits(tmp_path, precision):
    """Half precision, weights whose channels lie last, running statistics: all come back as they were."""
    settings = Training(
        4,
        lr=1e-2,
        optimizer=torch.optim.SGD,
        options=(("momentum", 0.9), ("nesterov", True)),
        batch_size=8,
        precision=precision,
    )

    def run(model: nn.Module, folder, **more):
        data = {"augment": crop_and_flip(2), "prepare": normalise, "validation": (IMAGES[:7], CODES[:7])}
        return train(model, IMAGES, CODES, settings, **data, folder=tmp_path / folder, **more)

    whole = small_resnet()
    expected = run(whole, "whole")

    class Stop(Exception):
        pass

    def interrupt() -> None:
        raise Stop

    with pytest.raises(Stop):
        run(small_resnet(), "torn", advance=interrupt)
    again = small_resnet(seed=5)
    found = run(again, "torn")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
        assert value.dtype in (torch.float32, torch.int64)
    assert (found.loss, found.validation_loss) == (expected.loss, expected.validation_loss)


def test_a_precision_is_that_of_the_network_alone(tmp_path):
    seen: list[torch.dtype] = []
    model = network()
    model[1].register_forward_hook(lambda layer, x, y: seen.append(y.dtype))

    def loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(z.dtype)
        return nn.functional.cross_entropy(z, y)

    settings = Training(1, batch_size=120, precision=torch.bfloat16)
    train(model, X, Y, settings, loss=loss, folder=tmp_path)
    assert seen == [torch.bfloat16, torch.float32]
    with pytest.raises(assay.OutputError, match="holds the state of another training"):
        train(network(), X, Y, replace(settings, precision=None), loss=loss, folder=tmp_path)


def test_what_is_prepared_is_what_the_network_sees():
    """Validation is never augmented; without an augmentation, training inputs are prepared too."""
    seen: list[float] = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    model.register_forward_pre_hook(lambda layer, x: seen.append(float(x[0].mean())))
    x, y = torch.zeros(4, 1), torch.tensor([0, 1, 0, 1])
    given = {"prepare": lambda batch: batch + 1, "validation": (x, y)}
    train(model, x, y, Training(1, batch_size=4), **given)
    train(model, x, y, Training(1, batch_size=4), **given, augment=lambda batch, generator: batch + 2)
    assert seen == [1.0, 1.0, 2.0, 1.0]


def test_schedules_are_what_they_say():
    assert [constant(0.0), constant(0.9)] == [1.0, 1.0]
    assert cosine(0.0) == 1.0
    assert cosine(0.5) == pytest.approx(0.5)
    halves = step([0.5, 0.75])
    assert [halves(0.4), halves(0.5), halves(0.8)] == pytest.approx([1.0, 0.1, 0.01])
    cycle = one_cycle(peak=0.25, start=0.1, end=0.01)
    assert [cycle(0.0), cycle(0.25)] == pytest.approx([0.1, 1.0])
    assert cycle(0.9999999) == pytest.approx(0.01, abs=1e-6)
    torch_rates = []
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(10):
        torch_rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert [cosine(k / 10) for k in range(10)] == pytest.approx(torch_rates)


def test_networks_side_by_side_go_each_its_own_way():
    """Every network of a stack ends where it ends alone: to rounding, as batched products add in another order."""
    toys = [noisy_circle(60, seed=seed) for seed in range(3)]
    points = torch.stack([torch.tensor(toy.points) for toy in toys])
    labels = torch.stack([torch.tensor(toy.labels) for toy in toys])
    settings = Training(200, lr=1e-2, batch_size=None)

    def made(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        return mlp([2, 6, 2]).double()

    def summed(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1).sum()

    stack = Stacked([made(seed) for seed in range(3)])
    train(stack, points, labels, settings, loss=summed)
    assert len(stack) == 3
    for seed in range(3):
        alone = made(seed)
        train(alone, points[seed], labels[seed], settings)
        for name, value in stack.state_of(seed).items():
            assert_close(value, alone.state_dict()[name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: train(network(), X, Y[:5], Training(1)), "120 inputs, but 5 labels"),
        (lambda: train(network(), X, Y, Training(1, patience=2)), "patience watches the validation loss"),
        (lambda: train(network(), X * torch.nan, Y, Training(2)), r"the loss of epoch 1 is nan; lower lr=0\.001"),
        (lambda: Training(0), "epochs=0"),
        (lambda: Training(5, tolerance=1e-3), "train with batch_size=None"),
        (lambda: Training(5, checkpoints=(6,)), "checkpoint 6 is not one of the epochs 1 to 5"),
        (lambda: mlp([2]), r"widths=\[2\]"),
        (lambda: Stacked([nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))]), "buffers .* cannot be trained side"),
        (lambda: Stacked([network(dropout=0.5)]), "dropout cannot be trained side by side"),
    ],
)
def test_refusals(run, message):
    with pytest.raises(assay.AssayError, match=message):
        run()


def test_a_state_is_read_without_pickle(tmp_path):
    train(network(), X, Y, Training(1, batch_size=32), folder=tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}
    raw = (tmp_path / "state.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["training"])["history"]["best"] == 1
