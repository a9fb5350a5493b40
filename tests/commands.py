"""Commands of `assay`, each in a process of its own, forked from one that has imported torch once for all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

SERVER = """
import json, os, sys, tempfile
import assay.auditing.run, assay.report
from assay.cli import app
from typer.testing import CliRunner

CliRunner().invoke(app, ["audit", "there is no such file"])  # what Typer imports with its first command

for line in sys.stdin:
    asked, ends = json.loads(line), []
    for arguments in asked["commands"]:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            pid = os.fork()
            if not pid:
                os.environ.clear()
                os.environ.update(asked["env"])
                os.chdir(asked["cwd"])
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                try:
                    app(arguments, prog_name="assay")
                except SystemExit as end:
                    sys.stdout.flush(), sys.stderr.flush()
                    os._exit(int(end.code or 0))  # an interpreter with torch in it takes a second to come to its end
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            out.seek(0), err.seek(0)
            ends.append([code, out.read().decode(), err.read().decode()])
    print(json.dumps(ends), flush=True)
"""


def together(cwd: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each command, one after the other."""
    process = _server(os.getpid())
    if process.poll() is not None:
        _server.cache_clear()
        process = _server(os.getpid())
    asking, answering = process.stdin, process.stdout
    assert asking is not None
    assert answering is not None
    print(json.dumps({"cwd": str(cwd), "env": dict(os.environ), "commands": commands}), file=asking, flush=True)
    answer = answering.readline()
    assert answer, "the process that runs commands has ended"
    return [(code, out, err) for code, out, err in json.loads(answer)]


@cache
def _server(_: int) -> subprocess.Popen[str]:
    """Started once for each process that runs tests; it ends with its standard input."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _running.append(process)
    return process


_running: list[subprocess.Popen[str]] = []  # a Popen that is let go of while it runs warns
