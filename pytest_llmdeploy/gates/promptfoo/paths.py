"""The files that a promptfoo config names: none may lie outside the project."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.text import read_text, size_text
from pytest_llmdeploy.gates.promptfoo.js_values import parse_json

MAX_FILES = 10_000
"""Most files that one pattern may match."""
MAX_SEEN = 200_000
"""Most files and folders that are looked at for one pattern."""
MAX_BYTES = 16 << 20
"""Largest file that is read."""
_MAGIC = re.compile(r"[*?]|\[.*\]|[!+@]\(")
_TOKENS = re.compile(r"\[[^\]/]+\]|.")
_CODE = re.compile(r"\.[cm]?[jt]s$")


class BadPathError(ValueError):
    """The file cannot be used; the text says why."""


def has_magic(name: str) -> bool:
    """Say whether a name is a pattern."""
    return _MAGIC.search(name) is not None


def is_javascript(name: str) -> bool:
    """Say whether a file holds JavaScript or TypeScript, by its name."""
    return _CODE.search(name) is not None


def without_function(name: str) -> tuple[str, str | None]:
    """Return the path of ``file.py:function`` and the function, where there is one."""
    path, colon, function = name.rpartition(":")
    if colon and len(path) > 1 and (path.endswith(".py") or is_javascript(path)):
        return path, function
    return name, None


@dataclass(frozen=True, slots=True)
class Files:
    """Where the files of one config may lie."""

    base: Path
    """Folder of the config, against which paths are resolved."""
    root: Path
    """Folder of llmdeploy.yaml; what lies below neither of the two is not read."""

    def at(self, base: Path) -> Files:
        """Return the same with paths resolved against another folder."""
        return Files(base, self.root) if base.is_relative_to(self.root) else Files(base, self.base)

    def resolve(self, name: str) -> Path:
        """Return the file that `name`, with or without ``file://``, means; raise BadPathError.

        Links are followed first, so that none leads out of the project.
        """
        bare = name.removeprefix("file://")
        path = self._within(bare)
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "does not exist"
            raise BadPathError(f"the file {bare} {kind}")
        return path

    def matches(self, pattern: str) -> list[Path]:
        """Return the files of a pattern, sorted; of a plain name its file. Never empty.

        Raises BadPathError.
        """
        bare = pattern.removeprefix("file://")
        if not has_magic(bare):
            return [self.resolve(bare)]
        self._within(re.split(r"[*?\[]", bare)[0] or ".")
        if ".." in "".join(re.split(r"[*?\[]", bare, maxsplit=1)[1:]).split("/"):
            # Else the whole disk can be walked before the first match says where it lies.
            raise BadPathError(f"the pattern {bare} has '..' after its first '*', '?' or '['")
        found: list[Path] = []
        for name in self._walked(bare):
            path = self._within(name)
            if path.is_file():
                found.append(path)
            if len(found) > MAX_FILES:
                raise BadPathError(f"the pattern {bare} matches more than {MAX_FILES} files")
        if not found:
            raise BadPathError(f"the pattern {bare} matches no file")
        return sorted(found)

    def _walked(self, pattern: str) -> Iterator[str]:
        """Yield the names that match, without following links to folders: one may lead anywhere.

        Raises BadPathError where there is too much to look through.
        """
        parts = pattern.split("/")
        fixed = next(number for number, part in enumerate(parts) if has_magic(part))
        top = "/".join(parts[:fixed]) or ("/" if pattern.startswith("/") else "")
        deepest = math.inf if "**" in parts else len(parts) - fixed - 1
        wanted = re.compile(_as_regex(parts[fixed:]))
        seen = 0
        for folder, folders, files in os.walk(self.base / top):
            inner = Path(folder).relative_to(self.base / top)
            hidden = [name for name in folders if name.startswith(".")]
            at_the_end = len(inner.parts) >= deepest
            folders[:] = [] if at_the_end else sorted(set(folders) - set(hidden))
            seen += len(files) + len(folders)
            if seen > MAX_SEEN:
                raise BadPathError(
                    f"the pattern {pattern} has more than {MAX_SEEN} files to look at"
                )
            for name in files:
                below = (inner / name).as_posix()
                if wanted.fullmatch(below) and (name[0] != "." or parts[-1].startswith(".")):
                    yield f"{top}/{below}" if top else below

    def relative(self, path: Path) -> str:
        """Return how labels name the file: relative to the config where it lies below it."""
        base = self.base.resolve()
        return str(path.relative_to(base) if path.is_relative_to(base) else path)

    def _within(self, name: str) -> Path:
        if "\0" in name:
            raise BadPathError("a path cannot hold NUL")
        path = (self.base / name).resolve()
        if not any(path.is_relative_to(place.resolve()) for place in (self.base, self.root)):
            raise BadPathError(
                f"the file {name} lies outside the project: only files below the folder of "
                "llmdeploy.yaml or of the config are read"
            )
        return path


def _as_regex(parts: Sequence[str]) -> str:
    """Return the parts of a pattern as a regular expression of paths with slashes."""
    kinds = {"*": "[^/]*", "?": "[^/]"}
    pieces = []
    for part in parts:
        if part == "**":
            pieces.append("(?:[^/]+/)*")
            continue
        for token in _TOKENS.findall(part):
            if len(token) > 1:
                inside = re.escape(token[1:-1]).replace(r"\-", "-")
                inside = "^/" + inside[1:] if inside.startswith("!") else inside
                pieces.append(f"[{inside}]")
            else:
                pieces.append(kinds.get(token) or re.escape(token))
        pieces.append("/")
    return "".join(pieces).removesuffix("/")


def resolve(name: str, base: Path, root: Path) -> Path:
    """Return the file that `name` means in a config of the folder `base`; see Files.resolve."""
    return Files(base, root).resolve(name)


def read(path: Path) -> str:
    """Return the file's text; raise ConfigError."""
    return read_text(path, MAX_BYTES)


def read_bytes(path: Path) -> bytes:
    """Return the file's content; raise BadPathError."""
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise BadPathError(f"the file {path.name} is larger than {size_text(MAX_BYTES)}")
    return content


def read_json(path: Path) -> Any:
    """Return the JSON of a file; raise ConfigError or BadPathError."""
    try:
        return parse_json(read(path))
    except ValueError as error:
        raise BadPathError(f"the file {path.name} is not JSON: {error}") from error
