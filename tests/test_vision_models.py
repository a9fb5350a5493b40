"""Networks for images: as many parameters as published, the published shapes, and steps that follow from the seed."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

import assay
from assay.models import recipes
from assay.models.augment import MEAN, STD, crop_and_flip, normalise
from assay.models.efficientnet import Squeeze, StochasticDepth, efficientnet_b0
from assay.models.heads import paper, plain
from assay.models.resnet import Residual, resnet
from assay.models.training import Training, train
from assay.models.vgg import vgg19

IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 9, 3, 3, 7, 1])


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("make", "features", "width"),
    [
        (resnet, 269_722 - 650, 64),
        (lambda **kw: resnet(56, **kw), 853_018 - 650, 64),
        (vgg19, 20_040_522 - 5130, 512),
        (efficientnet_b0, 4_007_548, 1280),
        (lambda **kw: efficientnet_b0(stem_stride=1, **kw), 4_007_548, 1280),
    ],
    ids=["resnet20", "resnet56", "vgg19", "efficientnet", "efficientnet stride 1"],
)
def test_parameters_are_as_many_as_published(make, features, width):
    model = make()
    assert parameters(model.features) == features
    assert parameters(model.head) == width * 10 + 10
    assert parameters(make(head=paper).head) == width * 128 + 128 + 128 * 10 + 10
    assert parameters(make(classes=3).head) == width * 3 + 3


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        (lambda: resnet(), [32] * 4 + [16] * 3 + [8] * 3),
        (lambda: vgg19(), [16, 8, 4, 2, 1]),
        (lambda: efficientnet_b0(), [16, 16, 8, 8, 4, 4, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]),
        (lambda: efficientnet_b0(stem_stride=1), [32, 32, 16, 16, 8, 8, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2]),
    ],
    ids=["resnet20", "vgg19", "efficientnet", "efficientnet stride 1"],
)
def test_shapes(model, sizes):
    """Sides of the image after the stem and every block (VGG: every pooling), then features and logits."""
    network = model().eval()
    seen: list[int] = []
    kinds = (nn.MaxPool2d,) if any(isinstance(m, nn.MaxPool2d) for m in network.modules()) else ()
    for layer in network.features:
        if isinstance(layer, kinds or Residual) or type(layer).__name__ == "Inverted":
            layer.register_forward_hook(lambda layer, x, y: seen.append(y.shape[-1]))
    if not kinds:
        network.features[0].register_forward_hook(lambda layer, x, y: seen.append(y.shape[-1]))
    x = normalise(IMAGES[:2])
    features = network.features(x)
    assert list(dict.fromkeys(seen)) == list(dict.fromkeys(sizes))
    assert len(seen) == len(sizes) - (network.features[0].__class__ is nn.Sequential)
    assert features.shape == (2, network.head.in_features)
    assert network(x).shape == (2, 10)


@pytest.mark.parametrize(
    "make",
    [lambda: resnet(8, head=paper), lambda: vgg19(), lambda: efficientnet_b0(head=paper)],
    ids=["resnet", "vgg19", "efficientnet"],
)
def test_a_step_follows_from_the_seed(make):
    """Weights, dropout, dropped branches and augmentation: the same bits from the same seed, others from another."""

    def stepped(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = make()
        train(model, IMAGES, LABELS, Training(1, lr=1e-3, batch_size=6, seed=seed), augment=crop_and_flip())
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = stepped(0)
    assert torch.equal(first, stepped(0))
    assert not torch.equal(first, stepped(1))


def test_a_residual_block_without_a_branch_is_its_shortcut():
    block = Residual(4, 6, 2).eval()
    nn.init.zeros_(block.body[-1].weight)
    x = torch.randn(2, 4, 8, 8)
    y = block(x)
    assert_close(y[:, :4], x[:, :, ::2, ::2].relu())
    assert not y[:, 4:].any()


def test_convolutions_are_drawn_as_published():
    """Variance 2 / fan: He et al. (2015) from the inputs; EfficientNet from the outputs, those of the own group."""
    torch.manual_seed(0)
    wide = [m for m in resnet().modules() if isinstance(m, nn.Conv2d)][-1]
    assert float(wide.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    convolutions = [m for m in efficientnet_b0().modules() if isinstance(m, nn.Conv2d)]
    depthwise = next(m for m in convolutions if m.groups == 1152 and m.kernel_size == (5, 5))
    assert float(depthwise.weight.detach().std()) == pytest.approx((2 / 25) ** 0.5, rel=0.02)
    assert float(convolutions[-1].weight.detach().std()) == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert not any(m.bias.any() for m in vgg19().modules() if isinstance(m, nn.Conv2d))


def test_whole_branches_are_dropped_and_the_others_grow():
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.25), torch.ones(4000, 2, 3, 3)
    y = layer(x)
    assert_close(y.amax((1, 2, 3)), y.amin((1, 2, 3)))
    assert y.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(y.mean()) == pytest.approx(1, abs=0.04)
    assert torch.equal(layer.eval()(x), x)
    shares = [m.p for m in efficientnet_b0(drop=0.16).modules() if isinstance(m, StochasticDepth)]
    assert shares == pytest.approx([k / 100 for k in range(16)])


def test_squeeze_and_excitation():
    layer, x = Squeeze(6, 2), torch.randn(3, 6, 4, 4)
    W1, W2 = layer.factor[1], layer.factor[3]
    mean = x.mean((2, 3))
    hidden = functional.silu(mean @ W1.weight[:, :, 0, 0].T + W1.bias)
    factor = torch.sigmoid(hidden @ W2.weight[:, :, 0, 0].T + W2.bias)
    assert_close(layer(x), x * factor[:, :, None, None])


def test_batch_norm_of_efficientnet_has_the_published_epsilon():
    norms = [m for m in efficientnet_b0().modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.1)}


def test_heads():
    assert isinstance(plain(8, 3), nn.Linear)
    kinds = [type(layer) for layer in paper(8, 3)]
    assert kinds == [nn.Linear, nn.LeakyReLU, nn.Dropout, nn.Linear]
    assert paper(8, 3)[2].p == 0.4
    assert parameters(resnet(8, head=lambda width, classes: nn.Identity()).head) == 0


def test_images_are_normalised():
    x = normalise(IMAGES)
    naive = (IMAGES.double() / 255 - torch.tensor(MEAN).double()[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert_close(x.double(), naive, rtol=0, atol=1e-6)  # 24 bits of values up to 3
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert_close(normalise(IMAGES / 255), x, rtol=0, atol=1e-6)
    assert x.dtype == torch.float32


def coded(n: int, side: int = 8) -> torch.Tensor:
    """Images of which every pixel tells its row, its column and that it is inside, as floats."""
    rows = torch.arange(side).float()[:, None].expand(side, side)
    return torch.stack([rows / 10, rows.T / 10, torch.ones(side, side)]).repeat(n, 1, 1, 1)


def test_crops_and_flips_are_all_there_and_evenly():
    """Each image is one of 5 × 5 shifts and two directions, pixel for pixel, beyond the edge the mean."""
    n, side, padding = 3000, 8, 2
    x = crop_and_flip(padding)(coded(n, side), torch.Generator().manual_seed(0))
    assert x.is_contiguous(memory_format=torch.channels_last)
    padded = functional.pad(normalise(coded(1, side)), (padding,) * 4)[0]
    seen = torch.zeros(n, dtype=torch.int64)
    for down in range(2 * padding + 1):
        for right in range(2 * padding + 1):
            crop = padded[:, down : down + side, right : right + side]
            for direction in (crop, crop.flip(2)):
                same = (x == direction).flatten(1).all(1)
                seen += same
                assert int(same.sum()) == pytest.approx(n / 50, abs=5 * (n / 50) ** 0.5)
    assert seen.tolist() == [1] * n


def test_an_augmentation_follows_from_its_generator():
    augment = crop_and_flip()
    first = augment(IMAGES, torch.Generator().manual_seed(1))
    torch.rand(1)
    assert torch.equal(first, augment(IMAGES, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, augment(IMAGES, torch.Generator().manual_seed(2)))
    assert first.shape == IMAGES.shape
    assert first.dtype == torch.float32
    unmoved = crop_and_flip(0)(IMAGES, torch.Generator().manual_seed(1))
    x = normalise(IMAGES)
    assert all(torch.equal(u, a) or torch.equal(u, a.flip(2)) for u, a in zip(unmoved, x, strict=True))


def rates(training: Training) -> list[float]:
    return [training.lr * training.schedule(epoch / training.epochs) for epoch in range(training.epochs)]


def test_recipes():
    paper_rates = rates(recipes.paper())
    assert paper_rates == pytest.approx([1e-3 * 0.5 ** (epoch // 10) for epoch in range(60)])
    assert (recipes.paper().optimizer, recipes.paper().batch_size) == (torch.optim.Adam, 128)
    cycle = rates(recipes.one_cycle_recipe(12, checkpoints=(4, 12)))
    assert max(cycle) == cycle[3] == recipes.one_cycle_recipe().lr
    assert cycle[-1] < cycle[3] / 10
    assert recipes.one_cycle_recipe(12, checkpoints=(4, 12)).checkpoints == (4, 12)
    assert set(rates(recipes.overtrained())) == {5e-4}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: resnet(18), r"depth=18, width=16; the depth is 8, 14, 20"),
        (lambda: resnet(2), r"depth=2"),
        (lambda: resnet(8, classes=1), "classes=1; a classifier has two or more"),
        (lambda: efficientnet_b0(stem_stride=3), "stem_stride=3; it is 1 or 2"),
        (lambda: normalise(IMAGES.long()), "images are torch.int64; give bytes"),
        (lambda: crop_and_flip(-1), "padding=-1 pixels"),
    ],
)
def test_refusals(run, message):
    with pytest.raises(assay.ShapeError, match=message):
        run()
