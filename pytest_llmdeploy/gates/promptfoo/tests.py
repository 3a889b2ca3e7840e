"""The tests of a config: in place, in files, as scenarios; merged with the default test."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.config.yaml_reader import KeyPath
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.promptfoo.config_file import Config
from pytest_llmdeploy.gates.promptfoo.csv_file import parse_csv
from pytest_llmdeploy.gates.promptfoo.csv_tests import row_to_test
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, parse_json
from pytest_llmdeploy.gates.promptfoo.paths import (
    BadPathError,
    Files,
    is_javascript,
    read,
    without_function,
)
from pytest_llmdeploy.gates.promptfoo.references import dereference, expand, load
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import read_yaml_file
from pytest_llmdeploy.gates.readers.raw import KeyLines
from pytest_llmdeploy.gates.wording import quote

_NEEDED = ("assert", "vars", "options", "metadata", "provider", "providerOutput")
_REMOTE = re.compile(r"(huggingface|hf|az|https?)://")


@dataclass(frozen=True, slots=True)
class RawTest:
    """A test as written; merged once it comes from `read_tests`."""

    data: Mapping[str, Any]
    source: str
    """Where it was written, as ``file:line``."""


def read_tests(config: Config) -> list[RawTest]:
    """Return the config's tests and those of its scenarios, merged with the default test.

    Raises ConfigError.
    """
    default = _default(config)
    written = config.data.get("tests")
    reader = _Reader(config)
    tests = reader.read(written, ("tests",))
    scenarios = _scenarios(config)
    if not tests and "scenarios" not in config.data:
        tests = [RawTest({}, config.source("tests"))]
    for place, scenario in enumerate(scenarios):
        tests += _of_scenario(config, reader, default, scenario, place)
    return [_merged(test, default) for test in tests]


def _default(config: Config) -> Mapping[str, Any]:
    default = config.data.get("defaultTest")
    try:
        if isinstance(default, str) and default.startswith("file://"):
            default = config.environment.filled(load(default, config.files))
    except BadPathError as error:
        raise config.problem(("defaultTest",), str(error)) from error
    default = default or {}
    if not isinstance(default, Mapping):
        raise config.problem(("defaultTest",), "the default test is a mapping, or file:// of one")
    for key, kind, name in _SHAPES:
        if default.get(key) is not None and not isinstance(default[key], kind):
            raise config.problem(("defaultTest", key), f"{key} is {name} in a default test")
    if isinstance(default.get("provider"), str):  # only a mapping with an id is called there
        default = {key: one for key, one in default.items() if key != "provider"}
    return {"metadata": config.data.get("metadata"), **default}


_SHAPES: Sequence[tuple[str, type, str]] = (
    ("assert", list, "a list"),
    ("vars", Mapping, "a mapping"),
    ("options", Mapping, "a mapping"),
    ("metadata", Mapping, "a mapping"),
)


class _Reader:
    """Reads the tests of one config, from wherever."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._files = config.files

    def read(self, written: Any, place: KeyPath) -> list[RawTest]:
        """Return the tests of ``tests:``, checked; raise ConfigError."""
        try:
            return self._read(written, place)
        except BadPathError as error:
            raise self._config.problem(place, str(error)) from error

    def _read(self, written: Any, place: KeyPath) -> list[RawTest]:
        if written is None:
            return []
        if isinstance(written, str):
            # Only a text that ends like YAML may be a pattern.
            from_pattern = written.endswith(("yaml", "yml"))
            return self._checked(
                self._pattern(written) if from_pattern else self._standalone(written)
            )
        if isinstance(written, Mapping):
            return self._checked(self._standalone(self._generator(written)))
        if not isinstance(written, list):
            raise BadPathError("tests is a list of tests and files, or one file")
        found: list[RawTest] = []
        for index, entry in enumerate(written):
            where = (*place, index)
            try:
                found += self._entry(entry, where)
            except BadPathError as error:
                raise self._config.problem(where, str(error)) from error
        return found

    def _entry(self, entry: Any, place: KeyPath) -> list[RawTest]:
        if isinstance(entry, str):
            path, _ = without_function(entry)
            alone = is_javascript(path) or path.endswith(".py") or _is_workbook(entry)
            return self._checked(self._standalone(entry) if alone else self._pattern(entry))
        if not isinstance(entry, Mapping):
            raise BadPathError(f"a test is a mapping or a file, not {quote(str(entry), 60)}")
        if "path" in entry:
            return self._checked(self._standalone(self._generator(entry)))
        return self._checked([RawTest(entry, self._config.source(*place))])

    @staticmethod
    def _generator(entry: Mapping[str, Any]) -> str:
        path = entry.get("path")
        if not isinstance(path, str):
            raise BadPathError("a generator of tests needs its path")
        return path

    def _standalone(self, name: str) -> list[RawTest]:
        """Read a file whose tests get a description by their number."""
        _refuse(name)
        path = self._files.resolve(name)
        if path.suffix == ".csv":
            tests = _of_table(path)
        elif path.suffix == ".jsonl":
            tests = _of_lines(path)
        elif path.suffix == ".json":
            tests = _of_document(path, self._files, plain=True)
        elif path.suffix in {".yaml", ".yml"}:
            tests = _of_document(path, self._files)
        else:
            raise BadPathError(f"tests cannot be read from '{path.suffix or path.name}' files")
        return [
            replace(test, data={**test.data, "description": test.data.get("description") or
                                f"Row #{number}"})
            for number, test in enumerate(tests, start=1)
        ]  # fmt: skip

    def _pattern(self, name: str) -> list[RawTest]:
        """Read the files of a pattern, with what they take from others."""
        _refuse(name)
        found: list[RawTest] = []
        for path in self._files.matches(name):
            if path.suffix == ".csv":
                found += self._standalone(str(path))
            elif path.suffix == ".jsonl":
                tests = _of_lines(path)
                data = dereference(expand([test.data for test in tests], self._files), self._files)
                found += [replace(test, data=one) for test, one in zip(tests, data, strict=True)]
            elif path.suffix in {".json", ".yaml", ".yml"}:
                own = self._files.at(path.parent)
                found += self._variables(_of_document(path, self._files), own)
            else:
                raise BadPathError(f"tests cannot be read from '{path.suffix or path.name}' files")
        return found

    def _checked(self, tests: Sequence[RawTest]) -> list[RawTest]:
        """Return the tests with variables of files read and the environment filled in."""
        filled = [replace(test, data=self._config.environment.filled(test.data)) for test in tests]
        checked = self._variables(filled, self._files)
        for test in checked:
            data = test.data
            number = isinstance(data.get("threshold"), int | float)
            if not number and not any(data.get(key) not in _FALSY for key in _NEEDED):
                raise _at(test, f"a test needs one of {', '.join(_NEEDED)} and threshold")
            for key, kind, name in _SHAPES:
                if data.get(key) is not None and not isinstance(data[key], kind):
                    raise _at(test, f"{key} is {name} in a test")
        return checked

    def _variables(self, tests: Sequence[RawTest], files: Files) -> list[RawTest]:
        """Return the tests with variables that are named by file put in place."""
        result: list[RawTest] = []
        for test in tests:
            written = test.data.get("vars")
            if not isinstance(written, str | list):
                result.append(test)
                continue
            merged: dict[str, Any] = {}
            for name in [written] if isinstance(written, str) else written:
                if not isinstance(name, str):
                    raise _at(test, "vars is a mapping, or the name of a YAML file")
                try:
                    for path in files.matches(name):
                        content = expand(read_yaml_file(path).data, self._files)
                        merged |= content if isinstance(content, Mapping) else {}
                except BadPathError as error:
                    raise _at(test, f"vars: {error}") from error
            result.append(replace(test, data={**test.data, "vars": merged}))
        return result


