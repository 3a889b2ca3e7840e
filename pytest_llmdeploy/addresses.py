"""What our HTTP clients agree on about addresses."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit


def uses_proxy(url: str) -> bool:
    """Return whether the proxy variables of the process apply: never to this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")


def tls_context(verify: bool, ca_file: Path | None) -> ssl.SSLContext | bool:
    """Return what httpx-like clients take as `verify`."""
    if not verify:
        return False
    return ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
