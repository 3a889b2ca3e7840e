"""What the API server refused, as our errors: what, why, and what to do about it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.kubernetes.transport import Answer
from pytest_llmdeploy.untrusted import one_line

_MANAGER = re.compile(r'conflict with "((?:[^"\\]|\\.)*)"')
_PATH = re.compile(
    r"(?:/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/.*)?"
)
_STRICT = "strict decoding error"
_HINTS = {
    401: "the credentials of the kubeconfig's context are not accepted: log in again",
    403: "grant the missing rights; deploy/kubernetes/rbac.yaml has all that a release needs",
    404: "does the namespace exist, and does the cluster know this kind of object?",
    429: "the API server is overloaded",
    500: "look at the API server's log",
    503: "the API server, or a webhook that it asks, is not available",
    504: "the API server, or a webhook that it asks, is too slow",
}


class RefusedError(PlatformError):
    """Look at the reason: the API server refused a request."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class TakenError(ConflictError):
    """Another writer was there first: the object, or fields of it, are not as we left them."""

    def __init__(self, text: str, reason: str, managers: Sequence[str]) -> None:
        super().__init__(text)
        self.reason = reason
        """Kubernetes' own word, such as ``AlreadyExists`` or ``Conflict``."""
        self.managers = tuple(managers)
        """Field managers that own what we were about to apply."""


class UnclearError(PlatformError):
    """The answer does not tell whether the server did what was asked."""

    def __init__(self, method: str, path: str, reason: str) -> None:
        super().__init__(f"{method} {named(path)}: no clear answer of the API server: {reason}")


def named(path: str) -> str:
    """Return the object of an API path as people say it: ``services/llm in namespace default``."""
    found = _PATH.fullmatch(path)
    if found is None:
        return path
    what = "/".join(filter(None, (found["kind"], found["name"])))
    return f"{what} in namespace {found['namespace']}" if found["namespace"] else what


def refusal(method: str, path: str, answer: Answer) -> PlatformError:
    """Return the error for an answer that is no success."""
    status = _status(answer)
    reason = str(status.get("reason") or answer.status)
    said = str(status.get("message") or answer.body[:400].decode("utf-8", "replace"))
    message = one_line(said[max(0, said.find(_STRICT)) :])  # it follows the whole object
    text = f"{method} {named(path)}: {answer.status} {reason}: {message}"
    if answer.status == 409:
        causes = (status.get("details") or {}).get("causes") or []
        taken = [_MANAGER.search(str(cause.get("message"))) for cause in causes]
        managers = list(dict.fromkeys(match[1] for match in taken if match))
        if managers:
            fields = ", ".join(dict.fromkeys(str(cause.get("field")) for cause in causes))
            text = (
                f"{named(path)}: {' and '.join(managers)} manages {fields}: two writers would "
                "undo each other's work; take the object out of the other one's hands"
            )
        return TakenError(text, reason, managers)
    hint = _HINTS.get(answer.status)
    return RefusedError(f"{text} ({hint})" if hint else text, answer.status)


def _status(answer: Answer) -> dict[str, Any]:
    try:
        value = json.loads(answer.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
