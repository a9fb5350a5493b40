"""The processes beside the server that know torch and the data: one for pictures, one for what takes longer.

Each is started when it is first needed and started again where it was killed. A call names a function of `tasks`, which
is imported over there only.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from importlib import import_module
from typing import Any

from ..pool import Processes

QUICK = ("sample", "picture", "pictures")


class Worker:
    """Runs the functions of `tasks` on the audit in `path`; what they raise is raised here."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._quick, self._long = Processes(1), Processes(1)

    def call(self, name: str, *arguments: Any) -> Any:
        """`tasks.name(audit, *arguments)`; tried again where its process was killed."""
        pool = self._quick if name in QUICK else self._long
        try:
            return pool.submit(perform, self.path, name, arguments).result()
        except BrokenExecutor:  # killed, by this call or by somebody
            return pool.submit(perform, self.path, name, arguments).result()

    def warm(self) -> None:
        """Has both processes started and the audit opened there: the first sample need not wait for it."""
        for pool in (self._quick, self._long):
            pool.submit(open_there, self.path)

    def close(self) -> None:
        """Ends the processes, whatever they are at: they write nothing that is not whole or absent."""
        for pool in (self._quick, self._long):
            pool.terminate()


def open_there(path: str) -> None:
    """In the process over there, before anything is asked."""
    import_module(".tasks", __package__).audit_at(path)


def perform(path: str, name: str, arguments: tuple[Any, ...]) -> Any:
    """In the process over there."""
    tasks = import_module(".tasks", __package__)
    return tasks.TASKS[name](tasks.audit_at(path), *arguments)
