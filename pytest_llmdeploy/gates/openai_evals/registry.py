"""The registry of openai/evals: YAML files that name evals, their class and their samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.config.sentences import shown, suggestion
from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.config.yaml_reader import Document, dotted, read_yaml
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.assertions import AssertionResult, Grading
from pytest_llmdeploy.gates.openai_evals import modelgraded
from pytest_llmdeploy.gates.openai_evals.classes import BadIdealError, Template
from pytest_llmdeploy.gates.openai_evals.files import BadPathError, Line, read_objects, resolve
from pytest_llmdeploy.gates.openai_evals.messages import chat
from pytest_llmdeploy.gates.openai_evals.row import Draft, Row, Rows, case_of
from pytest_llmdeploy.gates.openai_evals.spec import YAML_MAX_BYTES, Spec, folder, parameters
from pytest_llmdeploy.ports import Answer, Message

FORMAT = "openai/evals"
_CLASSES = {
    "evals.elsuite.basic.match:Match": "Match",
    "evals.elsuite.basic.includes:Includes": "Includes",
    "evals.elsuite.basic.fuzzy_match:FuzzyMatch": "FuzzyMatch",
    "evals.elsuite.basic.json_match:JsonMatch": "JsonMatch",
    "evals.elsuite.modelgraded.classify:ModelBasedClassify": "ModelBasedClassify",
}
MOST_ALIASES = 20


def read_registry(path: Path, config: SuiteConfig, root: Path, samples: Path | None) -> Rows:
    """Return the rows of an eval; raise ConfigError."""
    document = read_yaml(path, YAML_MAX_BYTES)
    name = config.openai_evals.name if config.openai_evals else None
    spec = find(document, name, path)
    lines = _samples(spec, root, samples)
    taken: set[str] = set()
    warnings: list[str] = []
    if any(isinstance(line.data.get("input"), str) for line in lines):
        warnings.append(
            "inputs that are plain text are asked as the user's message (openai/evals sends them "
            "as the system's)"
        )
    rows: list[Row] = []
    if spec.kind == "ModelBasedClassify":
        judge = modelgraded.find(spec, root)
        for number, line in enumerate(lines, 1):
            draft, messages, judged = judge.row(number, line)
            rows.append(Row(case_of(draft, config, taken), messages, judged))
    else:
        few = _few_shot(spec, root)
        template = Template(spec.kind, ignore_case=spec.args.get("ignore_case") is True)
        for number, line in enumerate(lines, 1):
            rows.append(_row(number, line, spec, template, few, config=config, taken=taken))
    return Rows(FORMAT, rows, tuple(warnings))


def find(document: Document, name: str | None, path: Path) -> Spec:
    """Return the eval of a name, following ``id``, or the file's only one; raise ConfigError."""
    file, data = display_path(path), document.data
    if not isinstance(data, dict):
        message = f"expected a mapping of evals, got {shown(data)}"
        raise ConfigError([Problem(file, 1, "", message)])
    found = name if name is not None else _only(data, file)
    seen: list[str] = []
    while True:
        if found not in data:
            hint = suggestion(str(found), data) or f", it has: {', '.join(data)}"
            raise ConfigError([Problem(file, 0, "", f"there is no eval {shown(found)}{hint}")])
        entry = data[found]
        target = entry if isinstance(entry, str) else None
        if isinstance(entry, dict) and "class" not in entry:
            target = entry.get("id")
        if target is None:
            break
        seen.append(found)
        line = document.lines.get((found,), 1)
        if not isinstance(target, str) or target in seen or len(seen) > MOST_ALIASES:
            message = f"its id leads to no eval: {' -> '.join([*seen, str(target)])}"
            raise ConfigError([Problem(file, line, dotted((found,)), message)])
        found = target
    line = document.lines.get((found,), 1)
    kind = entry.get("class") if isinstance(entry, dict) else None
    if kind not in _CLASSES:
        if kind is None:
            message = "the eval has neither an id nor a class"
        else:
            names = ", ".join(_CLASSES.values())
            message = f"the class {shown(kind)} is code and never run; these are built in: {names}"
        line = document.lines.get((found, "class"), line)
        raise ConfigError([Problem(file, line, dotted((found, "class")), message)])
    args = entry.get("args") or {}
    if not isinstance(args, dict):
        message = f"expected a mapping, got {shown(args)}"
        line = document.lines.get((found, "args"), line)
        raise ConfigError([Problem(file, line, dotted((found, "args")), message)])
    return Spec(str(found), _CLASSES[str(kind)], args, path, document)


