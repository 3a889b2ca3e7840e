"""Start the reference service from flags and environment variables."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec

from pytest_llmdeploy.errors import LLMDeployError, MissingExtraError
from pytest_llmdeploy.reference.faults import PLANTED_EXIT, FaultBook
from pytest_llmdeploy.reference.settings import Settings, read_settings


def main(argv: Sequence[str]) -> int:
    """Serve until a signal comes and return the exit code: 0, or 2 when it could not start."""
    settings = read_settings(argv, os.environ)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return _serve(settings, FaultBook(settings.faults, settings.seed))
    except LLMDeployError as exc:
        print(f"reference service: {exc}", file=sys.stderr)  # noqa: T201 - the program's own output
        return 2


def _serve(settings: Settings, faults: FaultBook) -> int:
    if faults.value("exit-at-start") is not None:
        return PLANTED_EXIT
    for module in ("starlette", "uvicorn", "prometheus_client"):
        if find_spec(module) is None:
            raise MissingExtraError("the reference service", "local", module)
    from pytest_llmdeploy.reference.app import Service
    from pytest_llmdeploy.reference.engines import make_engine
    from pytest_llmdeploy.reference.serve import serve

    time.sleep(faults.value("slow-start") or 0)
    engine = make_engine(settings)
    listener = _listen(settings)
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(  # noqa: T201 - the program's own output
        f"reference service {engine.name} {settings.version} "
        f"on http://{name}:{listener.getsockname()[1]}",
        flush=True,
    )
    serve(Service(settings, engine, faults), listener, settings)
    return 0


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
        # asyncio sees to it only for sockets of protocol TCP, which this one does not call itself;
        # without it each answer over a kept connection waits 40 ms for the client's delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror
        raise LLMDeployError(
            f"cannot listen on {settings.host} port {settings.port}: {reason}"
        ) from exc
    return listener
