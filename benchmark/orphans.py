"""Kills the processes named by their ids once its standard input ends: when whoever started it is gone.

Ray's agents live on for a minute after a driver that was killed; this ends them at once.
"""

import contextlib
import os
import signal
import sys


def main(processes: list[int]) -> None:
    """A process is held by a descriptor from the start, so that an id that is used again is not hit."""
    if not hasattr(os, "pidfd_open"):  # not Linux: Ray has a reaper of its own there
        return
    held = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            held.append(os.pidfd_open(process))
    sys.stdin.read()
    for descriptor in held:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
