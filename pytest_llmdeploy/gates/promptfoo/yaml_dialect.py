"""YAML as promptfoo reads it: YAML 1.2's core schema, merge keys, dates, any scalar as a key."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ruamel.yaml import events as yaml_events

from pytest_llmdeploy.config.text import display_path, read_text, shortened
from pytest_llmdeploy.config.yaml_reader import TAG, Composer, Document, KeyPath, composed
from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.promptfoo.js_values import (
    UNDEFINED,
    ordered,
    parse_json,
    plain,
    to_text,
)

MAX_BYTES = 8 << 20
"""Largest file: YAML is slow to read, long lists belong in JSON Lines or CSV."""

_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_MOMENT = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[Tt]|[ \t]+)(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d*))?"
    r"(?:[ \t]*(Z|([-+])(\d{1,2})(?::(\d{2}))?))?"
)
_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),),
    "timestamp": (date,),
}  # fmt: skip


def read_yaml_file(path: Path) -> Document:
    """Return a file's only document; UNDEFINED is the content of an empty one.

    JSON is read as well. Raises ConfigError with every problem's line.
    """
    text = read_text(path, MAX_BYTES)
    try:
        return parse_yaml(text, display_path(path))
    except ConfigError:
        if path.suffix != ".json":
            raise
        try:  # JSON may be indented with tabs, which YAML refuses
            return Document(parse_json(text), {(): 1})
        except ValueError:
            pass
        raise


def parse_yaml(text: str, file: str) -> Document:
    """Return the only document of a text; `file` is its name in messages. Raises ConfigError."""
    return composed(_Composer(file, text))


def plain_scalar(text: str) -> Any:
    """Return what an unquoted scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return plain(float(text)) if len(text) > 15 else int(text)
    if _BASED.fullmatch(text):
        return plain(float(int(text[2:300], 8 if text[1] == "o" else 16)))
    if _FLOAT.fullmatch(text):
        number = plain(float(text))
        return text if number in {float("inf"), float("-inf")} else number
    if special := _SPECIAL.fullmatch(text):
        return float(f"{special[1] or ''}{'nan' if special[3] else 'inf'}")
    return _date(text) or text


def _date(text: str) -> date | None:
    try:
        if day := _DAY.fullmatch(text):
            return date(*map(int, day.groups()))
        if found := _MOMENT.fullmatch(text):
            fraction = int(((found[7] or "") + "000")[:3]) * 1000
            zone = UTC
            if found[9]:
                offset = timedelta(hours=int(found[10]), minutes=int(found[11] or 0))
                zone = timezone(-offset if found[9] == "-" else offset)
            parts = [int(found[at]) for at in range(1, 7)]
            year, month, day_, hour, minute, second = parts
            return datetime(year, month, day_, hour, minute, second, fraction, tzinfo=zone)
    except ValueError:  # the 30th of February
        return None
    return None


class _Composer(Composer):
    MAPPING_TAGS = ("map", "set", "omap")

    def empty(self) -> Any:
        return UNDEFINED

    def mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: set[str] = set()
        while not isinstance(event := self.next(), yaml_events.MappingEndEvent):
            line = self.line
            is_text = isinstance(event, yaml_events.ScalarEvent)
            if is_text and event.value == "<<" and not event.style:
                value = self.value(self.next(), (*path, "<<"), depth + 1)
                merged |= self._merge(found, value, path)
                continue
            name = self.value(event, (*path, "(key)"), depth + 1)
            self.lines.pop((*path, "(key)"), None)
            if isinstance(name, dict | list):
                raise self.stop(path, "a key must be one word or text, not a list or a mapping")
            key = event.value if isinstance(name, date) else to_text(name)
            if key in found and key not in merged:
                first = f"first given on line {self.lines[*path, key]}"
                self.report(path, line, f"duplicate key '{shortened(key)}', {first}")
            self.lines[*path, key] = line
            merged.discard(key)
            found[key] = self.value(self.next(), (*path, key), depth + 1)
        return ordered(found.items())

    def _merge(self, found: dict[str, Any], value: Any, path: KeyPath) -> set[str]:
        """Put what `<<` names among the keys, where they are not yet; return its keys."""
        new: set[str] = set()
        for source in value if isinstance(value, list) else [value]:
            if not isinstance(source, dict):
                raise self.stop(path, "'<<' takes a mapping, or a list of mappings")
            for key, one in source.items():
                if key not in found:
                    found[key] = one
                    new.add(key)
                    self.lines.setdefault((*path, key), self.line)
        return new

    def scalar(self, event: Any, path: KeyPath) -> Any:
        text: str = event.value
        if re.search("[\x00\ud800-\udfff]", text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            text = text.replace("\x00", "\ufffd")
        tag = str(event.tag) if event.tag else None
        if tag is None:
            return text if event.style else plain_scalar(text)
        if tag in {"!", TAG + "str"}:
            return text
        kinds = _KINDS.get(tag.removeprefix(TAG)) if tag.startswith(TAG) else None
        if kinds is None:
            self.unknown_tag(tag, path)
            return text
        value = plain_scalar(text)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            fits = f"does not fit its tag !!{tag.removeprefix(TAG)}"
            self.report(path, self.line, f"'{shortened(text)}' {fits}")
        return value
