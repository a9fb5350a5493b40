"""Processes that outlive a task: replaced where one died, and gone at once when asked."""

import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor
from multiprocessing import active_children

import pytest

from assay.pool import Processes


def test_a_process_that_died_is_replaced_and_an_end_is_for_good():
    processes = Processes(1)
    first = processes.submit(os.getpid).result()
    with pytest.raises(BrokenExecutor):
        processes.submit(os.kill, first, signal.SIGKILL).result()
    assert processes.submit(os.getpid).result() not in (first, os.getpid())
    processes.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        processes.submit(os.getpid)


def test_terminated_processes_leave_their_tasks_and_nothing_behind():
    others, threads = {child.pid for child in active_children()}, set(threading.enumerate())
    processes = Processes(2)
    running = [processes.submit(time.sleep, 600) for _ in range(2)]
    processes.terminate()
    assert set(threading.enumerate()) <= threads  # an interpreter on its way out would wake one that is ending
    assert {child.pid for child in active_children()} <= others
    for task in running:
        with pytest.raises(BrokenExecutor):
            task.result(timeout=0)
    with pytest.raises(RuntimeError, match="after shutdown"):
        processes.submit(os.getpid)
    Processes(1).terminate()  # none was started


@pytest.mark.parametrize("count", [0, -1])
def test_at_least_one(count):
    with pytest.raises(ValueError, match=f"workers={count}"):
        Processes(count)
