"""Health and smoke checks as measurements: a failed check is a verdict, an unasked one is not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from pytest_llmdeploy.checks.exchange import CheckFailedError, Deadline, Target
from pytest_llmdeploy.checks.http import check_http
from pytest_llmdeploy.checks.smoke import check_smoke, list_models
from pytest_llmdeploy.config.models import HttpCheck, SmokeCheck
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.threads import in_daemon_thread
from pytest_llmdeploy.verdicts import Verdict

T = TypeVar("T")


def measure_health(target: Target, check: HttpCheck) -> Measurement:
    """Make one health check; raise NotMeasuredError when the service cannot be reached."""

    async def ask() -> dict[str, Any]:
        reply = await check_http(target, check)
        return {"asked": reply.asked, "status": reply.status, "seconds": reply.seconds}

    return _measure(ask())


def measure_smoke(target: Target, check: SmokeCheck) -> Measurement:
    """Make one smoke check; raise NotMeasuredError when the service cannot be reached."""
    return _measure(check_smoke(target, check))


def first_model(target: Target, timeout: float) -> str:
    """Return the first model that the service lists; raise NotMeasuredError where it lists none."""
    try:
        return _run(list_models(target, Deadline(timeout)))[1][0]
    except CheckFailedError as error:
        raise NotMeasuredError(f"no model to ask: {error}") from error


def _measure(check: Coroutine[Any, Any, dict[str, Any]]) -> Measurement:
    try:
        detail = _run(check)
    except CheckFailedError as error:
        return Measurement(Verdict.FAIL, str(error))
    return Measurement(Verdict.PASS, "as expected", detail)


def _run(check: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(check)
    # Another plugin keeps a loop running in this thread, as Playwright's sync API does; a thread
    # has one loop at most.
    return in_daemon_thread(partial(asyncio.run, check)).result()
