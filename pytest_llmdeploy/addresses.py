"""What our HTTP clients agree on about addresses, proxies and certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def making_client(url: str) -> Iterator[None]:
    """Raise UnreachableError where an HTTP client cannot be made in the block.

    A new client reads the process's proxy and certificate variables, and each HTTP library has
    errors of its own for those that it cannot use.
    """
    try:
        yield
    except Exception as error:
        raise UnreachableError(
            f"{url} cannot be asked with this process's proxy and certificate variables: {error}"
        ) from error


def certificate_refused(error: BaseException) -> bool:
    """Return whether all began with a server's certificate that was not believed.

    Several HTTP libraries wrap each other's errors, and not all of them name the cause.
    """
    earlier: BaseException | None = error
    while earlier is not None and not isinstance(earlier, ssl.SSLCertVerificationError):
        earlier = earlier.__cause__ or earlier.__context__
    return earlier is not None
