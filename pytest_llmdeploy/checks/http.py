"""A request of the user's own, and what its answer must be: every health check is one."""

from __future__ import annotations

from typing import Any

from pytest_llmdeploy.checks.exchange import Deadline, Reply, Target, exchange
from pytest_llmdeploy.config.models import HttpCheck

_ABSENT = object()


async def check_http(target: Target, check: HttpCheck) -> Reply:
    """Make the request; raise CheckFailedError where its answer differs from what `check` wants."""
    url = target.service.url + check.path
    deadline = Deadline(check.timeout)
    reply = await exchange(target, check.method, url, deadline=deadline, body=check.body)
    if reply.status != check.status:
        raise reply.fail(f"HTTP {check.status}")
    if check.contains is not None and check.contains not in reply.text:
        raise reply.fail(f"an answer that contains {check.contains!r}")
    if check.fields:
        value = reply.json()
        for name, wanted in check.fields.items():
            found = _find(value, name)
            if found is _ABSENT:
                raise reply.fail(f"a field {name!r} in the JSON answer")
            if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
                raise reply.fail(f"{name} to be {wanted!r}, not {found!r}")
    return reply


def _find(value: Any, dotted: str) -> Any:
    """Return the value at a dotted name, where a number is an index into a list."""
    for part in dotted.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return value
