"""Answers with people's labels, which ``llmdeploy calibrate-judge`` holds a judge against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.config.sentences import shown, unknown_key
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.assertions import AssertionRegistry, AssertionSpec
from pytest_llmdeploy.gates.assertions.graded import GRADED_TYPES
from pytest_llmdeploy.gates.building import CaseBuilder
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.readers.formats import read_cases
from pytest_llmdeploy.gates.readers.raw import RawCase

LABELS = ("pass", "fail")
MOST_PROBLEMS = 20
_KEYS = ("id", "vars", "question", "answer", "assert", "label")
_CELLS = ("answer", "label")
"""Columns of a CSV that are no variables."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer, what it is judged by, and what a person said of it."""

    case: Case
    answer: str
    passes: bool
    """The person's label."""

    @property
    def spec(self) -> AssertionSpec:
        """The only assertion."""
        (spec,) = self.case.assertions
        assert isinstance(spec, AssertionSpec)
        return spec


def read_labels(path: Path) -> list[Labelled]:
    """Return the labelled answers of a file; raise ConfigError with what is wrong anywhere."""
    reading = read_cases(path)
    problems = list(reading.problems)
    # The prompt is never sent: the answers are there.
    suite = SuiteConfig.model_validate({"prompt": "-", "cases": [str(path)]})
    registry = AssertionRegistry().below(path.absolute().parent)
    builder = CaseBuilder("labels", suite, registry, lambda *_: (str(path), 1))
    labelled = []
    for raw in reading.cases:
        found = list(_problems(raw))
        problems += found
        if found:
            continue
        data = _flat(raw)
        answer, label = data.pop("answer"), data.pop("label")
        question = data.pop("question", None)
        if question is not None:
            data["vars"] = {"question": question, **(data.get("vars") or {})}
        case = builder.build(replace(raw, data=data), "", path)
        if case is not None:
            problems += _of_assertions(case, raw)
            labelled.append(Labelled(case, answer, label == "pass"))
    problems += builder.problems
    counts = Counter(one.case.id for one in labelled)
    problems += [
        Problem(*_place(one.case), "id", f"the id '{one.case.id}' is there more than once")
        for one in labelled
        if counts[one.case.id] > 1
    ]
    if problems:
        raise ConfigError(problems[:MOST_PROBLEMS])
    return labelled


def _flat(raw: RawCase) -> dict[str, Any]:
    """Return the row's keys; a CSV has answer and label among its variables."""
    data = dict(raw.data)
    if raw.column:
        data["vars"] = dict(data["vars"])
        data |= {key: data["vars"].pop(key) for key in _CELLS if key in data["vars"]}
    return data


def _problems(raw: RawCase) -> Iterator[Problem]:
    if not isinstance(raw.data, dict):
        yield raw.problem((), f"a row is a mapping with {', '.join(_KEYS)}, got {shown(raw.data)}")
        return
    data = _flat(raw)
    for key in data:
        if key not in _KEYS:
            yield raw.problem((key,), unknown_key(str(key), _KEYS))
    answer, label, question = data.get("answer"), data.get("label"), data.get("question")
    if not isinstance(answer, str):
        yield raw.problem(("answer",), f"expected the answer as a text, got {shown(answer)}")
    if label not in LABELS:
        yield raw.problem(("label",), f"expected pass or fail, got {shown(label)}")
    if question is not None and not isinstance(question, str):
        yield raw.problem(("question",), f"expected a text, got {shown(question)}")


def _of_assertions(case: Case, raw: RawCase) -> Iterator[Problem]:
    specs = case.assertions
    if len(specs) != 1 or not isinstance(specs[0], AssertionSpec):
        message = "a label is about one assertion: give one, and a row each for others"
        yield raw.problem(("assert",), message)
    elif specs[0].type not in GRADED_TYPES:
        known = ", ".join(sorted(GRADED_TYPES))
        message = f"no judge decides {specs[0].name}; a judge decides {known}"
        yield raw.problem(("assert",), message)


def _place(case: Case) -> tuple[str, int]:
    file, _, line = case.source.rpartition(":")
    return file, int(line)
