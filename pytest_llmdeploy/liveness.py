"""Tell whether another process still lives, by a lock that the kernel drops when it dies.

A pid can be reused and a zombie still answers to signal 0; a file lock is gone with its holder,
whatever ended it.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from pathlib import Path


class Pulse:
    """An exclusive lock on a file, held for as long as this process lives or until `stop`.

    The file holds the pid of the process.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        # os.open makes the descriptor non-inheritable: a child must not keep our pulse alive.
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.stop()
            raise
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    def stop(self) -> None:
        """Drop the lock; whoever waits for this pulse goes on."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_alive(path: Path) -> bool:
    """Return whether some process holds the pulse at `path`; a missing file is no pulse."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def wait_until_gone(path: Path) -> None:
    """Block until no process holds the pulse at `path`; costs nothing while waiting."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def wait_until_exit(pid: int, interval: float = 0.5) -> None:
    """Block until the process `pid`, not necessarily a child of ours, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux: ask again and again
        while process_lives(pid):
            time.sleep(interval)
        return
    try:
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


def process_lives(pid: int) -> bool:
    """Return whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
