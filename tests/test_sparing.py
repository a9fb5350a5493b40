"""That annotations are checked in tests, and how often."""

import beartype
import jaxtyping
import pytest
import torch

import sparing
from assay.families import Softmax


def test_assay_is_checked():
    with pytest.raises(jaxtyping.TypeCheckError):
        Softmax(3).expand(torch.zeros(4, 2, dtype=torch.int64))


def test_the_first_calls_of_a_test_and_some_after_them():
    @sparing.sparingly(typechecker=beartype.beartype)
    def half(x: int) -> float:
        return x / 2

    def refused(calls: range) -> list[int]:
        found = []
        for call in calls:
            try:
                half(1.0)  # pyright: ignore
            except jaxtyping.TypeCheckError:
                found.append(call)
        return found

    assert refused(range(1, 41)) == [*range(1, sparing.FIRST + 1), 16, 32]
    sparing.begin()
    assert refused(range(1, 17)) == [*range(1, sparing.FIRST + 1), 16]
