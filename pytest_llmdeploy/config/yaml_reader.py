"""YAML 1.2 files as plain Python data with the line of every value.

The data is composed from the parser's events, not by the library's constructor: that keeps the
lines, makes nothing but plain data whatever the tags say, and counts what aliases expand to
before memory is spent on it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ruamel.yaml import YAML
from ruamel.yaml import events as yaml_events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pytest_llmdeploy.config.text import display_path, read_text, shortened
from pytest_llmdeploy.config.yaml_sentences import syntax_problem
from pytest_llmdeploy.errors import ConfigError, Problem

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the root to a value."""

MAX_DEPTH = 100
MAX_EXPANDED = 100_000
"""How many values the aliases of one file may stand for in all."""

TAG = "tag:yaml.org,2002:"
# The core schema of YAML 1.2: no "yes", no octal 012, no dates.
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_KINDS = {"int": int, "float": float, "bool": bool, "null": type(None)}


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content."""

    data: Any
    """Dicts, lists, strings, numbers, booleans and None; an aliased value is one shared object."""
    lines: dict[KeyPath, int]
    """1-based line of every key and list item; behind an alias its anchor's lines."""


def dotted(path: KeyPath) -> str:
    """Return a key path as messages show it, such as ``smoke.checks[0].kind``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shortened(part)}" for part in path)
    return text.removeprefix(".")


def read_yaml(path: Path, max_bytes: int) -> Document:
    """Return the only document of a YAML file; raise ConfigError with every problem's line.

    Keys must be strings, keys may not repeat, and no tag makes anything but plain data.
    """
    return composed(Composer(display_path(path), read_text(path, max_bytes)))


def composed(composer: Composer) -> Document:
    """Return the composer's only document; raise ConfigError with every problem's line."""
    try:
        document = composer.document()
    except MarkedYAMLError as exc:
        line, message = syntax_problem(exc)
        composer.report((), line, message)
    except (YAMLError, ValueError, OverflowError):
        # An escape such as \U00110000 stands for no character.
        composer.report((), composer.line, "the YAML holds a character that does not exist")
    except StopReadingError:
        pass
    if composer.problems:
        raise ConfigError(composer.problems) from None
    return document


class StopReadingError(Exception):
    """Going on makes no sense: the problem is reported already."""


@dataclass(frozen=True, slots=True)
class _Anchor:
    value: Any
    size: int
    path: KeyPath


class Composer:
    """Makes plain data of a text's events; other dialects differ in keys, scalars and tags."""

    MAPPING_TAGS: ClassVar[tuple[str, ...]] = ("map",)

    def __init__(self, file: str, text: str) -> None:
        self.problems: list[Problem] = []
        self.line = 0
        self._file = file
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self.lines: dict[KeyPath, int] = {}
        self._anchors: dict[str, _Anchor | None] = {}
        self._values = 0
        self._expanded = 0

    def report(self, path: KeyPath, line: int, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(self._file, line, dotted(path), message))

    def empty(self) -> Any:
        """Return what a file without a document holds, or raise StopReadingError."""
        self.report((), 0, "the file is empty")
        raise StopReadingError

    def document(self) -> Document:
        """Return the document; raise StopReadingError where going on makes no sense."""
        self.next()  # the stream's start
        if isinstance(self.next(), yaml_events.StreamEndEvent):
            return Document(self.empty(), {(): 1})
        data = self.value(self.next(), (), 0)
        self.next()  # the document's end
        if not isinstance(self.next(), yaml_events.StreamEndEvent):
            self.report((), self.line, "a second document starts here: the file may hold only one")
        return Document(data, self.lines)

    def next(self) -> Any:
        """Return the next event, and note its line."""
        event = next(self._events)
        self.line = event.start_mark.line + 1
        return event

    def stop(self, path: KeyPath, message: str) -> StopReadingError:
        """Note a problem after which nothing is read, and return what to raise."""
        self.report(path, self.line, message)
        return StopReadingError()

    def value(self, event: Any, path: KeyPath, depth: int) -> Any:
        """Return the value that begins with the event."""
        if depth > MAX_DEPTH:
            raise self.stop((), f"nested deeper than {MAX_DEPTH} levels")
        self.lines.setdefault(path, self.line)
        if isinstance(event, yaml_events.AliasEvent):
            return self._alias(event.anchor, path)
        self._values += 1
        before = self._values
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # open: an alias to it from inside is a loop
        if isinstance(event, yaml_events.MappingStartEvent):
            self._check_collection_tag(event, self.MAPPING_TAGS, path)
            value: Any = self.mapping(path, depth)
        elif isinstance(event, yaml_events.SequenceStartEvent):
            self._check_collection_tag(event, ("seq",), path)
            value = self._sequence(path, depth)
        else:
            value = self.scalar(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchor(value, self._values - before + 1, path)
        return value

    def mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        """Return the mapping whose start was read."""
        result: dict[str, Any] = {}
        while not isinstance(event := self.next(), yaml_events.MappingEndEvent):
            line = self.line
            is_text = isinstance(event, yaml_events.ScalarEvent)
            plain_merge = is_text and event.value == "<<" and not event.style
            key = self.value(event, path, depth + 1)
            if plain_merge:
                self.report(path, line, "merge keys (<<) are not supported: write the keys out")
            elif not isinstance(key, str):
                name = shortened(event.value) if is_text else ""
                hint = f": put {name} in quotes" if name else ""
                self.report(path, line, f"a key must be text{hint}")
                key = repr(key)
            elif key in result:
                first = f"first given on line {self.lines[*path, key]}"
                self.report(path, line, f"duplicate key '{shortened(key)}', {first}")
            self.lines.setdefault((*path, key), line)
            result[key] = self.value(self.next(), (*path, key), depth + 1)
        return result

    def _sequence(self, path: KeyPath, depth: int) -> list[Any]:
        result: list[Any] = []
        while not isinstance(event := self.next(), yaml_events.SequenceEndEvent):
            result.append(self.value(event, (*path, len(result)), depth + 1))
        return result

    def _alias(self, name: str, path: KeyPath) -> Any:
        if name not in self._anchors:
            raise self.stop(path, f"unknown alias *{shortened(name)}: no such anchor stands above")
        anchor = self._anchors[name]
        if anchor is None:
            raise self.stop(path, f"the alias *{shortened(name)} stands inside its own anchor")
        self._values += anchor.size
        self._expanded += anchor.size
        if self._expanded > MAX_EXPANDED:
            raise self.stop(path, f"the aliases expand to more than {MAX_EXPANDED} values")
        self._copy_lines(anchor.value, anchor.path, path)
        return anchor.value

    def _copy_lines(self, value: Any, source: KeyPath, target: KeyPath) -> None:
        keys = value if isinstance(value, dict) else range(len(value) if type(value) is list else 0)
        for key in keys:
            # A key that was itself an anchor has no lines of its own below its path.
            self.lines[*target, key] = self.lines.get((*source, key), self.line)
            self._copy_lines(value[key], (*source, key), (*target, key))

    def _check_collection_tag(self, event: Any, kinds: Sequence[str], path: KeyPath) -> None:
        if event.tag is not None and str(event.tag) not in {"!", *(TAG + kind for kind in kinds)}:
            self.unknown_tag(str(event.tag), path)

    def unknown_tag(self, tag: str, path: KeyPath) -> None:
        """Note a tag that would make anything but plain data."""
        shown = shortened(f"!!{tag.removeprefix(TAG)}" if tag.startswith(TAG) else tag)
        self.report(path, self.line, f"unknown tag {shown}: only plain data can stand here")

    def scalar(self, event: Any, path: KeyPath) -> Any:
        """Return the value of a scalar."""
        text: str = event.value
        if re.search("[\x00\ud800-\udfff]", text):
            # JSON, which is YAML too, escapes a character in two halves.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            if re.search("[\x00\ufffd]", text):
                self.report(path, self.line, "an escape stands for NUL or half a character")
                return ""
        tag = str(event.tag) if event.tag else None
        if tag is None:
            return text if event.style else self._plain(text, path)
        if tag in {"!", TAG + "str"}:
            return text
        kind = _KINDS.get(tag.removeprefix(TAG)) if tag.startswith(TAG) else None
        if kind is None:
            self.unknown_tag(tag, path)
            return text
        value = self._plain(text, path)
        if type(value) is not kind:
            fits = f"does not fit its tag !!{tag.removeprefix(TAG)}"
            self.report(path, self.line, f"'{shortened(text)}' {fits}")
        return value

    def _plain(self, text: str, path: KeyPath) -> Any:
        if text in _WORDS or (text.lower() in _WORDS and (text.istitle() or text.isupper())):
            return _WORDS[text.lower()]
        if _INT.fullmatch(text):
            try:
                return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
            except ValueError:  # Python refuses to convert thousands of digits
                self.report(path, self.line, f"a number of {len(text)} digits")
                return 0
        if _FLOAT.fullmatch(text):
            return float(text)
        if infinite := _INFINITE.fullmatch(text):
            return float(f"{infinite.group(1)}inf")
        return math.nan if text in {".nan", ".NaN", ".NAN"} else text
