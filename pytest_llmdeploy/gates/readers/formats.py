"""Which reader reads which file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.readers.csv_file import read_csv
from pytest_llmdeploy.gates.readers.json_files import read_json, read_json_lines
from pytest_llmdeploy.gates.readers.raw import Reading
from pytest_llmdeploy.gates.readers.yaml_file import read_yaml_cases

READERS: Mapping[str, Callable[[Path], Reading]] = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".yaml": read_yaml_cases,
    ".yml": read_yaml_cases,
}


def read_cases(path: Path) -> Reading:
    """Read a case file by its suffix; every problem with it is in the result."""
    reader = READERS.get(path.suffix.lower())
    file = display_path(path)
    if reader is None:
        supported = ", ".join(READERS)
        message = f"files of cases are {supported}; '{path.suffix or path.name}' is none of them"
        return Reading(problems=[Problem(file, 0, "", message)])
    try:
        reading = reader(path)
    except ConfigError as error:
        return Reading(problems=list(error.problems))
    if not reading.cases and not reading.problems:
        reading.problems.append(Problem(file, 0, "", "the file holds no case"))
    return reading
