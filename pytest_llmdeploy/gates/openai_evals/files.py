"""The files of an eval: below the project's folder, of a bearable size, one JSON object a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.config.text import display_path, read_text
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.readers.json_files import read_json_lines, strict_json
from pytest_llmdeploy.gates.readers.raw import MAX_BYTES

MAX_PROBLEMS = 20
"""Bad lines of a file that are told."""
_POINTER = "version https://git-lfs.github.com/spec/"


class BadPathError(ValueError):
    """The file cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON object of a file."""

    data: dict[str, Any]
    file: str
    line: int

    @property
    def source(self) -> str:
        """Where it stands, as ``file:line``."""
        return f"{self.file}:{self.line}"


def resolve(name: str, bases: Sequence[Path], root: Path) -> Path:
    """Return the first file or folder `name` below one of the folders; raise BadPathError.

    Links are followed first, so that none leads out of `root`.
    """
    if "\0" in name:
        raise BadPathError("a path cannot hold NUL")
    limit = root.resolve()
    inside = [path for base in bases if (path := (base / name).resolve()).is_relative_to(limit)]
    for path in inside:
        if path.exists():
            return path
    if not inside:
        raise BadPathError(
            f"{shown(name)} lies outside the project: only files below the folder of "
            "llmdeploy.yaml are read"
        )
    tried = ", ".join(display_path(path) for path in dict.fromkeys(inside))
    raise BadPathError(f"there is no file {shown(name)}; looked for {tried}")


def read_objects(path: Path, root: Path) -> list[Line]:
    """Return the objects of a JSON Lines file, or of all such files of a folder.

    Raises ConfigError for the first bad lines, and for a file without any.
    """
    file = display_path(path)
    if path.is_dir():
        found = sorted(one for one in path.glob("**/*.jsonl") if one.is_file())
        found = [one for one in found if one.resolve().is_relative_to(root.resolve())]
        if not found:
            raise ConfigError([Problem(file, 0, "", "the folder holds no .jsonl file")])
        return [line for one in found for line in read_objects(one, root)]
    if path.suffix in {".gz", ".zst", ".lz4"}:
        message = f"{path.suffix} files are not read: unpack it, and name the .jsonl file"
        raise ConfigError([Problem(file, 0, "", message)])
    refuse_pointer(path)
    reading = read_json_lines(path)
    problems = list(reading.problems)
    lines = []
    for raw in reading.cases:
        if isinstance(raw.data, dict):
            lines.append(Line(raw.data, raw.file, raw.line))
        else:
            message = f"expected a JSON object, got {shown(raw.data)}"
            problems.append(Problem(raw.file, raw.line, "", message))
    if problems:
        raise ConfigError(problems[:MAX_PROBLEMS])
    if not lines:
        raise ConfigError([Problem(file, 0, "", "the file holds no JSON object")])
    return lines


def read_document(path: Path) -> Any:
    """Return the value of a JSON file; raise ConfigError."""
    refuse_pointer(path)
    text = read_text(path, MAX_BYTES)
    try:
        return strict_json(text)
    except ValueError as error:
        line = getattr(error.__cause__, "lineno", 0)
        raise ConfigError([Problem(display_path(path), line, "", str(error))]) from error


def refuse_pointer(path: Path) -> None:
    """Raise ConfigError where git-lfs has left a pointer in the file's place."""
    try:
        with path.open("rb") as stream:
            begin = stream.read(len(_POINTER))
    except OSError:
        return  # whoever reads the file says why it cannot
    if begin == _POINTER.encode():
        message = "this is a git-lfs pointer, not the file: run git lfs pull in its repository"
        raise ConfigError([Problem(display_path(path), 1, "", message)])
