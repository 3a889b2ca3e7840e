"""The assertion types that a run knows, and the two ways in which people write assertions."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.sentences import shown, suggestion, unknown_key
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.assertions import (
    alike,
    embedded,
    functions,
    graded,
    javascript,
    leaks,
    pattern,
    refusal,
    runtime,
    similar,
    sql,
    structured,
    text,
    tools,
    transforms,
)
from pytest_llmdeploy.gates.assertions.sets import NAME as SET
from pytest_llmdeploy.gates.assertions.sets import is_set, parse_set, result_of
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionResult,
    AssertionSet,
    AssertionSpec,
    AssertionType,
    BadValue,
    NotEvaluable,
    Origin,
    Transform,
)
from pytest_llmdeploy.gates.templates import is_template, render_tree
from pytest_llmdeploy.gates.wording import quote
from pytest_llmdeploy.ports import Answer

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_FIELDS = ("type", "value", "threshold", "weight", "metric", "transform")
_BESIDE = frozenset({"threshold", "weight", "metric", "transform"})
"""Keys that name no code, but for the transform, whose templates are each answer's."""
CODE_TYPES = frozenset({"python", "javascript"})
"""Types whose value is code."""
OURS = Origin()
"""Of what stands in ``llmdeploy.yaml``, or comes from Python."""
_HELP = "write 'type: value', such as 'icontains: Paris'"


