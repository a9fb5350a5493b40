"""What every test shares: shape annotations are checked from here on, and one real audit is made once."""

import sparing  # noqa: I001  (before anything imports assay)

import warnings

import numpy as np
import pytest

import assay
from assay.datasets.digits import digits

LONG = [
    "test_cli",
    "test_docs",
    "test_resume",
    "test_browser",
    "test_audit",
    "test_engine",
    "test_trained",
    "test_network",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long are begun first, so that no process ends the run with one of them, alone."""

    def rank(item: pytest.Item) -> int:
        return next((k for k, name in enumerate(LONG) if item.path.stem.startswith(name)), len(LONG))

    items.sort(key=rank)


def pytest_runtest_logstart() -> None:
    sparing.begin()


@pytest.fixture(scope="session")
def flipped_digits():
    """(X in [0, 1] float64, labels with 5 % flips, the flipped positions)."""
    data = digits(0.05, seed=0)
    return data.features.astype(np.float64), data.labels, data.flipped


@pytest.fixture(scope="session")
def digits_audit(tmp_path_factory):
    """A real audit of the digits with 5 % planted flips."""
    data = digits(0.05, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)  # three pixels never vary
        return assay.audit(
            (data.features, data.labels), image_shape=data.image_shape, out=tmp_path_factory.mktemp("digits") / "audit"
        )