def _only(data: Mapping[str, Any], file: str) -> str:
    evals = [name for name, entry in data.items() if isinstance(entry, dict) and "class" in entry]
    if len(evals) == 1:
        return evals[0]
    if not evals:
        raise ConfigError([Problem(file, 1, "", "the file names no eval with a class")])
    message = f"the file holds {len(evals)} evals: choose one by openai_evals.name: "
    raise ConfigError([Problem(file, 1, "", message + ", ".join(evals))])


def _samples(spec: Spec, root: Path, samples: Path | None) -> list[Line]:
    if samples is not None:
        return read_objects(samples, root)
    return read_objects(_data_file(spec, "samples_jsonl", root), root)


def _data_file(spec: Spec, key: str, root: Path) -> Path:
    name = spec.args.get(key)
    if not isinstance(name, str) or not name:
        message = f"{key} is missing: write it, or name the file as openai_evals.samples"
        raise ConfigError([spec.problem(message, "args", key)])
    if "://" in name:
        message = f"{shown(name)} lies elsewhere: fetch it, and name it as openai_evals.samples"
        raise ConfigError([spec.problem(message, "args", key)])
    registry = folder(spec.path)
    try:
        return resolve(name, (registry / "data", spec.path.parent, root), root)
    except BadPathError as error:
        raise ConfigError([spec.problem(str(error), "args", key)]) from error


def _few_shot(spec: Spec, root: Path) -> list[Message]:
    """Return the messages of the examples that are put before the last message."""
    number = spec.args.get("num_few_shot") or 0
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        message = f"expected a whole number from 0 on, got {shown(number)}"
        raise ConfigError([spec.problem(message, "args", "num_few_shot")])
    if not number or spec.kind != "Match":
        return []
    messages: list[Message] = []
    for line in read_objects(_data_file(spec, "few_shot_jsonl", root), root)[:number]:
        try:
            messages += chat(line.data.get("sample"))
        except ValueError as error:
            raise ConfigError([Problem(line.file, line.line, "sample", str(error))]) from error
    return messages


def _row(
    number: int,
    line: Line,
    spec: Spec,
    template: Template,
    few: Sequence[Message],
    *,
    config: SuiteConfig,
    taken: set[str],
) -> Row:
    messages: list[Message] = []
    ideals: list[Any] = []
    problem = None
    try:
        messages = chat(line.data.get("input"))
        if few:
            if isinstance(line.data["input"], str):
                raise ValueError("few-shot examples need an input that is a list of messages")
            messages = [*messages[:-1], *few, messages[-1]]
        ideals = template.ideals(line.data)
    except BadIdealError as error:
        problem = str(error)
    except ValueError as error:
        problem = f"input: {error}"
    draft = Draft(
        number=number,
        item=line.data,
        source=line.source,
        judgement=json.dumps(
            [spec.kind, template.ignore_case, line.data.get("ideal")],
            sort_keys=True,
            ensure_ascii=False,
        ),
        parameters=parameters(spec),
        problem=problem,
        vacuous=None if problem else template.vacuous(ideals),
    )

    def judge(answer: Answer, _grading: Grading | None) -> Sequence[AssertionResult]:
        return [template.judge(answer.text, ideals)]

    return Row(case_of(draft, config, taken), messages, judge)
