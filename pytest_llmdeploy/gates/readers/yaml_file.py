"""YAML files: a list of cases, or a mapping with that list under ``cases``."""

from __future__ import annotations

from pathlib import Path

from pytest_llmdeploy.config.sentences import shown, unknown_key
from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.config.yaml_reader import KeyPath, read_yaml
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.readers.raw import KeyLines, RawCase, Reading

YAML_MAX_BYTES = 4 << 20
"""Largest YAML file: YAML is slow to read, long lists belong in JSON Lines."""


def read_yaml_cases(path: Path) -> Reading:
    """Read a YAML file of cases."""
    document = read_yaml(path, YAML_MAX_BYTES)
    file = display_path(path)
    data, base = document.data, KeyPath()
    if isinstance(data, dict):
        unknown = [key for key in data if key != "cases"]
        if unknown:
            line = document.lines.get((unknown[0],), 1)
            raise ConfigError([Problem(file, line, "", unknown_key(unknown[0], ["cases"]))])
        data, base = data.get("cases"), ("cases",)
    if not isinstance(data, list):
        line = KeyLines(document.lines, base)(())
        message = f"expected a list of cases, got {shown(data)}"
        raise ConfigError([Problem(file, line, "", message)])
    reading = Reading()
    for index, case in enumerate(data):
        line_of = KeyLines(document.lines, (*base, index))
        reading.cases.append(RawCase(case, file, line_of(()), index + 1, line_of))
    return reading
