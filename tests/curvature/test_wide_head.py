"""EKFAC of a wide softmax head in closed form, against the layer-by-layer one that knows nothing of softmax."""

import numpy as np
import pytest
import torch
from nets import objective
from torch import nn

import assay
from assay.curvature.kfac import EKFAC
from assay.curvature.products import GaussNewton
from assay.curvature.wide_head import WideHead


def head(bias: bool = True, n: int = 90):
    torch.manual_seed(0)
    layer = nn.Linear(7, 5, bias=bias).double()
    x = torch.randn(n, 7, dtype=torch.float64)
    return layer, x, torch.randint(0, 5, (n,))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 4096])
def test_closed_form_is_ekfac(bias: bool, rows: int):
    layer, x, y = head(bias)
    wide = WideHead(x.numpy(), y.numpy(), layer.weight, layer.bias, l2=0.01, damping=1e-3, rows=rows)
    ob = objective(layer, x, y, l2=0.01)
    layered = EKFAC(1e-3).of(GaussNewton(ob)).self_influence(ob).value
    torch.testing.assert_close(wide.self_influence(), layered, rtol=1e-4, atol=1e-6)


def test_features_stay_on_disk(tmp_path):
    layer, x, y = head()
    np.save(tmp_path / "h.npy", x.numpy().astype(np.float16))
    mapped = np.load(tmp_path / "h.npy", mmap_mode="r")
    found = WideHead(mapped, y.numpy(), layer.weight, layer.bias, damping=1e-2, rows=16).self_influence()
    near = WideHead(x.numpy(), y.numpy(), layer.weight, layer.bias, damping=1e-2).self_influence()
    torch.testing.assert_close(found, near, rtol=0.02, atol=1e-4)
    assert WideHead(mapped, y.numpy(), layer.weight, layer.bias).flops() > 90 * 7 * 5


def test_what_does_not_go_together_is_refused():
    layer, x, y = head()
    x, y = x.numpy(), y.numpy()
    bad = x.copy()
    bad[17, 3] = np.inf
    other = y.copy()
    other[20] = 5
    for make, error, match in (
        (lambda: WideHead(x[:, :6], y, layer.weight), assay.ShapeError, "features are 90 × 6"),
        (lambda: WideHead(x, y, layer.weight, damping=-1.0), assay.ShapeError, "damping=-1"),
        (lambda: WideHead(x, y, layer.weight, rows=0), assay.ShapeError, "rows=0"),
        (lambda: WideHead(bad, y, layer.weight, damping=0.1).self_influence(), assay.SourceError, "row 17: features"),
        (lambda: WideHead(x, other, layer.weight, damping=0.1).self_influence(), assay.SourceError, "row 20 has the"),
        (lambda: WideHead(x, y, layer.weight).self_influence(), assay.SingularCurvatureError, "give l2= or damping="),
    ):
        with pytest.raises(error, match=match):
            make()


def test_scores_of_a_head_that_is_sure_are_as_exact_as_the_others():
    """`p_y − 1` in float32 would lose them."""
    layer, x, _ = head()
    with torch.no_grad():
        layer.weight *= 12
    y = layer(x).argmax(1)
    wide = WideHead(x.numpy(), y.numpy(), layer.weight, layer.bias, damping=0.1).self_influence()
    layered = EKFAC(0.1).of(GaussNewton(objective(layer, x, y))).self_influence(objective(layer, x, y)).value
    assert float(layered.min()) < 1e-13 * float(layered.max())
    torch.testing.assert_close(wide, layered, rtol=1e-3, atol=0)


def test_a_small_damping_is_enough():
    layer, x, y = head()
    WideHead(100 * x.numpy(), y.numpy(), layer.weight / 100, layer.bias, damping=1e-5).self_influence()
