"""Small networks in float64 with their data, and their curvature by brute force."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from assay.curvature.objective import NetworkObjective
from assay.curvature.output_loss import output_loss
from assay.curvature.parameters import choose
from assay.curvature.reading import Reading
from assay.sources.open_examples import open_examples

CLASSES = 3


class Block(nn.Module):
    """A transformer layer over five places, its mean, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, dropout=0.1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


def mlp(activation: type[nn.Module] = nn.Sigmoid) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), activation(), nn.Dropout(0.5), nn.Linear(5, CLASSES))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2), nn.ReLU(inplace=True),
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, CLASSES),
    )  # fmt: skip


SHAPES = {"sigmoid": (4,), "relu": (4,), "cnn": (1, 4, 4), "transformer": (5, 4), "head": (4,)}
MAKERS = {
    "sigmoid": mlp,
    "relu": lambda: mlp(nn.ReLU),
    "cnn": cnn,
    "transformer": Block,
    "head": lambda: nn.Linear(4, CLASSES),
}


def problem(name: str, n: int = 23, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A network in training mode, as users leave it, with inputs and labels."""
    torch.manual_seed(seed)
    net = MAKERS[name]().double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(n, *SHAPES[name], dtype=torch.float64)
    return net, x, torch.randint(0, CLASSES, (n,))


def objective(net, x, y, *, loss="softmax", params=None, l2=0.0, weights=None, **rest) -> NetworkObjective:
    chosen = choose(net, params)
    like = next(net.parameters()).detach()
    parsed = output_loss(loss)
    reading = Reading(open_examples((x, y), weights=weights), like, parsed.class_weight, parsed.ignored)
    return NetworkObjective(net, parsed, reading, chosen, chosen.coefficients(l2), **rest)


def flat(ob: NetworkObjective) -> Tensor:
    return ob.parameters.join(ob.theta)


def evaluated(net: nn.Module) -> nn.Module:
    """A copy of the settings only: eval mode and slow attention, for the oracles."""
    torch.backends.mha.set_fastpath_enabled(False)
    return net.eval()


def losses(ob: NetworkObjective, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    z = functional_call(ob.model, ob.parameters.split(theta), (x,))
    return functional.cross_entropy(z, y, reduction="none")


def dense_hessian(ob: NetworkObjective, x: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    w = torch.ones(len(x), dtype=torch.float64) if w is None else w
    training = ob.model.training
    evaluated(ob.model)
    with sdpa_kernel(SDPBackend.MATH):
        found = hessian(lambda t: w @ losses(ob, t, x, y) / w.sum() + ob.l2 @ t.square() / 2, flat(ob))  # torch.func's
        # own is wrong by 8 % for a transformer under torch 2.13: `jacrev` of `jacrev` through attention
    ob.model.train(training)
    return found.detach()


def dense_gauss_newton(ob: NetworkObjective, x: Tensor, y: Tensor) -> Tensor:
    training = ob.model.training
    evaluated(ob.model)
    z = functional_call(ob.model, ob.theta, (x,))
    with sdpa_kernel(SDPBackend.MATH):
        J = torch.func.jacrev(lambda t: functional_call(ob.model, ob.parameters.split(t), (x,)))(flat(ob))
    ob.model.train(training)
    p = torch.softmax(z, 1)
    S = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return (torch.einsum("ncp,nck,nkq->pq", J, S, J) / len(x) + torch.diag(ob.l2)).detach()
