"""The Kubernetes API, dicts in and dicts out: deadlines, safe retries, our errors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.platforms.kubernetes.refusals import (
    UnclearError,
    named,
    refusal,
)
from pytest_llmdeploy.platforms.kubernetes.transport import Answer, NoAnswerError, Transport
from pytest_llmdeploy.waiting import Clock

Object = dict[str, Any]
"""One Kubernetes object as the API has it."""

FIELD_MANAGER = "llmdeploy"
"""Who the API server remembers as the writer of our fields."""
PATIENCE = 60.0
"""Seconds for which a request that may be repeated is: the restart of a kind cluster's API server
takes 25, on a busy machine."""
FIRST_PATIENCE = 10.0
"""The same until the server has answered once: an address may just be wrong."""
LONGEST_PAUSE = 10.0
"""Seconds that a Retry-After may ask for."""
PAGE = 500
NOT_FOUND = 404
RECOVERY = 15.0
"""Seconds after its absence in which an API server's refusals may be those of one just started."""
_OVERLOADED = 429
_NO_RIGHTS = frozenset({401, 403})
_LOST_STATUSES = frozenset({500, 502, 503, 504})
"""After these it is not known whether a write happened."""
_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_APPLY = "application/apply-patch+yaml"


class Api:
    """One API server.

    Paths are those of the REST API, such as ``/api/v1/namespaces/default/services/llm``. Requests
    that may be repeated are repeated for `patience` seconds while the server is away or overloaded,
    and for a few seconds where it has never answered yet.
    """

    def __init__(
        self, transport: Transport, *, patience: float = PATIENCE, clock: Clock = time
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._clock = clock
        self._ahead = timedelta(0)
        """The server's clock less ours."""
        self._answered = False
        self._recovered_at = 0.0
        """Until then a server that was away may not know its rules of access yet."""

    def get(self, path: str, **query: str) -> Object | None:
        """Return an object; None where there is none of that name."""
        answer = self._ask("GET", path, query)
        return None if answer.status == NOT_FOUND else _object(answer)

    def items(self, path: str, **query: str) -> list[Object]:
        """Return all objects of a list; empty where the cluster has no such kind."""
        found: list[Object] = []
        rest = ""
        while True:
            page = self.get(path, limit=str(PAGE), **query, **({"continue": rest} if rest else {}))
            if page is None:
                return found
            found += page.get("items") or []
            rest = page["metadata"].get("continue") or ""
            if not rest:
                return found

    def text(self, path: str, **query: str) -> str | None:
        """Return what is no JSON, such as a log; None where it does not exist."""
        answer = self._ask("GET", path, query, accept="*/*")
        return None if answer.status == NOT_FOUND else answer.body.decode("utf-8", "replace")

    def apply(
        self, path: str, body: Object, *, force: bool = False, dry_run: bool = False
    ) -> Object:
        """Apply on the server's side, as our field manager; raise ConflictError for another's.

        Fields that we applied before and that `body` does not name any more are removed.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        query |= {"force": "true"} if force else {}
        query |= {"dryRun": "All"} if dry_run else {}
        return _object(self._ask("PATCH", path, query, body, _APPLY))

    def patch(
        self,
        path: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        repeat: bool,
        dry_run: bool = False,
    ) -> Object:
        """Apply a JSON patch; say with `repeat` whether doing it twice is as good as once.

        Where it is not, UnclearError tells that the patch may or may not have been done. Fields
        that the cluster does not know are refused.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        query |= {"dryRun": "All"} if dry_run else {}
        return _object(
            self._ask("PATCH", path, query, list(operations), _JSON_PATCH, repeat=repeat)
        )

    def create(self, path: str, body: Object, *, dry_run: bool = False) -> Object:
        """Create an object; raise UnclearError where it is not known whether that happened.

        Fields that the cluster does not know are refused.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        query |= {"dryRun": "All"} if dry_run else {}
        return _object(self._ask("POST", path, query, body, repeat=dry_run))

    def review(self, path: str, body: Object) -> Object:
        """Return the answer to a question that is asked by creating it, and leaves nothing."""
        return _object(self._ask("POST", path, {}, body))

    def replace(self, path: str, body: Object) -> Object:
        """Replace an object as long as its resourceVersion is the one in `body`.

        Raises ConflictError where somebody else wrote it since, UnclearError where it is not
        known whether it was replaced.
        """
        query = {"fieldManager": FIELD_MANAGER}
        return _object(self._ask("PUT", path, query, body, repeat=False))

    def delete(self, path: str) -> None:
        """Delete an object, and what belongs to it in the background; nothing where it is gone."""
        self._ask("DELETE", path, {}, {"propagationPolicy": "Background"})

    def open_channel(self, path: str, **query: str) -> Any:
        """Return a WebSocket; raise PlatformError where the server does not open one."""
        try:
            return self._transport.open_channel(_address(path, query))
        except NoAnswerError as error:
            raise PlatformError(f"{path} cannot be opened: {error}") from error

    def now(self) -> datetime:
        """Return the time of the server's clock, as of its latest answer."""
        return datetime.now(UTC) + self._ahead

    def close(self) -> None:
        """Release connections."""
        self._transport.close()

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object = None,
        content_type: str = _JSON,
        *,
        accept: str = _JSON,
        repeat: bool = True,
    ) -> Answer:
        """Return an answer of status 2xx, or 404 to GET and DELETE; raise for all others."""
        headers = {"Accept": accept, "User-Agent": "pytest-llmdeploy"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        address = _address(path, query)
        patience = self._patience if self._answered else min(FIRST_PATIENCE, self._patience)
        deadline = self._clock.monotonic() + patience
        pause = 0.1
        while True:
            try:
                answer = self._transport.send(method, address, data, headers)
            except NoAnswerError as error:
                if error.hopeless:
                    raise PlatformError(f"{method} {named(path)}: {error}") from error
                failure: PlatformError = UnclearError(method, path, str(error))
                failure.__cause__ = error
                again, wait = repeat or not error.sent, pause
                self._note_trouble()
            else:
                self._answered = True
                self._note_time(answer)
                missing = answer.status == NOT_FOUND and method in {"GET", "DELETE"}
                if answer.status < 300 or missing:
                    return answer
                failure = self._failure(method, path, answer, repeat=repeat)
                again = repeat or not isinstance(failure, UnclearError)
                again = again and self._may_change(answer.status)
                wait = max(pause, _retry_after(answer))
            if not again or self._clock.monotonic() + wait > deadline:
                raise failure
            self._clock.sleep(wait)
            pause = min(pause * 2, 1.0)

    def _failure(self, method: str, path: str, answer: Answer, *, repeat: bool) -> PlatformError:
        failure = refusal(method, path, answer)
        if answer.status not in _LOST_STATUSES:
            return failure
        self._note_trouble()
        if repeat:
            return failure
        unclear = UnclearError(method, path, str(failure))
        unclear.__cause__ = failure
        return unclear

    def _may_change(self, status: int) -> bool:
        """Return whether the same request may be answered otherwise a moment later."""
        if status in _NO_RIGHTS:
            return self._clock.monotonic() < self._recovered_at
        return status == _OVERLOADED or status in _LOST_STATUSES

    def _note_trouble(self) -> None:
        self._recovered_at = self._clock.monotonic() + RECOVERY

    def _note_time(self, answer: Answer) -> None:
        try:
            date = parsedate_to_datetime(answer.headers["date"])
        except (KeyError, ValueError):
            return
        self._ahead = date - datetime.now(UTC)


def _address(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _object(answer: Answer) -> Object:
    try:
        value = json.loads(answer.body)
    except ValueError as error:
        raise PlatformError(f"the API server's answer is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise PlatformError("the API server's answer is no object")
    return value


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return min(float(text), LONGEST_PAUSE) if text.isdecimal() else 0.0
