"""What runs on a GPU says what it says on the CPU. Skipped where there is none."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import assay
from assay.models.augment import crop_and_flip, normalise
from assay.models.efficientnet import efficientnet_b0
from assay.models.recipes import one_cycle_recipe
from assay.models.resnet import resnet
from assay.models.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU of CUDA on this machine")

N = 90
IMAGES = torch.randint(0, 256, (N, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(N) % 3


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # convolutions round to 10 bits otherwise


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Conv2d(6, 4, 3, stride=2), nn.Tanh(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def floats(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (IMAGES.to(dtype) - 128) / 64


@pytest.mark.parametrize("where", ["model", "encoding"])
@pytest.mark.parametrize("keep", ["memory", "file", "recompute"])
def test_an_audit_of_a_network_there(where, keep, tmp_path):
    model = small()
    on_cpu = assay.audit((floats(), LABELS), model=model, l2=1e-2, out=tmp_path / "cpu")
    if where == "model":
        there, encoding = copy.deepcopy(model).cuda(), assay.Encoding(keep=keep)
    else:
        there, encoding = model, assay.Encoding(device="cuda", keep=keep)
    on_gpu = assay.audit((floats(), LABELS), model=there, l2=1e-2, encoding=encoding, out=tmp_path / "gpu")
    for name in ("cooks_distance", "leverage", "loss", "mislabeled_score"):
        np.testing.assert_allclose(on_gpu.table[name], on_cpu.table[name], rtol=2e-4, atol=1e-7)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}  # a copy went there


def test_the_trained_head_beside_a_refitted_one():
    model = small().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(floats().cuda()), LABELS.cuda()).backward()
        optimizer.step()
    here = copy.deepcopy(model).cpu()
    told = torch.optim.SGD(here.parameters(), lr=0.05, weight_decay=1e-2)
    one = assay.audit((floats(), LABELS), model=model, refit="both", l2=1e-2, optimizer=optimizer)
    other = assay.audit((floats(), LABELS), model=here, refit="both", l2=1e-2, optimizer=told)
    for name in ("cooks_distance", "trained_cooks_distance"):
        np.testing.assert_allclose(one.table[name], other.table[name], rtol=5e-4, atol=1e-7)


INVERSES = {
    "dense": assay.Dense(damping=1e-2),
    "cg": assay.CG(damping=1e-2, preconditioner=assay.Nystrom(rank=40)),
    "nystrom": assay.Nystrom(rank=60, damping=1e-2),
    "arnoldi": assay.Arnoldi(rank=40, damping=1e-2),
    "kfac": assay.KFAC(damping=1e-2),
    "ekfac": assay.EKFAC(damping=1e-2),
}


@pytest.mark.filterwarnings("ignore::assay.AssayWarning")  # how far an approximation is off; the same on both
@pytest.mark.parametrize("name", INVERSES)
def test_influence_of_all_parameters(name):
    def scores(device: str) -> tuple[torch.Tensor, ...]:
        model = small().double().to(device)
        influence = assay.Influence(
            model,
            nn.CrossEntropyLoss(),
            (floats(torch.float64), LABELS),
            l2=1e-2,
            inverse=INVERSES[name],
            limit=10.0,
            curvature=assay.GaussNewton,
        )
        on = influence.on((floats(torch.float64)[:2], LABELS[:2]), top_k=3).supporters[0]
        return influence.self_influence().cooks_distance, on.values

    for one, other in zip(scores("cuda"), scores("cpu"), strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("made", [lambda: resnet(20), efficientnet_b0], ids=["resnet20", "efficientnet"])
def test_training_goes_on_where_it_stopped(made, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(epoch: int) -> None:
        raise Stopped

    def run(folder, at_checkpoint=lambda epoch: None):
        torch.manual_seed(0)
        model = made().cuda()
        recipe = replace(one_cycle_recipe(4, checkpoints=(2,)), batch_size=32)
        history = train(
            model, IMAGES.cuda(), LABELS, recipe, augment=crop_and_flip(), prepare=normalise, folder=folder,
            at_checkpoint=at_checkpoint,
        )  # fmt: skip
        return model, history

    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    apart, whole = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "parts", stop)
    model, joined = run(tmp_path / "parts")
    assert joined.epochs == whole.epochs == 4
    for one, other in zip(model.parameters(), apart.parameters(), strict=True):
        assert one.is_cuda
        assert_close(one, other, rtol=1e-3, atol=1e-4)  # without the optimiser's state they are 0.1 apart
