"""The filters of templates that make a text of a text."""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import quote as percent

from pytest_llmdeploy.gates.promptfoo.js_values import (
    SPACE,
    UNDEFINED,
    to_number,
    to_text,
    trim,
    truthy,
)
from pytest_llmdeploy.gates.promptfoo.nunjucks.functions import units, whole
from pytest_llmdeploy.gates.promptfoo.nunjucks.lexer import TemplateError
from pytest_llmdeploy.gates.promptfoo.nunjucks.limits import MOST_CHARACTERS

_TAGS = re.compile(r"</?([a-z][a-z0-9]*)\b[^>]*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)

_HTML = {
    "&": "&amp;",
    '"': "&quot;",
    "'": "&#39;",
    "<": "&lt;",
    ">": "&gt;",
    "`": "&#96;",
    "\\": "&#92;",
}

_EXACT_URI = "!'()*-._~"


def as_text(value: Any) -> str:
    """Return a text for the filters that take one: nothing and false are empty."""
    if value is None or value is UNDEFINED or value is False:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def capitalize(value: Any) -> str:
    text = as_text(value).lower()
    return text[:1].upper() + text[1:]


def center(value: Any, width: Any = UNDEFINED) -> str:
    text = as_text(value)
    spaces = (int(to_number(width)) if truthy(width) else 80) - len(units(text))
    if spaces <= 0:
        return text
    if spaces > MOST_CHARACTERS:
        raise TemplateError(f"a text has more than {MOST_CHARACTERS} characters")
    # Half of an odd number loses twice its remainder on the left, as in the original.
    left = max(0, math.ceil(spaces / 2 - spaces % 2)) if spaces % 2 else spaces // 2
    return " " * left + text + " " * math.ceil(spaces / 2)


def escape(value: Any) -> str:
    if value is None or value is UNDEFINED:
        return ""
    return re.sub(r"[&\"'<>`\\]", lambda found: _HTML[found.group()], to_text(value))


def indent(value: Any, width: Any = UNDEFINED, first: Any = UNDEFINED) -> str:
    spaces = " " * (min(int(to_number(width)), 1000) if truthy(width) else 4)
    lines = as_text(value).split("\n")
    if lines == [""]:
        return ""
    return "\n".join(
        line if not at and not truthy(first) else spaces + line for at, line in enumerate(lines)
    )


def replace(value: Any, old: Any, new: Any, most: Any = UNDEFINED) -> Any:
    old = to_text(old) if isinstance(old, int | float) and not isinstance(old, bool) else old
    value = (
        to_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    )
    if not isinstance(old, str) or not isinstance(value, str):
        return value
    put = to_text(new)
    if old == "":
        return put + put.join(units(value)) + put
    count = -1 if most is UNDEFINED else int(to_number(most))
    if value.count(old) * len(put) > MOST_CHARACTERS:
        raise TemplateError(f"a text has more than {MOST_CHARACTERS} characters")
    return value.replace(old, put, count)


def nl2br(value: Any) -> str:
    if value is None or value is UNDEFINED:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return re.sub(r"\r\n|\n", "<br />\n", value)


def string(value: Any) -> str:
    if value is None or value is UNDEFINED:
        raise TypeError("nothing")
    return to_text(value)


def striptags(value: Any, keep_lines: Any = UNDEFINED) -> str:
    text = trim(_TAGS.sub("", as_text(value)))
    if not truthy(keep_lines):
        return re.sub(f"[{SPACE}]+", " ", text)
    text = re.sub(r"^ +| +$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n\n\n+", "\n\n", re.sub(r" +", " ", text).replace("\r\n", "\n"))


def title(value: Any) -> str:
    return " ".join(capitalize(word) for word in as_text(value).split(" "))


def trimmed(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return trim(value)


def truncate(value: Any, *given: Any) -> str:
    length, kill_words, end = (*given, *[UNDEFINED] * 3)[:3]
    text = units(as_text(value))
    most = int(to_number(length)) if truthy(length) else 255
    if len(text) <= most:
        return whole(text)
    if not truthy(kill_words):
        space = text.rfind(" ", 0, most + 1)
        most = most if space < 0 else space
    return whole(text[:most]) + ("..." if end is UNDEFINED or end is None else to_text(end))


def urlencode(value: Any) -> str:
    if isinstance(value, str):
        return percent(value, _EXACT_URI)
    pairs = value if isinstance(value, list) else [[key, one] for key, one in value.items()]
    return "&".join(
        f"{percent(to_text(key), _EXACT_URI)}={percent(to_text(one), _EXACT_URI)}"
        for key, one in pairs
    )


def wordcount(value: Any) -> int | None:
    found = re.findall(r"[A-Za-z0-9_]+", as_text(value))
    return len(found) or None
