"""Runs the real command in forked processes, so that a fault costs a fraction of a second and no second import.

Reads one JSON request a line: ``argv``, ``environment``, ``injection`` (a call of ``injections``), ``copies`` (run
at the same time), and when they get a ``signal``: ``after`` (seconds) and once a file ``exists`` (a glob), if those
are not null. Answers with the exit status of each copy; -9 is SIGKILL.
"""

import json
import os
import sys
import tempfile
import time
from glob import glob
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.005


def main() -> None:
    import pytorch_lightning  # noqa: F401
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        processes = [start(request, Path(request["output"]) / str(copy)) for copy in range(request["copies"])]
        if request["after"] is not None or request["exists"] is not None:
            wait(processes, request["after"] or 0, request["exists"])
            for process in processes:
                os.kill(process, request["signal"])
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in processes]), flush=True)


def wait(processes: list[int], seconds: float, exists: str | None) -> None:
    """Until the time is up and the file is there, or all have ended; zombies are not reached by a signal."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or (exists and not glob(exists)):
        ended = [os.waitid(os.P_PID, p, os.WEXITED | os.WNOHANG | os.WNOWAIT) for p in processes]
        if all(ended):
            return
        time.sleep(POLL_SECONDS)


def start(request: dict[str, Any], output: Path) -> int:
    """The process id of a child that runs the command, its output in ``<output>.out`` and ``.err``."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        for stream, suffix in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(output.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.environ.update(request["environment"])
        tempfile.tempdir = None  # which the imports have settled already
        code = run(request)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(request: dict[str, Any]) -> int:
    import benchmark.__main__ as cli
    from tests.faults import injections

    if request["injection"]:
        name, *arguments = request["injection"]
        getattr(injections, name)(*arguments)
    sys.argv = ["benchmark", *request["argv"]]
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


if __name__ == "__main__":
    main()
