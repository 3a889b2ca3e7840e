"""One HTTP probe of a replica; written out, since dozens of them run each second."""

from __future__ import annotations

import asyncio
import os

MOST_BYTES = 64 * 1024
_SUCCESS_FROM = 200
_ERRORS_FROM = 400


async def probe(port: int, path: str, timeout: float) -> str | None:
    """Return None when the answer is a success, else what was wrong with it, in a few words."""
    try:
        async with asyncio.timeout(timeout):
            line = await _status_line(port, path)
    except TimeoutError:
        return f"no answer on {path} within {timeout:g} s"
    except OSError as error:
        return f"{os.strerror(error.errno) if error.errno else error} on port {port}"
    except ValueError:
        return f"no HTTP answer on {path}"
    words = line.decode("latin-1").split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdecimal():
        return f"no HTTP answer on {path}"
    if _SUCCESS_FROM <= int(words[1]) < _ERRORS_FROM:  # as the kubelet counts it
        return None
    return f"HTTP {int(words[1])} on {path}"


async def _status_line(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        writer.write(f"{head}User-Agent: llmdeploy-probe\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
        await reader.read(MOST_BYTES)
        return line
    finally:
        writer.transport.abort()  # closing in order could wait for a process that hangs
