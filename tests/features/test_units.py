"""A network of a table: columns and units are looked at wherever rows are read, and another architecture is noticed."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import assay
from assay.models.surrogate import surrogate

COLUMNS = ("a", "b")
X = np.stack([np.linspace(0, 10, 6000), np.tile(np.linspace(-1, 1, 60), 100)], 1).astype(np.float32)  # in grid order
TABLE = pd.DataFrame(X, columns=list(COLUMNS)).assign(y=(X.sum(1) > 5).astype(int))
ARGUMENTS = {"label": "y", "l2": 1e-2}
pytestmark = pytest.mark.filterwarnings("ignore:.* never vary:assay.AssayWarning")  # units that are never on


def network(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    net = surrogate([(0.0, 10.0), (-1.0, 1.0)], 2, width=8, depth=2, columns=COLUMNS)
    return nn.Sequential(*(activation() if isinstance(layer, nn.ReLU) else layer for layer in net))


@pytest.mark.parametrize("keep", ["memory", "file", "recompute"])
def test_another_unit_is_noticed_in_any_block(keep, tmp_path):
    """Times five the first 4,096 rows stay within twice the range; those after do not."""
    other = TABLE.assign(a=TABLE.a * 3)
    assert other.a[:4096].max() < 25 < other.a.max()
    with pytest.raises(assay.ShapeError, match=r"column 'a' has the value .*made for 0 to 10; is it in another unit\?"):
        assay.audit(other, model=network(), encoding=assay.Encoding(keep=keep), out=tmp_path / "a", **ARGUMENTS)


def test_new_rows_are_checked_as_the_audited_were():
    net = network()
    audit = assay.audit(TABLE, model=net, **ARGUMENTS)
    assert len(audit.score(TABLE[:50], model=net, label="y")) == 50
    with pytest.raises(assay.ShapeError, match="column 0 is 'b', but the network was made for 'a' there"):
        audit.score(TABLE[["b", "a", "y"]][:50], model=net, label="y")
    with pytest.raises(assay.ShapeError, match="column 'b' has the value"):
        audit.score(TABLE.assign(b=99.0)[:50], model=net, label="y")


def test_the_same_weights_in_another_architecture_are_another_network():
    net, other = network(), network(nn.Tanh)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    audit = assay.audit(TABLE, model=net, **ARGUMENTS)
    with pytest.raises(assay.ShapeError, match="with other weights"):
        audit.score(TABLE[:50], model=other, label="y")
    assert len(audit.score(TABLE[:50], model=network(), label="y")) == 50
