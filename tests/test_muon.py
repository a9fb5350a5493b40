"""Muon: filters against the polar factor of their momentum, all else against torch's SGD; resumed to the bit."""

from collections.abc import Callable
from math import log10
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from assay.models.augment import normalise
from assay.models.muon import Muon, orthogonalised
from assay.models.resnet import resnet
from assay.models.schedules import one_cycle
from assay.models.training import Training, train

LEAST, MOST = 0.68, 1.21
"""Of the composed quintic over [0.002, 1], looked up on a grid of 100,000 points."""


@pytest.mark.parametrize("shape", [(4, 36), (16, 16), (30, 7), (1, 5), (5, 1)])
def test_the_singular_values_become_nearly_one_and_the_vectors_stay(shape: tuple[int, int]):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linspace(0.02, 1, len(values), dtype=torch.float64)
    found = u.T @ orthogonalised(3 * (u * values) @ v) @ v.T
    assert_close(found, found.diag().diag(), rtol=0, atol=1e-10)
    x = values / values.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    assert_close(found.diag(), x)
    assert not orthogonalised(torch.zeros(shape)).any()


def test_filters_of_zero_stay_numbers():
    layer = nn.Conv2d(1, 2, 1, bias=False)
    nn.init.zeros_(layer.weight)
    stepped(Muon(layer.parameters(), 0.1), lambda: layer.weight.sum(), 1)
    assert layer.weight.isfinite().all()


def test_the_iteration_takes_any_but_the_smallest_to_near_one():
    for each in torch.logspace(log10(0.002), 0, 100, dtype=torch.float64):
        pair = torch.stack([each, (1 - each**2).clamp(min=0).sqrt()]).diag()  # Frobenius norm 1
        assert LEAST <= orthogonalised(pair).diag()[0] <= MOST


def loss_of(model: nn.Module, target: torch.Tensor) -> torch.Tensor:
    return sum(((p - target) ** 2).sum() * k for k, p in enumerate(model.parameters(), 1))  # pyright: ignore


def stepped(optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor], steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_what_is_no_filter_moves_by_sgd():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    target = torch.tensor(0.3)
    stepped(Muon(ours.parameters(), 0.01, momentum=0.8, weight_decay=0.1), lambda: loss_of(ours, target), 7)
    sgd = torch.optim.SGD(theirs.parameters(), 0.01, momentum=0.8, weight_decay=0.1, nesterov=True)
    stepped(sgd, lambda: loss_of(theirs, target), 7)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(one, other)


def test_filters_keep_their_norm_and_turn_by_the_polar_factor_of_their_momentum():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, bias=False, dtype=torch.float64)
    first, then = torch.randn_like(layer.weight), torch.randn_like(layer.weight)
    expected = layer.weight.detach().flatten(1).clone()
    optimizer = Muon(layer.parameters(), 0.1, filters=0.5, momentum=0.9)
    for slope, ahead in ((first, 1.9 * first), (then, then + 0.9 * (then + 0.9 * first))):
        stepped(optimizer, lambda slope=slope: (layer.weight * slope).sum(), 1)
        expected = expected * 2 / expected.norm() - 0.05 * orthogonalised(ahead.flatten(1))
        assert_close(layer.weight.detach().flatten(1), expected)


def test_an_interrupted_training_with_it_ends_in_the_same_bits(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(24) % 3
    settings = Training(4, lr=0.2, optimizer=Muon, schedule=one_cycle(0.3), batch_size=10)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return resnet(8, width=2, classes=3)

    whole, torn = network(), network()
    train(whole, images, labels, settings, prepare=normalise)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(torn, images, labels, settings, prepare=normalise, folder=tmp_path, advance=stop)
    train(torn, images, labels, settings, prepare=normalise, folder=tmp_path)
    for one, other in zip(whole.parameters(), torn.parameters(), strict=True):
        assert torch.equal(one, other)
