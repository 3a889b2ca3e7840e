"""A brief look at a service that answers already: what a starter file can say about it."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_llmdeploy.errors import LLMDeployError

if TYPE_CHECKING:
    import httpx

PROBE_TIMEOUT = 3.0
HEALTH_PATHS = ("/health", "/ready")
_LARGEST_ANSWER = 1 << 20
_VERSION_HEADER = re.compile(r"x-(?!aspnet|powered|api)([a-z0-9]+-)*version")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service answers."""

    url: str
    """Root address without a trailing slash."""
    base_path: str = "/v1"
    """Path in front of the OpenAI-compatible routes."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a service showed of itself."""

    unreachable: str | None = None
    """Why nothing answered; None when something did."""
    health_paths: tuple[str, ...] = ()
    """Those of HEALTH_PATHS that answered 200."""
    needs_key: bool = False
    model: str | None = None
    """First name in the list of models."""
    version_header: str | None = None


_ROUTES = ("/chat/completions", "/completions", "/models", "/embeddings")


def normalised(text: str) -> Address:
    """Return the address that a user typed: without http:// too; /v1 and a route split off."""
    text = text.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise LLMDeployError(f"--url: {exc}") from exc
    if parts.scheme not in {"http", "https"} or not host or re.search(r"\s", text):
        raise LLMDeployError("--url: expected an address such as http://127.0.0.1:8000")
    if "@" in parts.netloc:
        raise LLMDeployError("--url: a password must not stand in the file: leave out user:pass@")
    if parts.query or parts.fragment:
        raise LLMDeployError("--url: expected an address without '?' and '#'")
    path = parts.path.rstrip("/")
    for route in _ROUTES:  # an address copied from an example of its use
        path = path.removesuffix(route)
    path = path.removesuffix("/v1").rstrip("/")
    return Address(f"{parts.scheme}://{parts.netloc}{path}")


def probe(address: Address) -> Probe:
    """Ask for /health, /ready and the models, each for at most 3 seconds; never raises."""
    import httpx

    headers: dict[str, str] = {}
    statuses: dict[str, int] = {}
    model, unanswered = None, ""
    models_path = f"{address.base_path}/models"
    with httpx.Client(timeout=PROBE_TIMEOUT, trust_env=False) as client:
        for path in (*HEALTH_PATHS, models_path):
            try:
                status, answered, body = _get(client, address.url + path)
            except httpx.ConnectError as exc:
                return Probe(unreachable=str(exc) or type(exc).__name__)
            except (httpx.HTTPError, httpx.InvalidURL) as exc:
                unanswered = f"GET {path}: {type(exc).__name__}"
                continue
            statuses[path] = status
            headers |= answered
            if path == models_path and status == 200:
                model = _first_model(body)
    if not statuses:
        return Probe(unreachable=unanswered)
    return Probe(
        health_paths=tuple(path for path in HEALTH_PATHS if statuses.get(path) == 200),
        needs_key=bool({401, 403} & set(statuses.values())),
        model=model,
        version_header=_version_header(headers),
    )


def _get(client: httpx.Client, url: str) -> tuple[int, dict[str, str], bytes]:
    import httpx

    deadline = time.monotonic() + PROBE_TIMEOUT
    with client.stream("GET", url) as response:
        body = b""
        for piece in response.iter_raw():
            body += piece
            # httpx's own timeout is one of each read: a drip-fed answer would never reach it.
            if len(body) > _LARGEST_ANSWER or time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer does not end")
        return response.status_code, {k.lower(): v for k, v in response.headers.items()}, body


def _first_model(body: bytes) -> str | None:
    try:
        name = json.loads(body)["data"][0]["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) and name and name.isprintable() else None


def _version_header(headers: dict[str, str]) -> str | None:
    found = [name for name in headers if _VERSION_HEADER.fullmatch(name)]
    return min(found, key=lambda name: ("llm" not in name, "model" not in name), default=None)
