"""Work in a thread that never keeps the process alive."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_daemon_thread(work: Callable[[], T]) -> Future[T]:
    """Start `work` in a thread of its own and return its future, which cannot be cancelled.

    An executor's threads are joined when the process ends; work that never returns would keep it
    from ending.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # a cancelled future would not take the result any more

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            future.set_exception(error)
        else:
            future.set_result(result)

    Thread(target=run, name="llmdeploy-work", daemon=True).start()
    return future
