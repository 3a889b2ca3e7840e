"""Small HTTP servers that say what a test lets them say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Said:
    """What a server answers, and what it was asked."""

    def __init__(self) -> None:
        self.text = ""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.trickle = False
        """Go on sending for ever, a byte at a time."""
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.connections: set[int] = set()
        self.url = ""


@contextmanager
def serving() -> Iterator[Said]:
    """Yield a server; it ends with the block."""
    said = Said()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            said.asked.append((self.path, headers))
            said.connections.add(self.client_address[1])
            body = said.text.encode()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(10**9 if said.trickle else len(body)))
            self.end_headers()
            self.wfile.write(body)
            while said.trickle:
                try:
                    self.wfile.write(b"#")
                    time.sleep(0.02)
                except OSError:
                    return

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    said.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield said
    finally:
        said.trickle = False
        server.shutdown()
        server.server_close()
