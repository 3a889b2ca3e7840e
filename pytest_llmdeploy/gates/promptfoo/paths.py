"""The files that a promptfoo config names: none may lie outside the project."""

from __future__ import annotations

import glob
from pathlib import Path
from urllib.parse import unquote

MAX_FILES = 10_000
"""Most files that one pattern may match."""


class BadPathError(ValueError):
    """The file cannot be used; the text says why."""


def resolve(name: str, base: Path, root: Path) -> Path:
    """Return the file that `name`, with or without ``file://``, means in a config of `base`.

    Links are followed first: the file itself has to lie below `base` or `root`. Raises BadPathError
    where it does not, or where there is no such file.
    """
    path = _within(_bare(name), base, root)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise BadPathError(f"the file {_bare(name)} {kind}")
    return path


def matches(pattern: str, base: Path, root: Path) -> list[Path]:
    """Return the files of a pattern, sorted; of a plain name, the file. Never empty.

    Raises BadPathError.
    """
    bare = _bare(pattern)
    if not glob.has_magic(bare):
        return [resolve(bare, base, root)]
    if "\0" in bare:
        raise BadPathError("a path cannot hold NUL")
    found: list[Path] = []
    for name in glob.iglob(bare, root_dir=base, recursive=True):  # noqa: PTH207 - absolute ones
        path = _within(name, base, root)
        if path.is_file():
            found.append(path)
        if len(found) > MAX_FILES:
            raise BadPathError(f"the pattern {bare} matches more than {MAX_FILES} files")
    if not found:
        raise BadPathError(f"the pattern {bare} matches no file")
    return sorted(found)


def _bare(name: str) -> str:
    """Return the path without ``file://``, as the config's own tool understands it."""
    if not name.startswith("file://"):
        return name
    rest = name.removeprefix("file://")
    return unquote(rest) if rest.startswith("/") else rest


def _within(name: str, base: Path, root: Path) -> Path:
    if "\0" in name:
        raise BadPathError("a path cannot hold NUL")
    path = (base / name).resolve()
    if not (path.is_relative_to(base.resolve()) or path.is_relative_to(root.resolve())):
        raise BadPathError(
            f"the file {name} lies outside the project: only files below the folder of "
            "llmdeploy.yaml or of the config are read"
        )
    return path
