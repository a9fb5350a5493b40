"""How many threads: as torch is told, and as it was told afterwards, whoever else is inside."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, get_ident

import pytest
import torch

from assay.threads import in_threads, one_blas_thread


@pytest.fixture(autouse=True)
def three():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_as_many_threads_as_torch_may_use_one_inside_each():
    together = Barrier(3, timeout=30)  # broken where fewer than three run at once

    def seen(_: int) -> tuple[int, int]:
        together.wait()
        return get_ident(), torch.get_num_threads()

    found = list(in_threads(seen, range(3)))
    assert len({thread for thread, _ in found}) == 3
    assert {threads for _, threads in found} == {1}
    assert torch.get_num_threads() == 3


def test_within_another_call_the_number_is_that_from_before():
    with one_blas_thread() as outer:
        with one_blas_thread() as inner:
            assert (outer, inner, torch.get_num_threads()) == (3, 3, 1)
        assert torch.get_num_threads() == 1, "the outer call is still inside"
    assert torch.get_num_threads() == 3


def test_a_call_that_overlaps_another_thread_s_leaves_the_number_as_it_was():
    with ThreadPoolExecutor(1) as pool:
        outer = one_blas_thread()
        outer.__enter__()
        other = one_blas_thread()
        assert pool.submit(other.__enter__).result() == 3, "not the one thread of the call that is inside"
        outer.__exit__(None, None, None)
        pool.submit(other.__exit__, None, None, None).result()
    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(torch.get_num_threads).result() == 3
    assert torch.get_num_threads() == 3


def test_of_one_thread_the_callers_own():
    torch.set_num_threads(1)
    assert list(in_threads(lambda _: get_ident(), range(3))) == 3 * [get_ident()]


def test_an_error_restores_the_number():
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda x: 1 // x, [0]))
    assert torch.get_num_threads() == 3