class AssertionRegistry:
    """The built-in assertion types and those that a project registered."""

    def __init__(self) -> None:
        plain = (text, structured, pattern, runtime, refusal, functions, similar, graded)
        families = (*plain, alike, embedded, javascript, leaks, sql, tools)
        self._types: dict[str, AssertionType] = {}
        for family in families:
            self._types.update(family.TYPES)
        # A colon ends a type's name, except in those that have one of their own.
        colons = sorted((name for name in self._types if ":" in name), key=len, reverse=True)
        own = "".join(rf"{re.escape(name)}(?![\w-])|" for name in colons)
        head = rf"(not-)?({own}[A-Za-z][A-Za-z0-9_-]*)\s*(?:\(([^()]*)\))?"
        self._key = re.compile(head)
        self._text = re.compile(head + r"\s*(?::(.*))?", re.DOTALL)
        self._root: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every type, sorted, without ``not-``."""
        return tuple(sorted(self._types))

    def register(self, name: str, function: functions.UserFunction) -> None:
        """Add a type whose check is `function(output, context)`, as for the type python.

        Any value may stand in the file; the function finds it in ``context.value``.
        """
        if not _NAME.fullmatch(name) or name.startswith("not-"):
            raise ValueError(
                f"{name!r} cannot name an assertion type: use a-z, 0-9, - and _, without 'not-'"
            )
        if name in self._types:
            raise ValueError(f"the assertion type {name!r} exists already")
        self._types[name] = functions.named(name, function)

    def below(self, root: Path) -> AssertionRegistry:
        """Return the same types for the files of a project: see `functions.python`."""
        copy = AssertionRegistry()
        copy._types = {**self._types, "python": functions.python(root)}
        copy._root = root
        return copy

    def parse(
        self,
        raw: object,
        source: str,
        *,
        where: str = "",
        column: bool = False,
        origin: Origin = OURS,
    ) -> AssertionSpec | AssertionSet:
        """Return the assertion that a user wrote as text or mapping.

        `source` is ``file:line`` and `where` the key, both for messages. In a CSV `column` a text
        that does not begin with a known type is the expected answer itself. `origin` says what
        templates are filled with, and whether code may be named.
        Raises ConfigError, and TemplateError for a template that cannot be filled in.
        """
        with _told(source, where):
            return self._parse(raw, source, column, origin, depth=1)

    def transform(
        self, written: object, source: str, *, where: str = "", origin: Origin = OURS
    ) -> Transform:
        """Return the transform that a user wrote, see transforms.py; raise ConfigError."""
        with _told(source, where):
            return transforms.prepare(written, self._root, origin)

    def evaluate(
        self, spec: AssertionSpec | AssertionSet, answer: Answer, context: AssertionContext
    ) -> AssertionResult:
        """Judge one answer; see `evaluate` of this module."""
        return evaluate(spec, answer, context)

    def _parse(
        self, raw: object, source: str, column: bool, origin: Origin, depth: int
    ) -> AssertionSpec | AssertionSet:
        if not is_set(raw):
            return self._parse_one(raw, source, column, origin)
        if origin.variables is not None and isinstance(raw, Mapping):
            raw = _filled(raw, origin.variables, but="assert")  # its parts are filled one by one

        def part(one: object) -> AssertionSpec | AssertionSet:
            return self._parse(one, source, False, origin, depth + 1)

        return parse_set(raw, source, depth, weight=_weight, metric=_metric, part=part)

    def _parse_one(self, raw: object, source: str, column: bool, origin: Origin) -> AssertionSpec:
        by_template = _type_or_value_is_template(raw)
        if origin.variables is not None:
            raw = _filled(raw, origin.variables, but="transform")
        options: Mapping[Any, Any] = {}
        if isinstance(raw, str):
            head, value, threshold = self._from_text(raw.strip(), column)
        elif isinstance(raw, Mapping):
            head, value, threshold = self._from_mapping(raw)
            options = raw
        else:
            raise BadValue(f"an assertion is a text or a mapping, not {shown(raw)}: {_HELP}")
        negated, name = head
        label = f"not-{name}" if negated else name
        weight, metric = _weight(label, options), _metric(label, options)
        if threshold is not None and not _is_number(threshold):
            raise BadValue(f"{label}: threshold must be a number, got {shown(threshold)}")
        limit = None if threshold is None else float(threshold)
        transform = None
        try:
            if name in CODE_TYPES:
                origin.refuse_code(filled=by_template)
            check = self._types[name](value, limit)
            if options.get("transform") is not None:
                transform = transforms.prepare(options["transform"], self._root, origin)
        except BadValue as error:
            raise BadValue(f"{label}: {error}") from error
        return AssertionSpec(name, value, limit, weight, negated, source, check, metric, transform)

    def _from_text(self, written: str, column: bool) -> tuple[tuple[bool, str], Any, Any]:
        match = self._text.fullmatch(written)
        if column and (match is None or match[2] not in self._types):
            return (False, "equals"), written, None
        if match is None:
            raise BadValue(f"{quote(written)} is not an assertion: {_HELP}")
        value = None if match[4] is None else match[4].strip()
        return self._head(match), value, _number(match[3])

    def _from_mapping(self, raw: Mapping[Any, Any]) -> tuple[tuple[bool, str], Any, Any]:
        unknown = [str(key) for key in raw if key not in _FIELDS]
        threshold, value, kind_key = raw.get("threshold"), raw.get("value"), raw.get("type")
        if "type" not in raw and "value" not in raw and len(unknown) == 1:
            # YAML reads the text 'icontains: Paris' as a mapping of one key: meant is the text.
            kind_key, value = unknown[0], next(raw[key] for key in raw if str(key) == unknown[0])
            unknown = []
        if unknown:
            raise BadValue(f"the assertion has an {unknown_key(unknown[0], _FIELDS)}")
        match = self._key.fullmatch(kind_key) if isinstance(kind_key, str) else None
        if match is None:
            given = "no type" if kind_key is None else f"the type {shown(kind_key)}"
            raise BadValue(f"the assertion has {given}: {_HELP}")
        if match[3] is not None and threshold is not None:
            raise BadValue(f"{kind_key}: the threshold is given twice")
        value = value.strip() if isinstance(value, str) and "type" not in raw else value
        return self._head(match), value, threshold if match[3] is None else _number(match[3])

    def _head(self, match: re.Match[str]) -> tuple[bool, str]:
        if match[2] not in self._types:
            hint = suggestion(match[2], [*self._types, SET])
            hint = hint or f": {_HELP}; docs/assertions.md has every type"
            raise BadValue(f"there is no assertion type {match[2]!r}{hint}")
        return match[1] is not None, match[2]


def evaluate(
    spec: AssertionSpec | AssertionSet, answer: Answer, context: AssertionContext
) -> AssertionResult:
    """Judge one answer; raise NotEvaluable when that is impossible, ``not-`` or not."""
    if isinstance(spec, AssertionSet):
        return result_of(spec, [evaluate(part, answer, context) for part in spec.assertions])
    context = replace(context, answer=answer, value=spec.value, threshold=spec.threshold)
    if spec.transform is not None:
        context = transforms.apply([spec.transform], context)
    found = spec.check.judge(context)
    if found.holds is None:
        passed, score = False, 0.0
    else:
        score = float(found.holds) if found.score is None else found.score
        if not 0 <= score <= 1:  # false for NaN as well
            raise NotEvaluable(f"{spec.name}: the score is {score}, it must lie between 0 and 1")
        passed = found.holds is not spec.negated
        score = 1 - score if spec.negated else score
    expected = f"expected the answer {'not ' if spec.negated else ''}{spec.check.expectation}"
    reason = f"{expected}: met" if passed else f"{expected}, {found.came}"
    return AssertionResult(
        spec.name, passed, score, reason, spec.weight, spec.metric, found.evidence
    )


@contextmanager
def _told(source: str, where: str) -> Iterator[None]:
    """Turn what is wrong with a value into a ConfigError with its place."""
    try:
        yield
    except BadValue as error:
        file, _, line = source.rpartition(":")
        raise ConfigError([Problem(file, int(line), where, str(error))]) from error


def _type_or_value_is_template(raw: object) -> bool:
    """Say whether a template has a part in the type or the value of an assertion."""
    if isinstance(raw, Mapping):
        return any(is_template(part) for key, part in raw.items() if key not in _BESIDE)
    return is_template(raw)


def _filled(raw: Any, variables: Mapping[str, Any], *, but: str) -> Any:
    """Return the assertion with its templates filled in, save those of one key."""
    if not is_template(raw):
        return raw
    if not isinstance(raw, Mapping):
        return render_tree(raw, variables)
    return {key: part if key == but else render_tree(part, variables) for key, part in raw.items()}


def _weight(label: str, raw: Mapping[Any, Any]) -> float:
    weight = 1.0 if raw.get("weight") is None else raw["weight"]
    if not _is_number(weight) or weight <= 0:
        raise BadValue(f"{label}: weight must be a number above 0, got {shown(weight)}")
    return float(weight)


def _metric(label: str, raw: Mapping[Any, Any]) -> str | None:
    metric = raw.get("metric")
    if metric is None:
        return None
    if not isinstance(metric, str) or not metric.strip():
        raise BadValue(f"{label}: metric must be the name of a metric, got {shown(metric)}")
    return metric.strip()


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def _number(written: str | None) -> object:
    """Return the number in the parentheses; what is none is returned for the message."""
    if written is None:
        return None
    try:
        return float(written)
    except ValueError:
        return written
