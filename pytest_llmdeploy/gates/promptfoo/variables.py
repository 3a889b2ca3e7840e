"""Variables of a test: every combination of their values, and each as its prompt sees it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_llmdeploy.gates.promptfoo.js_values import (
    UNDEFINED,
    parse_json,
    stringify,
    to_text,
    trim,
)
from pytest_llmdeploy.gates.promptfoo.nunjucks import TemplateError, render
from pytest_llmdeploy.gates.promptfoo.paths import (
    BadPathError,
    Files,
    has_magic,
    is_javascript,
    read,
    read_bytes,
)
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import read_yaml_file

MOST_COMBINATIONS = 100_000
"""Rows that the lists of one test may make."""
_LINE_ENDS = r"(?=[\n\r\u2028\u2029]|\Z)"
_OPEN_TAG = re.compile(rf"\{{%[^%]*{_LINE_ENDS}|\{{\{{[^}}]*{_LINE_ENDS}|\{{#[^#]*{_LINE_ENDS}")
_RAW_BEGINS, _RAW_ENDS = re.compile(r"\{%\s*raw\s*%\}"), re.compile(r"\{%\s*endraw\s*%\}")
_PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_USED = re.compile(r"\{\{\s*([^{}\s|]+)\s*(?:\|[^}]+)?\}\}|\{%\s*(?:if|for)\s+([^{}\s]+)\s*.*?%\}")
_LOOP = re.compile(r"\{%\s*for\s+(\w+)\s+in\s+(\w+)\s*%\}")
_ROOT = re.compile(r"[A-Za-z_]\w*")
_ROUNDS = 5
_IMAGES = {
    "jpg": "jpeg", "jpeg": "jpeg", "png": "png", "gif": "gif", "bmp": "bmp", "webp": "webp",
    "svg": "svg+xml", "tif": "tiff", "tiff": "tiff", "ico": "x-icon", "avif": "avif",
    "heic": "heic", "heif": "heif",
}  # fmt: skip
_MEDIA = [
    "mp3",
    "wav",
    "ogg",
    "oga",
    "flac",
    "m4a",
    "aac",
    "opus",
    "webm",
    "mp4",
    "mov",
    "avi",
    "mkv",
    "mpeg",
    "mpg",
    "ogv",
    "wmv",
    "m4v",
]
_SIGNATURES = {
    "/9j/": "jpeg", "iVBORw0KGgo": "png", "R0lGODlh": "gif", "R0lGODdh": "gif", "UklGR": "webp",
    "Qk0": "bmp", "Qk1": "bmp", "SUkq": "tiff", "TU0A": "tiff", "AAABAA": "x-icon",
}  # fmt: skip


class NotSupportedError(ValueError):
    """The row needs something that is not done here; the text says what."""


def combinations(variables: Mapping[str, Any], files: Files) -> Iterator[dict[str, Any]]:
    """Yield every combination of values.

    A list is several values where its first item is a text; else it is one. ``file://`` patterns
    are a value for each file. Raises BadPathError.
    """
    values: list[tuple[str, list[Any]]] = []
    count = 1
    for name, value in variables.items():
        several = [value]
        if isinstance(value, list) and value and isinstance(value[0], str):
            several = value
        elif isinstance(value, str) and value.startswith("file://"):
            several = [f"file://{files.relative(path)}" for path in files.matches(value)]
            if not has_magic(value):
                several = [value]
        count *= len(several)
        if count > MOST_COMBINATIONS:
            raise BadPathError(f"the variables make more than {MOST_COMBINATIONS} combinations")
        values.append((name, several))
    indices = [0] * len(values)
    for _ in range(count):
        yield {name: several[at] for (name, several), at in zip(values, indices, strict=True)}
        for place in reversed(range(len(values))):
            indices[place] += 1
            if indices[place] < len(values[place][1]):
                break
            indices[place] = 0


def final(variables: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """Return the variables with files read and texts put into each other.

    Raises BadPathError, ConfigError or NotSupportedError.
    """
    result = {name: _content(name, value, files) for name, value in variables.items()}
    for name, value in result.items():
        if isinstance(value, str):
            result[name] = value.removesuffix("\n")
    return resolved(result)


def resolved(variables: dict[str, Any]) -> dict[str, Any]:
    """Put variables into the texts of others where those name them plainly; in place."""
    for _ in range(_ROUNDS):
        done = True
        for name, value in variables.items():
            found = _PLACE.search(value) if isinstance(value, str) else None
            if found is None or variables.get(found[1], UNDEFINED) is UNDEFINED:
                continue
            put = to_text(variables[found[1]])
            variables[name] = _replaced(value, found, put)
            done = False
        if done:
            break
    return variables


def _replaced(text: str, found: re.Match[str], put: str) -> str:
    """Return the text with the match replaced; ``$&`` and its like mean parts of the text."""
    parts = {
        "$$": "$",
        "$&": found.group(),
        "$`": text[: found.start()],
        "$'": text[found.end() :],
    }
    put = re.sub(r"\$[$&`']", lambda mark: parts[mark.group()], put)
    return text[: found.start()] + put + text[found.end() :]


def fill(raw: str, variables: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the prompt's text; raise TemplateError.

    A prompt that is JSON is filled in text by text, so that quotes in variables do no harm; any
    other as a whole, once the variables that are templates themselves have been filled in.
    """
    try:
        filled = _filled(parse_json(raw), variables, environment)
        return stringify(filled, 2)
    except (TemplateError, ValueError):
        pass
    nested = {
        name: render(wrapped(value), variables, environment)
        if isinstance(value, str) and not _lacks(value, variables)
        else value
        for name, value in variables.items()
    }
    return render(wrapped(raw), nested, environment)


