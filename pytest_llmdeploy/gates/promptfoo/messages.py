"""A rendered prompt to the messages that are sent."""

from __future__ import annotations

import re
from typing import Any

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.promptfoo.js_values import parse_json
from pytest_llmdeploy.gates.promptfoo.variables import NotSupportedError
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import parse_yaml
from pytest_llmdeploy.gates.templates import message_problem
from pytest_llmdeploy.gates.wording import quote
from pytest_llmdeploy.ports import Message


def messages_of(text: str) -> list[Message]:
    """Return the messages that a rendered prompt is; raise NotSupportedError.

    YAML that begins with ``- role:`` and JSON are messages; any other text is the user's.
    """
    stripped = text.strip()
    value: Any
    if stripped.startswith("- role:"):
        try:
            value = parse_yaml(text, "the prompt").data
        except ConfigError as error:
            reason = error.problems[0].message
            raise NotSupportedError(f"the prompt is no valid YAML of messages: {reason}") from error
    else:
        try:
            value = parse_json(text)
        except ValueError as error:
            if _looks_like_json(stripped):
                raise NotSupportedError(
                    f"the prompt looks like JSON and is none: {error}"
                ) from error
            return [{"role": "user", "content": text}]
    if problem := message_problem(value):
        raise NotSupportedError(f"the prompt is {quote(stripped, 60)}, no messages: {problem}")
    return [dict(message) for message in value]


def _looks_like_json(text: str) -> bool:
    if text.startswith("{") and text.endswith("}"):
        return True
    inside = text[1:].lstrip()
    begins = re.match(r"[\"{\[\d-]|true|false|null", inside) is not None or inside == ""
    return text.startswith("[") and text.endswith("]") and begins
