"""From the file to the parts of a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.config.yaml_reader import dotted
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.assertions import AssertionRegistry, AssertionResult, Grading
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.cases import Where
from pytest_llmdeploy.gates.openai_evals.files import BadPathError, resolve
from pytest_llmdeploy.gates.openai_evals.hosted import read_hosted
from pytest_llmdeploy.gates.openai_evals.registry import read_registry
from pytest_llmdeploy.gates.scoring import SampleScore, score_sample
from pytest_llmdeploy.gates.suite import Imported, SuiteParts
from pytest_llmdeploy.ports import Answer, Message


def read_openai_evals(
    name: str, config: SuiteConfig, root: Path, where: Where, _registry: AssertionRegistry
) -> SuiteParts:
    """Return the parts of the suite; raise ConfigError."""
    assert config.openai_evals is not None
    path = _file(name, "path", config.openai_evals.path, root, where)
    samples = None
    if config.openai_evals.samples is not None:
        samples = _file(name, "samples", config.openai_evals.samples, root, where)
    if path.suffix in {".yaml", ".yml"}:
        read = read_registry(path, config, root, samples)
    else:
        read = read_hosted(path, config, root, samples)
    rows = {row.case.id: row for row in read.rows}

    def evaluate(
        case: Case, _messages: Sequence[Message], answer: Answer, grading: Grading | None
    ) -> Sequence[AssertionResult]:
        return rows[case.id].judge(answer, grading)

    cases = [row.case for row in read.rows]
    return SuiteParts(
        cases=cases,
        messages=lambda case: rows[case.id].messages,
        evaluate=evaluate,
        score=score,
        imported=Imported(
            format=read.format,
            unsupported=_counted(case.problem for case in cases),
            vacuous=_counted(case.vacuous for case in cases),
            warnings=read.warnings,
        ),
    )


def score(case: Case, results: Sequence[AssertionResult]) -> SampleScore:
    """Return the score of one answer: every grader must pass, as both tools have it.

    An eval without testing criteria passes every answer, which is told as vacuous.
    """
    if not results and case.vacuous:
        return SampleScore(True, 1.0, f"{case.vacuous}: every answer passes")
    return score_sample(results, None)


def _file(name: str, key: str, written: str, root: Path, where: Where) -> Path:
    place = ("gates", name, "openai_evals", key)
    file, line = where(*place)
    try:
        path = resolve(written, (root,), root)
    except BadPathError as error:
        raise ConfigError([Problem(file, line, dotted(place), str(error))]) from error
    if key == "path" and path.is_dir():
        message = f"{written} is a folder: name the export, or a YAML file of the registry"
        raise ConfigError([Problem(file, line, dotted(place), message)])
    return path


def _counted(reasons: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(reason for reason in reasons if reason).most_common())
