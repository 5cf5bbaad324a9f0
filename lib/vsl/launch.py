"""Becomes another program, within bounds: `python launch.py PARENT MEMORY PROGRAM ARGUMENTS…`.

A function to be run between fork and exec would do the same, and may never return where the process that forks has
threads: some lock is always held by one of them. So a fresh interpreter does it, without site-packages: 15 ms.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, memory_bytes: int, program: list[str]) -> None:
    """Ask to die with the parent, limit memory and core dumps, and become the program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it could be asked about
            os._exit(1)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        os.execv(program[0], program)  # noqa: S606 - that is what it is for
    except OSError as error:
        os._exit(127 if error.errno in {errno.ENOENT, errno.EACCES, errno.ENOEXEC} else 126)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
