"""From the file to the parts of a suite."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.config.yaml_reader import dotted
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.assertions import AssertionRegistry, AssertionResult, Grading
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.cases import Where
from pytest_llmdeploy.gates.promptfoo.config_file import Config, read_config
from pytest_llmdeploy.gates.promptfoo.grading import (
    evaluate_row,
    score_row,
    unsupported,
    vacuity,
)
from pytest_llmdeploy.gates.promptfoo.js_values import to_text
from pytest_llmdeploy.gates.promptfoo.matrix import Matrix, Planned, read_matrix
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, Files
from pytest_llmdeploy.gates.promptfoo.providers import warnings
from pytest_llmdeploy.gates.scoring import SampleScore
from pytest_llmdeploy.gates.suite import Imported, SuiteParts
from pytest_llmdeploy.ports import Answer, Message

_WITHOUT_EFFECT = {
    "derivedMetrics": "metrics that are derived from others are not computed",
    "nunjucksFilters": "filters of its own are code: templates that use them are errors",
    "outputPath": "results are written as llmdeploy.yaml says",
    "sharing": "nothing is shared",
    "tracing": "no traces are taken",
}
_OPTIONS = ("repeat",)
"""Options of a run that count here as well."""


def read_promptfoo(
    name: str, config: SuiteConfig, root: Path, where: Where, _registry: AssertionRegistry
) -> SuiteParts:
    """Return the parts of the suite; raise ConfigError."""
    key = ("gates", name, "promptfoo")
    try:
        path = Files(root, root).resolve(str(config.promptfoo))
    except BadPathError as error:
        file, line = where(*key)
        raise ConfigError([Problem(file, line, dotted(key), str(error))]) from error
    read = read_config(path, root)
    matrix = read_matrix(read, allow_code=config.allow_code, parameters=config.parameters)
    planned = {one.row.id: one for one in matrix.rows}
    cases = [case_of(one, config) for one in matrix.rows]

    def evaluate(
        case: Case, messages: Sequence[Message], answer: Answer, judge: Grading | None
    ) -> Sequence[AssertionResult]:
        return evaluate_row(planned[case.id].row, messages, answer, judge)

    def score(case: Case, results: Sequence[AssertionResult]) -> SampleScore:
        return score_row(planned[case.id].row, results)

    return SuiteParts(
        cases=cases,
        messages=lambda case: planned[case.id].messages,
        evaluate=evaluate,
        score=score,
        imported=Imported(
            format="promptfoo",
            unsupported=_counted(case.problem for case in cases),
            vacuous=_counted(case.vacuous for case in cases),
            warnings=_warnings(read, matrix),
        ),
    )


def case_of(planned: Planned, config: SuiteConfig) -> Case:
    """Return the case of a row."""
    row = planned.row
    problem = planned.problem or unsupported(row)
    return Case(
        id=row.id,
        vars=row.vars,
        prompt=None,
        assertions=(),
        tags=_tags(row.test.get("metadata") or {}),
        weight=1.0,
        threshold=None,
        repeats=config.repeats,
        source=row.source,
        k_of_n=config.k_of_n,
        parameters=planned.parameters,
        canned=planned.canned,
        problem=problem,
        judgement=_judgement(planned),
        vacuous=None if problem else vacuity(row),
    )


def _judgement(planned: Planned) -> str:
    """Return what judges the row, as one text."""
    row = planned.row
    words = {
        "assert": list(row.asserts),
        "threshold": row.threshold,
        "options": dict(row.options),
        "transform": row.provider.transform,
        "scoring": row.test.get("assertScoringFunction"),
        "vars": dict(row.vars),
    }
    return json.dumps(words, sort_keys=True, ensure_ascii=False, default=str)


def _tags(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return ``key=value`` for each value of a test's metadata that is a word or a number."""
    tags = [
        f"{key}={to_text(one)}"
        for key, value in metadata.items()
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, str | int | float) and key != "conversationId"
    ]
    return tuple(dict.fromkeys(tags))


def _counted(reasons: Any) -> dict[str, int]:
    return dict(Counter(reason for reason in reasons if reason).most_common())


def _warnings(config: Config, matrix: Matrix) -> list[str]:
    told = [one for provider in matrix.providers for one in warnings(provider)]
    told += [f"{key}: {why}" for key, why in _WITHOUT_EFFECT.items() if config.data.get(key)]
    default = config.data.get("defaultTest")
    if isinstance(default, dict) and isinstance(default.get("provider"), str):
        told.append("defaultTest.provider: only a mapping with an id has an effect")
    if any(
        one.row.options.get("provider") or any(check.get("provider") for check in one.row.asserts)
        for one in matrix.rows
    ):
        told.append("options.provider: the gate's judge and embeddings grade instead")
    for section in ("evaluateOptions", "commandLineOptions"):
        options = config.data.get(section)
        ignored = (
            [key for key in options if key not in _OPTIONS] if isinstance(options, dict) else []
        )
        if ignored:
            told.append(f"{section}: no effect of {', '.join(ignored)}: see llmdeploy.yaml")
    return list(dict.fromkeys(told))
