"""A network split into encoder and head: any architecture, left bit-identical, or refused with a reason."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

import assay
from assay.features.split import split

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": None}


def network(widths: list[int], *, bias: bool, norm: str, dropout: float, classes: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    before = 6
    for width in widths:
        layers.append(nn.Linear(before, width, bias=bias))
        if (kind := NORMS[norm]) is not None:
            layers.append(kind(width))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, classes, bias=bias))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 9), max_size=3),
    st.booleans(),
    st.sampled_from(sorted(NORMS)),
    st.sampled_from([0.0, 0.5]),
    st.integers(1, 5),
    st.integers(0, 9),
    st.booleans(),
)
def test_any_architecture_is_split_and_left_as_it_was(widths, bias, norm, dropout, classes, seed, training):
    model = network(widths, bias=bias, norm=norm, dropout=dropout, classes=classes, seed=seed)
    model.train(training)
    model[-1].train(not training)  # flags may differ from module to module
    model[-1].weight.grad = torch.ones_like(model[-1].weight)
    state = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    found = split(model, X)
    embeddings = found.embeddings(X, batch=7)
    labels = torch.arange(40) % max(classes, 2)
    family = "logistic" if classes == 1 else "softmax"
    head = assay.Head.from_module(found.linear, embeddings, labels, family=family, l2=1e-3, damping=1e-3)
    assert torch.isfinite(head.leverage(embeddings, labels).cooks_distance()).all()
    assert found.linear is model[-1]
    assert [module.training for module in model.modules()] == flags
    assert all(not module._forward_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert torch.equal(model[-1].weight.grad, torch.ones_like(model[-1].weight))
    assert not embeddings.requires_grad
    model.eval()
    with (
        torch.no_grad()
    ):  # batch by batch: a norm of two nearly equal values enlarges what rounding differs by in others
        given, wanted = ([layer(part) for part in of.split(7)] for layer, of in ((model[-1], embeddings), (model, X)))
        assert_close(torch.cat(given), torch.cat(wanted))


class Custom(nn.Module):
    """Encoder, head, and one thing that makes it no plain classifier."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.encoder = nn.Linear(6, 6)
        self.head = nn.Linear(6, 6)
        self.other = nn.Linear(6, 3)
        if how == "tied":
            self.head.weight = self.encoder.weight

    def forward(self, x: Tensor) -> object:
        h = torch.relu(self.encoder(x))
        z = self.head(h)
        return {
            "softmax": lambda: z.softmax(-1),
            "log-softmax": lambda: z.log_softmax(-1),
            "sigmoid": lambda: z.sigmoid(),
            "scaled": lambda: 2 * z,
            "twice": lambda: self.head(z),
            "two heads": lambda: (z, self.other(h)),
            "tokens": lambda: self.head(h[:, None].expand(-1, 4, -1)),
            "tied": lambda: z,
            "summed": lambda: z.sum(1),
            "skipped": lambda: z + h,
        }[self.how]()


REFUSED = {
    "softmax": "not that of its last linear layer 'head': a softmax follows it; return the logits",
    "log-softmax": "a log-softmax follows it",
    "sigmoid": "a sigmoid follows it",
    "scaled": "something else is computed behind it",
    "skipped": "something else is computed behind it or beside it",
    "twice": "layer 'head' is called 2 times a run",
    "two heads": "Custom returns a tuple of 2; wrap it",
    "tokens": r"called 2 times|sees \[40, 4, 6\] for 40 samples",
    "tied": "the weights of layer 'head' are tied \\('encoder.weight', 'head.weight'\\)",
    "summed": r"it has shape \[40\], the layer gives \[40, 6\]",
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_model_whose_output_is_not_its_last_layers_is_refused(how: str):
    model = Custom(how)
    with pytest.raises(assay.ShapeError, match=REFUSED[how]):
        split(model, X)
    assert model.training
    assert not model.head._forward_hooks


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.view(-1, 2, 3, 1)).mean((2, 3))


def test_other_models_and_inputs_that_cannot_be():
    with pytest.raises(assay.ShapeError, match=r"Convolution calls no trainable nn\.Linear; .* \(a 1×1 convolution"):
        split(Convolution(), X)
    frozen = network([4], bias=True, norm="none", dropout=0.0, classes=2, seed=0).requires_grad_(False)
    with pytest.raises(assay.ShapeError, match="calls no trainable"):
        split(frozen, X)
    model = network([4], bias=True, norm="none", dropout=0.0, classes=2, seed=0)
    with pytest.raises(assay.ShapeError, match=r"cannot run on inputs of shape \[40, 5\]"):
        split(model, X[:, :5])
    with pytest.raises(assay.ShapeError, match=r"layer='fc' is no trainable nn\.Linear .* those are '0', '3'"):
        split(model, X, layer="fc")
    with pytest.raises(assay.SourceError, match="no inputs"):
        split(model, X[:0])
    broken = X.clone()
    broken[33] = torch.nan
    with pytest.raises(assay.SourceError, match="embedding of sample 33 is not finite"):
        split(model, X).embeddings(broken)


def test_an_audit_of_a_network_is_that_of_its_embeddings():
    model = network([16], bias=True, norm="batch", dropout=0.3, classes=3, seed=0)
    y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
    audit = assay.audit((X, y), model=model, l2=1e-2)
    embeddings = split(model, X).embeddings(X)
    expected = assay.Head.fit(embeddings, y, l2=1e-2, standardize=False).leverage(embeddings, y)
    # two starts, both ended at a gradient of 1e-8 of its scale
    assert_close(torch.tensor(audit.table["cooks_distance"].to_numpy()), expected.cooks_distance(), rtol=1e-6, atol=0)
    with pytest.raises(assay.ShapeError, match="its inputs must be one tensor or array"):
        assay.audit((["a", "b"], [0, 1]), model=model)


def test_inputs_as_wide_as_the_embedding_are_not_taken_for_it():
    model = network([6], bias=True, norm="none", dropout=0.0, classes=3, seed=0)
    y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
    audit = assay.audit((X, y), model=model, l2=1e-2)
    with pytest.raises(assay.ShapeError, match=r"made through Sequential before its layer '3'"):
        audit.score((X, y))
    embeddings = split(model, X).embeddings(X)
    found, expected = audit.score((X, y), model=model), audit.score((embeddings, y), encoded=True)
    assert found["loss"].to_pylist() == expected["loss"].to_pylist()
    other = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))
    with pytest.raises(assay.ShapeError, match=r"but this model has Sequential before its layer '1'"):
        audit.score((X, y), model=other)
