"""Messages with templates, in the forms that the hosted service keeps them, as chat messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.gates.openai_evals.templates import fill
from pytest_llmdeploy.ports import Message

_TEXTS = ("input_text", "output_text", "text")
_ROLES = ("system", "developer", "user", "assistant", "tool")


class BadMessageError(ValueError):
    """It is no message that can be sent; the text says why."""


def texts(messages: Sequence[Any]) -> Iterator[str]:
    """Yield every template of the messages; raise BadMessageError."""
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise BadMessageError(f"a message has a role and content, got {shown(message)}")
        content = message.get("content")
        if isinstance(content, str):
            yield content
            continue
        for part in content if isinstance(content, list) else [content]:
            yield from _part_texts(part)


def _part_texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif (
        isinstance(part, dict) and part.get("type") in _TEXTS and isinstance(part.get("text"), str)
    ):
        yield part["text"]
    elif isinstance(part, dict) and part.get("type") == "input_image":
        url = part.get("image_url")
        if not isinstance(url, str):
            raise BadMessageError("an input_image needs an image_url")
        yield url
    else:
        kind = part.get("type") if isinstance(part, dict) else part
        raise BadMessageError(f"a message's content cannot be {shown(kind)}: texts and images can")


def fill_messages(
    messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any]
) -> list[Message]:
    """Return chat messages; raise BadTemplateError or NotInSampleError.

    The role developer is sent as system, which every endpoint knows.
    """
    filled: list[Message] = []
    for message in messages:
        role = "system" if message["role"] == "developer" else message["role"]
        content = message["content"]
        parts = content if isinstance(content, list) else [content]
        if all(isinstance(part, str) or part.get("type") in _TEXTS for part in parts):
            written = (part if isinstance(part, str) else part["text"] for part in parts)
            filled.append(
                {"role": role, "content": "\n".join(fill(one, values) for one in written)}
            )
        else:
            filled.append({"role": role, "content": [_chat_part(part, values) for part in parts]})
    return filled


def _chat_part(part: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(part, dict) and part["type"] == "input_image":
        image = {"url": fill(part["image_url"], values)}
        if isinstance(part.get("detail"), str):
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    return {"type": "text", "text": fill(part if isinstance(part, str) else part["text"], values)}


def chat(given: Any) -> list[Message]:
    """Return an input as chat messages; raise ValueError with a sentence."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise ValueError(f"expected a text or a list of messages, got {shown(given)}")
    return list(_messages(given))


def _messages(given: Sequence[Any]) -> Iterator[Message]:
    for message in given:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError(f"a message has a role and content, got {shown(message)}")
        if not isinstance(message.get("content"), str):
            raise ValueError(f"a message's content is a text, got {shown(message.get('content'))}")
        yield {key: message[key] for key in ("role", "name", "content") if key in message}