_FALSY: tuple[Any, ...] = (None, "", 0, False)


def _at(test: RawTest, message: str) -> ConfigError:
    file, _, line = test.source.rpartition(":")
    return ConfigError([Problem(file, int(line), "", message)])


def _refuse(name: str) -> None:
    """Raise BadPathError for what names no file that can be read here."""
    bare = name.removeprefix("file://")
    path, _ = without_function(bare)
    if _REMOTE.match(name):
        raise BadPathError(f"tests are not fetched from {name.partition('://')[0]}://: keep a file")
    if path.endswith(".py") or is_javascript(path):
        raise BadPathError(f"tests that code generates ({bare}) are not read: keep what it makes")
    if _is_workbook(bare):
        raise BadPathError(f"workbooks ({bare}) are not read: save the sheet as CSV")


def _is_workbook(name: str) -> bool:
    return name.split("#", maxsplit=1)[0].endswith((".xlsx", ".xls"))


def _of_table(path: Path) -> list[RawTest]:
    file = display_path(path)
    tests: list[RawTest] = []
    for line, row in parse_csv(read(path), file, relaxed=True):
        try:
            tests.append(RawTest(row_to_test(row), f"{file}:{line}"))
        except BadPathError as error:
            raise ConfigError([Problem(file, line, "", str(error))]) from error
    return tests


