"""How the reference service listens."""

from __future__ import annotations

import socket

from pytest_llmdeploy.reference.command import _listen
from pytest_llmdeploy.reference.settings import read_settings


def test_answers_over_kept_connections_do_not_wait_for_an_acknowledgement() -> None:
    with (
        _listen(read_settings(["--port", "0"], {})) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
