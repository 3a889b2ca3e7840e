"""The cases of a suite: in place, in files, or in all files of a pattern."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.config.yaml_reader import KeyPath, dotted
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.assertions import AssertionRegistry
from pytest_llmdeploy.gates.building import CaseBuilder
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.readers.formats import read_cases
from pytest_llmdeploy.gates.readers.raw import RawCase

__all__ = ["Case", "load_cases"]

MAX_PROBLEMS = 20
"""So many problems of one file are told; a wrong column would otherwise tell thousands."""
Where = Callable[..., tuple[str, int]]
"""File and line of a key of ``llmdeploy.yaml``, given as its path."""


def load_cases(
    suite_name: str,
    suite: SuiteConfig,
    root: Path,
    where: Where,
    registry: AssertionRegistry | None = None,
) -> list[Case]:
    """Return the suite's cases in the order of its entries; never an empty list.

    A file that several entries name counts once. Raises one ConfigError with what is wrong
    anywhere.
    """
    types = (registry or AssertionRegistry()).below(root)
    builder = CaseBuilder(suite_name, suite, types, where)
    problems: list[Problem] = []
    raws: list[tuple[RawCase, Path | None]] = []
    seen: set[Path] = set()
    for index, entry in enumerate(suite.cases):
        if isinstance(entry, dict):
            raws.append((_in_place(suite_name, index, entry, where), None))
            continue
        try:
            paths = _files(entry, root)
        except (OSError, ValueError) as error:
            path: KeyPath = ("gates", suite_name, "cases", index)
            file, line = where(*path)
            problems.append(Problem(file, line, dotted(path), str(error)))
            continue
        for found in paths:
            if found.resolve() not in seen:
                seen.add(found.resolve())
                reading = read_cases(found)
                problems.extend(reading.problems)
                raws.extend((raw, found) for raw in reading.cases)
    prefixes = _prefixes(dict.fromkeys(path for _, path in raws), root)
    cases = [case for raw, path in raws if (case := builder.build(raw, prefixes[path], path))]
    problems += builder.problems
    problems += _duplicates(cases)
    if problems:
        raise ConfigError(_first_of_each_file(problems))
    return cases


def _in_place(suite_name: str, index: int, entry: dict[str, object], where: Where) -> RawCase:
    base: KeyPath = ("gates", suite_name, "cases", index)
    file, line = where(*base)
    return RawCase(
        entry,
        file,
        line,
        row=index + 1,
        line_of=lambda path: where(*base, *path)[1],
        label_of=lambda path: dotted((*base, *path)),
    )


def _files(entry: str, root: Path) -> list[Path]:
    """Return the files of one entry; raise ValueError when there are none."""
    path = root / entry
    if "\0" in entry:
        raise ValueError("a path cannot hold NUL")
    if path.is_file():
        return [path]
    if path.is_dir():
        raise ValueError(f"{entry} is a folder; name its files, as in {entry.rstrip('/')}/*.jsonl")
    if not glob.has_magic(entry):
        raise ValueError(f"the file {entry} does not exist")
    # Not Path.glob: it takes no absolute pattern.
    found = sorted(glob.glob(entry, root_dir=root, recursive=True))  # noqa: PTH207
    files = [root / name for name in found if (root / name).is_file()]
    if not files:
        raise ValueError(f"the pattern {entry} matches no file")
    return files


def _prefixes(paths: Iterable[Path | None], root: Path) -> dict[Path | None, str]:
    """Return what comes before ``row-N`` for each file: nothing while there is only one."""
    files = list(paths)
    stems = Counter(path.stem for path in files if path)

    def prefix(path: Path | None) -> str:
        if path is None or len(files) == 1:
            return ""
        if stems[path.stem] == 1:
            return f"{path.stem}-"
        return f"{path.relative_to(root) if path.is_relative_to(root) else path}-"

    return {path: prefix(path) for path in files}


def _duplicates(cases: Iterable[Case]) -> Iterator[Problem]:
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.id, case)
        if other is not case:
            file, _, line = case.source.rpartition(":")
            message = f"the id '{case.id}' is taken by the case of {other.source}"
            yield Problem(file, int(line), "", message)


def _first_of_each_file(problems: list[Problem]) -> list[Problem]:
    """Return the first problems of each file, and for the others how many there are."""
    by_file: dict[str, list[Problem]] = {}
    for problem in sorted(set(problems)):
        by_file.setdefault(problem.file, []).append(problem)
    told: list[Problem] = []
    for file, found in by_file.items():
        if len(found) > MAX_PROBLEMS:
            message = f"{len(found)} problems; these are the first {MAX_PROBLEMS}"
            told.append(Problem(file, 0, "", message))
        told += found[:MAX_PROBLEMS]
    return told
