"""Who answers: the colour and the version that a service tells of itself, over a new connection."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_llmdeploy.addresses import tls_context, uses_proxy
from pytest_llmdeploy.checks.exchange import Target
from pytest_llmdeploy.config.models import HttpCheck
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.events import Measurement
from pytest_llmdeploy.ports import REFERENCE_VERSION_HEADER
from pytest_llmdeploy.untrusted import LONGEST_ANSWER, read_json
from pytest_llmdeploy.verdicts import Verdict

TIMEOUT = 5.0
WELL = frozenset({"ok", "healthy", "up", "pass", "serving", "ready", "alive"})
"""What the `status` of a health answer may be, in small letters."""


def identify(
    target: Target, path: str, headers: Mapping[str, str] | None = None
) -> tuple[str | None, str | None]:
    """Return the colour and the version that an answer to GET `path`, with `headers`, names.

    The colour is the field `color` of a JSON object, the version stands in the version header, or
    else in the field `version`. Raises NotMeasuredError where nobody answers, or with a 5xx.
    """
    import httpx

    url = target.service.url + path
    try:
        answer = httpx.get(
            url,
            headers={**target.config.request_headers(), **(headers or {}), "connection": "close"},
            timeout=TIMEOUT,
            verify=_context(target.config.verify_tls, target.config.ca_path(target.root), url),
            trust_env=uses_proxy(url),
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise NotMeasuredError(f"GET {url}: {str(error) or type(error).__name__}") from error
    if answer.status_code >= 500:
        raise NotMeasuredError(f"GET {url}: HTTP {answer.status_code}")
    data = _object(answer.content)
    header = target.config.version_header or REFERENCE_VERSION_HEADER
    return _text(data.get("color")), answer.headers.get(header) or _text(data.get("version"))


def measure_status(target: Target, check: HttpCheck) -> Measurement | None:
    """Judge the `status` in the JSON of a health check that passed; None where it has none.

    A service that answers 200 and says that it is degraded is not healthy.
    """
    import httpx

    url = target.service.url + check.path
    try:
        answer = httpx.get(url, headers=target.config.request_headers(), timeout=check.timeout)
    except httpx.HTTPError as error:
        raise NotMeasuredError(f"GET {url}: {str(error) or type(error).__name__}") from error
    status = _object(answer.content).get("status")
    if not isinstance(status, str):
        return None
    reason = f"GET {url}: its JSON says status {status[:80]!r}"
    verdict = Verdict.PASS if status.lower() in WELL else Verdict.FAIL
    return Measurement(verdict, reason)


@lru_cache(maxsize=4)
def _context(verify: bool, ca_file: Path | None, url: str) -> Any:
    # Making one takes longer than the request.
    return tls_context(verify, ca_file) if url.startswith("https") else False


def _object(body: bytes) -> dict[str, Any]:
    if len(body) > LONGEST_ANSWER:
        return {}
    try:
        data = read_json(body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _text(value: object) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
