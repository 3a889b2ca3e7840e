"""One load generator at a time on a machine: two would falsify each other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

POLL_INTERVAL = 0.5


def alone(waiting: Callable[[], None]) -> FileLock:
    """Return this machine's lock for load, held; `waiting` is called while somebody else has it.

    What `waiting` raises ends the wait. Any thread may release the lock.
    """
    # Each user has a lock file of their own: another user's could not be opened.
    path = Path(tempfile.gettempdir()) / f"llmdeploy-load-{os.getuid()}.lock"
    lock = FileLock(path, thread_local=False)
    while True:
        try:
            lock.acquire(timeout=POLL_INTERVAL)
        except Timeout:
            waiting()
        else:
            return lock
