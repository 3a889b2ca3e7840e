"""A model that takes a fixed time and costs next to nothing: ``python mock.py PORT SECONDS``.

Speaks just enough HTTP/1.1 for a client that sends a content-length. GET / tells what it saw.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Paris"},
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
    }
).encode()


class Seen:
    """Requests so far."""

    total = 0
    in_flight = 0
    peak = 0
    questions: set[int] = set()  # noqa: RUF012 - hashes of the bodies: which were asked
    first = 0.0
    last = 0.0


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Answer one connection's requests until it closes."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            asked = await reader.readexactly(length)
            body = ANSWER
            if head.startswith(b"GET"):
                span = Seen.last - Seen.first
                body = json.dumps(
                    {
                        "total": Seen.total,
                        "different": len(Seen.questions),
                        "peak": Seen.peak,
                        "span": span,
                    }
                ).encode()
            else:
                now = time.perf_counter()
                Seen.first = Seen.first or now
                Seen.total += 1
                Seen.questions.add(hash(asked))
                Seen.in_flight += 1
                Seen.peak = max(Seen.peak, Seen.in_flight)
                await asyncio.sleep(delay)
                Seen.in_flight -= 1
                Seen.last = time.perf_counter()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
                + str(len(body)).encode()
                + b"\r\n\r\n"
                + body
            )
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(port: int, delay: float) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(
        lambda r, w: serve(r, w, delay), "127.0.0.1", port, backlog=512
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
