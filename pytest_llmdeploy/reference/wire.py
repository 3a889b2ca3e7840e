"""The OpenAI wire format inwards: request bodies to checked orders, and the errors in its shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = ("system", "developer", "user", "assistant", "tool")
UNSUPPORTED = ("tools", "functions", "logprobs", "top_logprobs", "logit_bias", "audio")
"""Fields that would change the answer in ways that no engine here can follow."""


class ApiError(Exception):
    """An answer other than 200, in the shape in which OpenAI-compatible services give it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        kinds = {429: "rate_limit_error", 404: "not_found_error"}
        kind = "server_error" if status >= 500 else kinds.get(status, "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True, slots=True)
class ChatOrder:
    """A chat completion that was asked for, checked."""

    messages: tuple[dict[str, str], ...]
    """Roles and plain texts; lists of text parts are joined."""
    max_tokens: int
    stream: bool
    include_usage: bool
    stop: tuple[str, ...]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """temperature, top_p, seed and response_format, as far as they were given."""


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request's body; raise ApiError 400."""
    try:
        data = json.loads(body)
        # Text with half a surrogate pair passes JSON but can be neither tokenized nor sent back.
        json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        raise ApiError(400, "the request's body is not valid JSON", code="invalid_json") from exc
    if not isinstance(data, dict):
        raise ApiError(400, "the request's body must be a JSON object", code="invalid_json")
    return data


def read_chat(data: Mapping[str, Any], model: str, default_max_tokens: int) -> ChatOrder:
    """Return the order in a chat request; raise ApiError 400, or 404 for an unknown model."""
    check_model(data, model)
    for name in UNSUPPORTED:
        if data.get(name):
            raise _refused(
                name, f"'{name}' is not supported by this service", "unsupported_parameter"
            )
    if _optional(data, "n", int, 1) != 1:
        raise _refused("n", "'n' other than 1 is not supported", "unsupported_parameter")
    limit = _ranged(data, "max_tokens", int, 1, None)
    limit = _ranged(data, "max_completion_tokens", int, 1, None) or limit
    sampling = {
        "temperature": _ranged(data, "temperature", float, 0, 2),
        "top_p": _ranged(data, "top_p", float, 0, 1),
        "seed": _ranged(data, "seed", int, -(2**63), 2**63 - 1),
        "response_format": _optional(data, "response_format", dict, None),
    }
    stream = _optional(data, "stream", bool, False)
    options = _optional(data, "stream_options", dict, {})
    if options and not stream:
        raise _refused("stream_options", "'stream_options' needs stream: true")
    return ChatOrder(
        messages=_messages(data.get("messages")),
        max_tokens=limit or default_max_tokens,
        stream=stream,
        include_usage=_optional(options, "include_usage", bool, False),
        stop=_stop(data.get("stop")),
        sampling={name: value for name, value in sampling.items() if value is not None},
    )


def read_texts(data: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Return an embedding request's texts, and whether the vectors go back as base64."""
    texts = data.get("input")
    if isinstance(texts, str):
        texts = [texts]
    if not (isinstance(texts, list) and texts and all(isinstance(t, str) and t for t in texts)):
        raise _refused("input", "'input' must be a text or a list of texts, none of them empty")
    if data.get("dimensions") is not None:
        raise _refused(
            "dimensions", "'dimensions' is not supported by this service", "unsupported_parameter"
        )
    encoding = data.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise _refused("encoding_format", "'encoding_format' must be float or base64")
    return texts, encoding == "base64"


def check_model(data: Mapping[str, Any], model: str) -> None:
    """Raise ApiError 404 when another model than ours is asked for; none at all means ours."""
    asked = _optional(data, "model", str, model)
    if asked != model:
        raise ApiError(
            404, f"the model {asked!r} does not exist", param="model", code="model_not_found"
        )


def _messages(value: object) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise _refused("messages", "'messages' must be a list of at least one message")
    messages = []
    for index, message in enumerate(value):
        where = f"messages.{index}"
        if not isinstance(message, dict):
            raise _refused(where, f"'{where}' must be an object")
        if message.get("role") not in ROLES:
            raise _refused(f"{where}.role", f"'{where}.role' must be one of {', '.join(ROLES)}")
        messages.append({"role": message["role"], "content": _text(message.get("content"), where)})
    return tuple(messages)


def _text(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        texts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
            for part in content
        ]
        if all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    where = f"{where}.content"
    raise _refused(where, f"'{where}' must be a text or a list of text parts")


def _stop(value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if (
        not isinstance(texts, list)
        or len(texts) > 4
        or not all(isinstance(text, str) and text for text in texts)
    ):
        raise _refused(
            "stop", "'stop' must be a text or a list of up to 4 texts, none of them empty"
        )
    return tuple(texts)


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "an object",
}


def _optional(data: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = data.get(name)
    if value is None:
        return default
    # JSON's true is an int to Python, and 1 is a fine float.
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise _refused(name, f"'{name}' must be {_NAMES[kind]}", "invalid_type")
    return value


def _ranged(data: Mapping[str, Any], name: str, kind: type, low: float, high: float | None) -> Any:
    value = _optional(data, name, kind, None)
    if value is not None and not (low <= value and (high is None or value <= high)):
        limits = f"{low} or more" if high is None else f"from {low} to {high}"
        raise _refused(name, f"'{name}' must be {limits}")
    return value


def _refused(param: str, message: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, param=param, code=code)
