"""What our HTTP clients agree on about addresses."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pytest_llmdeploy.errors import UnreachableError


def uses_proxy(url: str) -> bool:
    """Return whether the proxy variables of the process apply: never to this machine itself."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return True  # no address at all: for the client to say
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")


def tls_context(verify: bool, ca_file: Path | None) -> ssl.SSLContext | bool:
    """Return what httpx-like clients take as `verify`; raise UnreachableError for a bad file."""
    if not verify:
        return False
    try:
        return ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or error
        raise UnreachableError(f"service.ca_file: {ca_file} cannot be used: {why}") from error
