"""One pod's port on this machine, through the API server; it pins that pod, and sees no switch."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kubernetes.api import Api
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.untrusted import one_line

_DATA, _ERROR = 0, 1
"""Channels of the protocol: each frame begins with its channel's number."""
_REASON = re.compile(r"connect: ([a-z ]+)")
"""What the pod's system said, at the end of a long text about namespaces of the node."""
_CHUNK = 64 * 1024
_BINARY, _CLOSE = 0x2, 0x8
"""Opcodes of WebSocket frames."""


@contextlib.contextmanager
def forwarded(api: Api, names: Names, pod: str, port: int) -> Iterator[str]:
    """Yield an address of this machine that leads to the pod's port; any number of connections.

    Raises PlatformError where the API server does not forward. Where the pod refuses a connection,
    the client gets an HTTP 502 whose text says why.
    """
    path = f"{names.core('pods', pod)}/portforward"

    def open_one() -> Any:
        return api.open_channel(path, ports=str(port))

    open_one().close()  # rights and the pod's existence show here, not in a client's broken request
    connections: set[socket.socket] = set()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return  # closed
                connections.add(client)
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        def serve(client: socket.socket) -> None:
            try:
                _bridge(client, open_one, f"port-forward to pod {pod}, port {port}")
            finally:
                connections.discard(client)
                client.close()

        threading.Thread(target=accept, name="llmdeploy-port-forward", daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close alone does not
            for client in list(connections):
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)


def _bridge(client: socket.socket, open_one: Callable[[], Any], title: str) -> None:
    """Carry bytes between the client and the pod until either ends."""
    try:
        channel = open_one()
    except PlatformError as error:
        _refuse(client, f"{title}: {error}")
        return
    incoming = _Incoming(client)
    try:
        while incoming.failure is None:
            for source in _readable(client, channel.sock):
                if source is client:
                    data = client.recv(_CHUNK)
                    if not data:
                        return
                    channel.send_binary(bytes([_DATA]) + data)
                elif not incoming.take(*channel.recv_data_frame(True)):
                    return
    except Exception as error:  # noqa: BLE001 - sockets, TLS and WebSocket errors; a thread's own
        incoming.failure = str(error) or type(error).__name__
    finally:
        if incoming.failure is not None and not incoming.carried:
            _refuse(client, f"{title}: {one_line(incoming.failure)}")
        with contextlib.suppress(Exception):
            channel.close(timeout=0)


class _Incoming:
    """What comes from the pod: its bytes, or why there are none."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._begun: set[int] = set()
        self.carried = False
        self.failure: str | None = None

    def take(self, opcode: int, frame: Any) -> bool:
        """Hand a frame's bytes on; return False after the last one."""
        if opcode == _CLOSE:
            return False
        if opcode != _BINARY or not frame.data:
            return True
        channel, data = frame.data[0], frame.data[1:]
        if channel not in self._begun:
            self._begun.add(channel)  # the first frame only repeats the port's number
        elif channel == _DATA:
            self.carried = True
            self._client.sendall(data)
        elif channel == _ERROR and data:
            text = data.decode("utf-8", "replace")
            found = _REASON.search(text)
            self.failure = found[1] if found else text
        return True


def _readable(client: socket.socket, remote: Any) -> list[Any]:
    if isinstance(remote, ssl.SSLSocket) and remote.pending():
        return [remote]  # decrypted already: the system sees nothing to read any more
    poll = select.poll()  # not select: it knows no descriptors above 1023
    by_number = {client.fileno(): client, remote.fileno(): remote}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll()]


def _refuse(client: socket.socket, text: str) -> None:
    body = text.encode()
    head = (
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(OSError):
        client.sendall(head.encode() + body)