def wrapped(text: str) -> str:
    """Return the text as raw where a tag in it is not closed on its line, as the original does."""
    if not _OPEN_TAG.search(text):
        return text
    if _RAW_BEGINS.search(text) and _RAW_ENDS.search(text):
        return text
    return f"{{% raw %}}{text}{{% endraw %}}"


def _filled(value: Any, variables: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return render(value, variables, environment)
    if isinstance(value, list):
        return [_filled(one, variables, environment) for one in value]
    if isinstance(value, Mapping):
        return {key: _filled(one, variables, environment) for key, one in value.items()}
    return value


def _lacks(template: str, variables: Mapping[str, Any]) -> bool:
    """Say whether a variable's template names one that is not there: it stays as it is then."""
    if "{" not in template:
        return False
    plain = _COMMENT.sub("", template)
    used = dict.fromkeys(one[1] or one[2] for one in _USED.finditer(plain))
    for loop in _LOOP.finditer(plain):
        used.pop(loop[1], None)
        used[loop[2]] = None
    roots = [found.group() for name in used if (found := _ROOT.match(name))]
    return any(root != "env" and variables.get(root, UNDEFINED) is UNDEFINED for root in roots)


def _content(name: str, value: Any, files: Files) -> Any:
    if not isinstance(value, str):
        return value
    if value.startswith("package:"):
        raise NotSupportedError(f"the variable '{name}' is code of a package, which is not run")
    if not value.startswith("file://"):
        return value
    if is_javascript(value) or value.endswith(".py"):
        raise NotSupportedError(f"the variable '{name}' is code ({value}), which is not run here")
    path = files.resolve(value)
    kind = path.suffix.removeprefix(".")
    if kind in {"yaml", "yml"}:
        return stringify(read_yaml_file(path).data)
    if kind == "pdf":
        raise NotSupportedError(f"the variable '{name}' is a PDF, whose text is not read here")
    if kind.lower() in _IMAGES:
        content = base64.b64encode(read_bytes(path)).decode()
        seen = next((mime for mark, mime in _SIGNATURES.items() if content.startswith(mark)), None)
        return f"data:image/{seen or _IMAGES[kind.lower()]};base64,{content}"
    if kind.lower() in _MEDIA:
        return base64.b64encode(read_bytes(path)).decode()
    return trim(read(path))
