"""Raw cases of files to validated cases, with every problem of a case at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.config.sentences import shown, unknown_key
from pytest_llmdeploy.config.yaml_reader import KeyPath
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.assertions import (
    AssertionRegistry,
    AssertionSet,
    AssertionSpec,
    Origin,
    Transform,
)
from pytest_llmdeploy.gates.case import RESERVED_ID, Case, safe_id
from pytest_llmdeploy.gates.readers.raw import RawCase
from pytest_llmdeploy.gates.templates import (
    TemplateError,
    is_template,
    message_problem,
)

_KEYS = (
    "id",
    "description",
    "vars",
    "prompt",
    "assert",
    "transform",
    "tags",
    "weight",
    "threshold",
    "repeats",
    "k_of_n",
)
MAX_REPEATS = 1000


class CaseBuilder:
    """Builds the cases of one suite; `problems` grows with what is wrong."""

    def __init__(
        self,
        suite_name: str,
        suite: SuiteConfig,
        registry: AssertionRegistry,
        where: Callable[..., tuple[str, int]],
    ) -> None:
        self.problems: list[Problem] = []
        self._suite = suite
        self._registry = registry
        self._allowed_by = f"gates.{suite_name}.allow_code"
        self._shared: list[AssertionSpec | AssertionSet | tuple[object, str, str]] = []
        for index, raw in enumerate(suite.checks):
            file, line = where("gates", suite_name, "assert", index)
            source, label = f"{file}:{line}", f"gates.{suite_name}.assert[{index}]"
            if is_template(raw):
                self._shared.append((raw, source, label))
                continue
            try:
                self._shared.append(registry.parse(raw, source, where=label))
            except ConfigError as error:
                self.problems.extend(error.problems)
        self._transforms: tuple[Transform, ...] = ()
        if suite.transform is not None:
            file, line = where("gates", suite_name, "transform")
            label = f"gates.{suite_name}.transform"
            self._transforms = self._transform(suite.transform, file, line, label, Origin())

    def build(self, raw: RawCase, row_prefix: str, file: Path | None) -> Case | None:
        """Return the case; None when something is wrong with it.

        What stands in a `file` of cases may name code only where the suite allows it; without a
        file the case stands in ``llmdeploy.yaml`` itself.
        """
        before = len(self.problems)
        data = raw.data
        if not isinstance(data, dict):
            message = f"a case is a mapping with vars, prompt and assert, got {shown(data)}"
            self.problems.append(raw.problem((), message))
            return None
        for key in data:
            if key not in _KEYS:
                self.problems.append(raw.problem((key,), unknown_key(str(key), _KEYS)))
        variables = self._variables(raw)
        trusted = file is None or self._suite.allow_code
        case = Case(
            id=self._id(raw, row_prefix),
            vars=variables,
            prompt=self._prompt(raw),
            assertions=self._assertions(raw, variables, trusted),
            tags=self._tags(raw),
            weight=self._number(raw, "weight", sys.float_info.max, "a weight of 0 would not count")
            or 1.0,
            threshold=self._number(raw, "threshold", 1, "a threshold of 0 would always pass"),
            repeats=self._repeats(raw),
            k_of_n=self._k_of_n(raw),
            transforms=self._transforms + self._own_transform(raw, trusted),
            source=f"{raw.file}:{raw.line}",
        )
        if not case.assertions and not self._suite.checks and len(self.problems) == before:
            self._wrong(raw, (), "the case has no assertion: it could never fail")
        return case if len(self.problems) == before else None

    def _wrong(self, raw: RawCase, path: KeyPath, message: str) -> None:
        self.problems.append(raw.problem(path, message))

    def _id(self, raw: RawCase, row_prefix: str) -> str:
        for key in ("id", "description"):
            value = raw.data.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and key == "id":
                value = str(value)
            if value is None:
                continue
            if not isinstance(value, str):
                self._wrong(raw, (key,), f"expected text, got {shown(value)}")
                return ""
            case_id = safe_id(value)
            if not case_id:
                self._wrong(raw, (key,), f"{shown(value)} has nothing that can name a test")
            elif case_id == RESERVED_ID:
                self._wrong(raw, (key,), f"'{RESERVED_ID}' is the name of the suite's own item")
            return case_id
        return safe_id(f"{row_prefix}row-{raw.row}")

    def _variables(self, raw: RawCase) -> dict[str, Any]:
        value = raw.data.get("vars")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong(raw, ("vars",), f"expected a mapping, got {shown(value)}")
            return {}
        return value

    def _prompt(self, raw: RawCase) -> str | tuple[Mapping[str, Any], ...] | None:
        value = raw.data.get("prompt")
        if value is None:
            if self._suite.prompt is None:
                self._wrong(raw, (), "the case has no prompt, and its suite has none either")
            return None
        if isinstance(value, str):
            if not value.strip():
                self._wrong(raw, ("prompt",), "the prompt is empty")
            return value
        if isinstance(value, dict):
            message = "a case's prompt is a text or a list of messages; {file: ...} is the suite's"
            self._wrong(raw, ("prompt",), message)
        elif problem := message_problem(value):
            self._wrong(raw, ("prompt",), problem)
        else:
            return tuple(value)
        return None

    def _own_transform(self, raw: RawCase, trusted: bool) -> tuple[Transform, ...]:
        written = raw.data.get("transform")
        if written is None:
            return ()
        path = ("transform",)
        origin = Origin(code=trusted, allowed_by=self._allowed_by)
        place = (raw.file, raw.line_at(path), raw.label_of(path))
        return self._transform(written, *place, origin)

    def _transform(
        self, written: object, file: str, line: int, where: str, origin: Origin
    ) -> tuple[Transform, ...]:
        try:
            source = f"{file}:{line}"
            return (self._registry.transform(written, source, where=where, origin=origin),)
        except ConfigError as error:
            self.problems += error.problems
            return ()

    def _assertions(
        self, raw: RawCase, variables: dict[str, Any], trusted: bool
    ) -> tuple[AssertionSpec | AssertionSet, ...]:
        own = raw.data.get("assert")
        if own is None:
            own = []
        elif isinstance(own, str | dict):
            own = [own]
        elif not isinstance(own, list):
            self._wrong(raw, ("assert",), f"expected a list of assertions, got {shown(own)}")
            return ()
        specs: list[AssertionSpec | AssertionSet] = []
        origin = Origin(variables, filled_code=trusted, allowed_by=self._allowed_by)
        for shared in self._shared:
            if isinstance(shared, tuple):
                written, source, label = shared
                where = partial("{}, for the case of {}:{}".format, label, raw.file, raw.line)
                specs += self._parsed(written, origin, source, where)
            else:
                specs.append(shared)
        origin = replace(origin, code=trusted)
        for index, written in enumerate(own):
            path = ("assert", index) if isinstance(raw.data["assert"], list) else ("assert",)
            source = f"{raw.file}:{raw.line_at(path)}"
            where = partial(raw.label_of, path)
            specs += self._parsed(written, origin, source, where, column=raw.column)
        return tuple(specs)

    def _parsed(
        self,
        written: object,
        origin: Origin,
        source: str,
        where: Callable[[], str],
        *,
        column: bool = False,
    ) -> list[AssertionSpec | AssertionSet]:
        """Return the assertion with the case's variables filled in, or report its problem.

        `where` names its key; it is called for a problem only, as most assertions have none.
        """
        try:
            return [self._registry.parse(written, source, column=column, origin=origin)]
        except TemplateError as error:
            messages = [str(error)]
        except ConfigError as error:
            messages = [problem.message for problem in error.problems]
        file, _, line = source.rpartition(":")
        self.problems += [Problem(file, int(line), where(), message) for message in messages]
        return []

    def _tags(self, raw: RawCase) -> tuple[str, ...]:
        value = raw.data.get("tags")
        if value is None:
            return ()
        if isinstance(value, str):
            value = [part for part in value.split(",") if part.strip()]
        if not isinstance(value, list):
            self._wrong(raw, ("tags",), f"expected a list of texts, got {shown(value)}")
            return ()
        if others := [tag for tag in value if not isinstance(tag, str)]:
            self._wrong(raw, ("tags",), f"a tag must be text, got {shown(others[0])}")
            return ()
        tags = [tag.strip() for tag in value]
        if not all(tags):
            self._wrong(raw, ("tags",), "a tag is empty")
        return tuple(dict.fromkeys(tags))

    def _number(self, raw: RawCase, key: str, most: float, zero: str) -> float | None:
        """Return a number above 0; `zero` is why 0 is refused."""
        value = raw.data.get(key)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            self._wrong(raw, (key,), f"expected a number, got {shown(value)}")
        elif value == 0:
            self._wrong(raw, (key,), f"must be above 0: {zero}")
        elif not 0 < value <= most:
            limit = f" and at most {most:g}" if most == 1 else " and finite"
            self._wrong(raw, (key,), f"must be above 0{limit}, got {shown(value)}")
        else:
            return float(value)
        return None

    def _repeats(self, raw: RawCase) -> int:
        value = raw.data.get("repeats")
        if value is None:
            return self._suite.repeats
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong(raw, ("repeats",), f"expected a whole number, got {shown(value)}")
        elif not 1 <= value <= MAX_REPEATS:
            self._wrong(raw, ("repeats",), f"must be 1 to {MAX_REPEATS}, got {value}")
        else:
            return value
        return 1

    def _k_of_n(self, raw: RawCase) -> int | None:
        value = raw.data.get("k_of_n", self._suite.k_of_n)
        if value is None:
            return None
        repeats = raw.data.get("repeats", self._suite.repeats)
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong(raw, ("k_of_n",), f"expected a whole number, got {shown(value)}")
        elif value < 1:
            self._wrong(raw, ("k_of_n",), f"must be at least 1, got {value}")
        elif isinstance(repeats, int) and value > repeats:
            message = f"{value} of {repeats} answers can never pass: ask more often (repeats)"
            self._wrong(raw, ("k_of_n",), message)
        else:
            return value
        return None
