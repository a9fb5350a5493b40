"""Processes: the imports are there when they start, the parent's environment is, and Ctrl-C is the parent's."""

import os
import signal
import sys

import pytest

from assay.pool import IMPORTED, Processes, executor


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_processes_start_with_the_imports_that_take_long():
    with executor(2) as pool:
        found = pool.submit(eval, "sorted(__import__('sys').modules)").result()
    assert set(IMPORTED) <= set(found)


def test_a_process_has_the_environment_of_its_start(monkeypatch: pytest.MonkeyPatch):
    for value in ("first", "second"):
        monkeypatch.setenv("ASSAY_POOL", value)
        with executor(1) as pool:
            assert pool.submit(os.getenv, "ASSAY_POOL").result() == value
    monkeypatch.delenv("ASSAY_POOL")
    with executor(1) as pool:
        assert pool.submit(os.getenv, "ASSAY_POOL").result() is None


def test_the_processes_do_not_hear_ctrl_c():
    pool = Processes(1)
    try:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    finally:
        pool.shutdown()
