"""Which parameters are meant, and what is said where none are."""

import pytest
import torch
from nets import Block, cnn, objective, problem
from torch import nn

import assay
from assay.curvature.parameters import choose


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("7", ("7.weight", "7.bias")),
        ("7.bias", ("7.bias",)),
        ("*.bias", ("1.bias", "3.bias", "7.bias")),
        (nn.Conv2d, ("0.weight", "3.weight", "3.bias")),
        ([nn.Linear, nn.Conv2d, nn.Embedding], ("0.weight", "3.weight", "3.bias", "7.weight", "7.bias")),
        (["7", "0"], ("0.weight", "7.weight", "7.bias")),
        (lambda name, p: p.ndim > 1, ("0.weight", "3.weight", "7.weight")),
        (None, ("0.weight", "1.weight", "1.bias", "3.weight", "3.bias", "7.weight", "7.bias")),
    ],
)
def test_every_way_to_name_parameters(wanted, names):
    assert choose(cnn(), wanted).names == names


def test_a_module_names_its_own():
    net = cnn()
    assert choose(net, net[3]).names == ("3.weight", "3.bias")
    assert choose(Block(), "layer.self_attn").names[0] == "layer.self_attn.in_proj_weight"


def test_frozen_ones_are_left_out_and_tied_ones_count_once():
    net = cnn()
    net[3].bias.requires_grad_(False)
    assert choose(net, "3").names == ("3.weight",)
    tied = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    tied["b"].weight = tied["a"].weight
    assert choose(tied, "b.weight").names == ("a.weight",)


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ("layer4", r"params='layer4' matches no parameter of Sequential; it has 0.weight, .* and 1 more"),
        (["7", "nothing*"], r"params='nothing\*' matches no parameter"),
        (nn.Embedding, "params=Embedding matches no parameter"),
        ([nn.Embedding, nn.LSTM], "match no parameter"),
        (nn.Linear(2, 2), "params=Linear matches no parameter"),
        (lambda name, p: False, "matches no parameter"),
        (3, "params=3 is a int; give a name"),
        ("0", r"matches frozen parameters only \(0.weight\)"),
    ],
)
def test_what_matches_nothing_is_refused(wanted, match: str):
    net = cnn()
    net[0].requires_grad_(False)
    with pytest.raises(assay.ShapeError, match=match):
        choose(net, wanted)


def test_vectors_are_split_and_joined():
    chosen = choose(cnn())
    V = torch.randn(3, chosen.count)
    torch.testing.assert_close(chosen.join(chosen.split(V)), V)
    torch.testing.assert_close(chosen.join(chosen.split(V[0])), V[0])


def test_penalties_by_name_and_pattern():
    chosen = choose(cnn(), ["0", "7"])
    l2 = chosen.coefficients({"*": 0.1, "7.bias": 0.0, "0": 0.5})
    assert set(l2[chosen.slices["0.weight"]].tolist()) == {0.5}
    assert set(l2[chosen.slices["7.weight"]].tolist()) == {0.1}
    assert set(l2[chosen.slices["7.bias"]].tolist()) == {0.0}
    for bad, match in (({"3": 0.1}, "'3' matches none"), (-1.0, "l2=-1.0"), (float("nan"), "l2=nan")):
        with pytest.raises(assay.ShapeError, match=match):
            chosen.coefficients(bad)


def test_parameters_the_loss_does_not_depend_on_are_named():
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.loose = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    _, x, y = problem("head")
    net = Loose().double()
    with pytest.raises(assay.ShapeError, match=r"the loss does not depend on loose.weight, loose.bias"):
        objective(net, x, y).check()
    objective(net, x, y, params="used").check()


def mean(z, y):
    return nn.functional.cross_entropy(z, y)


def by_output(z, y):
    return z.square()


def mixing(z, y):
    return (z - z.mean(0)).square().sum(1)


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (mean, r"the loss gives shape \[\] for 4 samples, expected \[4\]: a mean or sum over them"),
        (by_output, r"the loss gives shape \[4, 3\] for 4 samples, expected \[4\]: give one"),
        (mixing, "the loss of a sample may not depend on the others"),
    ],
)
def test_a_loss_that_is_no_value_a_sample_is_refused(loss, match: str):
    net, x, y = problem("head")
    with pytest.raises(assay.ShapeError, match=match):
        objective(net, x, y, loss=loss).check()


@pytest.mark.parametrize("loss", ["hinge", 3, nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=0.1)])
def test_a_loss_that_is_not_known_is_refused(loss):
    net, x, y = problem("head")
    with pytest.raises(assay.ShapeError, match=r"give a function|or pass a loss"):
        objective(net, x, y, loss=loss)


class Cut(nn.Module):
    """Its output is cut off from its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x).detach()


def test_an_output_cut_off_from_every_parameter_is_refused():
    _, x, y = problem("head")
    with pytest.raises(assay.ShapeError, match=r"the loss does not depend on head.weight, head.bias"):
        objective(Cut().double(), x, y).check()
