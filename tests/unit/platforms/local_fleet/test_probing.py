"""Probes against servers that answer well, badly, late or not at all."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from pytest_llmdeploy.platforms.local_fleet.probing import probe
from pytest_llmdeploy.platforms.processes import free_port


def probed(answer: bytes | None, timeout: float = 2.0) -> str | None:
    """Return what a probe says of a server that sends `answer`, or None: nothing."""

    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        done.set()

    async def run() -> str | None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            said = await probe(port, "/ready", timeout)
            await done.wait()
            return said

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"HTTP/1.0 302\r\n\r\n", None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP 503 on /ready"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP 404 on /ready"),
        (b"", "no HTTP answer on /ready"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP answer on /ready"),
        (b"x" * 200_000, "no HTTP answer on /ready"),
    ],
)
def test_answers(answer: bytes, said: str | None) -> None:
    assert probed(answer) == said


def test_no_answer_in_time() -> None:
    assert probed(None, timeout=0.05) == "no answer on /ready within 0.05 s"


def test_nobody_listens() -> None:
    port = free_port()
    assert asyncio.run(probe(port, "/ready", 1.0)) == f"Connection refused on port {port}"
