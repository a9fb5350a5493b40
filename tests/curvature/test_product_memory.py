"""A product stays within the bytes it is given; measured in a process of its own."""

import subprocess
import sys

import pytest

MEASURE = """
import sys
import torch
from assay.curvature.objective import NetworkObjective
from assay.curvature.output_loss import output_loss
from assay.curvature.parameters import choose
from assay.curvature.products import Hessian
from assay.curvature.reading import Reading
from assay.models.resnet import resnet
from assay.sources.open_examples import open_examples

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024

torch.set_num_threads(1)
torch.manual_seed(0)
net, x, y = resnet(8, width=8), torch.randn(256, 3, 32, 32), torch.randint(0, 10, (256,))
chosen = choose(net)
def made(rows, budget):
    reading = Reading(open_examples((x[:rows], y[:rows])), next(net.parameters()).detach())
    return NetworkObjective(net, output_loss("softmax"), reading, chosen, chosen.coefficients(0.0), budget)
V = torch.randn(1, chosen.count, dtype=torch.float64)
Hessian(made(2, 2**30))(V)
whole = made(256, int(sys.argv[1]) * 2**20)
_ = whole.activation_bytes, whole.total_weight
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
Hessian(whole)(V)
print(status("VmHWM") - before)
"""


def peak(budget: int) -> float:
    """MiB above what stood before."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(budget)], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.slow
def test_a_product_stays_within_its_budget():
    """Allocators give back late, so that a little more than the budget is let pass."""
    for budget in (32, 128):
        assert peak(budget) <= budget + 16
    assert peak(4096) > 256, "without a budget it would take more"
