"""Run the service under uvicorn, and end it well: drain, finish what is open, go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator

import uvicorn

from pytest_llmdeploy.reference.app import Service
from pytest_llmdeploy.reference.settings import Settings

_log = logging.getLogger("reference")
_UNREAD_TIMEOUT = 1.0
"""Seconds after the cut that a client which reads nothing may still hold its connection."""


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn's own handlers stop accepting at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def serve(service: Service, listener: socket.socket, settings: Settings) -> None:
    """Answer requests on `listener` until SIGTERM or SIGINT; the second signal ends all at once."""
    asyncio.run(_serve(service, listener, settings))


async def _serve(service: Service, listener: socket.socket, settings: Settings) -> None:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the envelope logs what matters
    server = _Server(
        uvicorn.Config(
            service.app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            # Shorter than a client keeps idle connections, it would meet them closed.
            timeout_keep_alive=75,
        )
    )
    loop = asyncio.get_running_loop()
    drains: list[asyncio.Task[None]] = []

    def on_signal(number: int) -> None:
        if drains:
            os._exit(128 + number)
        service.draining = True
        drains.append(loop.create_task(_drain(service, server, settings)))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await server.serve(sockets=[listener])


async def _drain(service: Service, server: uvicorn.Server, settings: Settings) -> None:
    await asyncio.sleep(settings.drain_delay)
    server.should_exit = True
    await asyncio.sleep(settings.grace)
    cut = service.gate.cut_all()
    _log.warning("grace of %g s is over, requests cut: %d", settings.grace, cut)
    await asyncio.sleep(_UNREAD_TIMEOUT)
    os._exit(0)