def _of_lines(path: Path) -> list[RawTest]:
    file = display_path(path)
    tests: list[RawTest] = []
    for line, text in enumerate(read(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            value = parse_json(text)
        except ValueError as error:
            raise ConfigError([Problem(file, line, "", f"not JSON: {error}")]) from error
        tests.append(_as_test(value, f"{file}:{line}"))
    return tests


def _of_document(path: Path, files: Files, *, plain: bool = False) -> list[RawTest]:
    """Return the tests of a YAML or JSON file; with `plain` nothing in them is looked up."""
    file = display_path(path)
    document = read_yaml_file(path)
    lines = KeyLines(document.lines, ())
    data = document.data
    if not plain:
        data = dereference(expand(data, files), files.at(path.parent))
    listed = data if isinstance(data, list) else [data]
    if data is UNDEFINED or data is None:
        raise ConfigError([Problem(file, 0, "", "the file holds no test")])
    return [
        _as_test(one, f"{file}:{lines((index,) if isinstance(data, list) else ())}")
        for index, one in enumerate(listed)
    ]


def _as_test(value: Any, source: str) -> RawTest:
    if not isinstance(value, Mapping):
        raise _at(RawTest({}, source), f"a test is a mapping, not {quote(str(value), 60)}")
    return RawTest(value, source)


def _scenarios(config: Config) -> list[Mapping[str, Any]]:
    written = config.data.get("scenarios")
    if not written:
        return []
    place: KeyPath = ("scenarios",)
    try:
        listed = written if isinstance(written, list) else [written]
        loaded: list[Any] = []
        for one in listed:
            is_file = isinstance(one, str) and one.startswith("file://")
            content = config.environment.filled(load(one, config.files)) if is_file else one
            loaded += content if isinstance(content, list) else [content]
    except BadPathError as error:
        raise config.problem(place, str(error)) from error
    for scenario in loaded:
        if not isinstance(scenario, Mapping) or not isinstance(scenario.get("config"), list):
            raise config.problem(place, "a scenario is a mapping with a list config")
        if not all(isinstance(one, Mapping) for one in scenario["config"]):
            raise config.problem(place, "the config of a scenario is a list of mappings")
    return loaded


def _of_scenario(
    config: Config,
    reader: _Reader,
    default: Mapping[str, Any],
    scenario: Mapping[str, Any],
    place: int,
) -> list[RawTest]:
    where: KeyPath = ("scenarios", place, "tests")
    written = scenario.get("tests")
    if isinstance(written, str):
        try:
            written = load(written, config.files) if written.startswith("file://") else written
        except BadPathError as error:
            raise config.problem(where, str(error)) from error
    own = reader.read(written, where)  # without tests a scenario has no row
    return [
        replace(test, data=_joined(default, data, test.data))
        for data in scenario["config"]
        for test in own
    ]


def _joined(
    default: Mapping[str, Any], data: Mapping[str, Any], test: Mapping[str, Any]
) -> dict[str, Any]:
    shallow = {
        key: {**(default.get(key) or {}), **(data.get(key) or {}), **(test.get(key) or {})}
        for key in ("vars", "options", "metadata")
    }
    checks = [*(data.get("assert") or []), *(test.get("assert") or [])]
    return {**default, **data, **test, **shallow, "assert": checks}


def _merged(test: RawTest, default: Mapping[str, Any]) -> RawTest:
    data = dict(test.data)
    options = data.get("options") or {}
    inherited = [] if options.get("disableDefaultAsserts") is True else default.get("assert")
    data["assert"] = [*(inherited or []), *(data.get("assert") or [])]
    for key in ("vars", "options", "metadata"):
        data[key] = {**(default.get(key) or {}), **(data.get(key) or {})}
    for key in ("prefix", "suffix"):  # an empty one takes the default's as well
        if not data["options"].get(key) and (default.get("options") or {}).get(key):
            data["options"][key] = default["options"][key]
    for key in ("threshold", "prompts", "providers"):
        if data.get(key) is None:
            data[key] = default.get(key)
    for key in ("provider", "assertScoringFunction"):
        data[key] = data.get(key) or default.get(key)
    return replace(test, data=data)
