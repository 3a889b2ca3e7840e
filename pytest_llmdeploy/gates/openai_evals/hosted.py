"""Exports of the hosted service: the eval, its runs and their items become rows.

The service has no one export. What its API returns is read in any mix: eval objects with
``testing_criteria``, run objects with ``data_source``, output items, and the dashboard's rows of
``item`` and ``sample``; in a JSON document, in lists of the API, or a line each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.config.sentences import shown, suggestion
from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.assertions import AssertionResult, Grading
from pytest_llmdeploy.gates.openai_evals.files import Line, read_document, read_objects
from pytest_llmdeploy.gates.openai_evals.graders import BadGraderError, Grader, read_grader
from pytest_llmdeploy.gates.openai_evals.messages import BadMessageError, fill_messages, texts
from pytest_llmdeploy.gates.openai_evals.row import Draft, Row, RowJudge, Rows, case_of
from pytest_llmdeploy.gates.openai_evals.templates import (
    BadTemplateError,
    NotInSampleError,
    look_up,
    parse_path,
)
from pytest_llmdeploy.ports import Answer, Message
from pytest_llmdeploy.untrusted import read_json

FORMAT = "OpenAI Evals (hosted export)"
_SAMPLING = (
    "temperature",
    "top_p",
    "seed",
    "max_completion_tokens",
    "response_format",
    "tools",
    "reasoning_effort",
)
"""Sampling parameters of a run that a chat request has, too."""
_WHERE = "an eval object with testing_criteria, as GET /v1/evals/{eval_id} returns it"


@dataclass(slots=True)
class _Export:
    """The objects of an export, sorted."""

    evals: list[Line] = field(default_factory=list)
    runs: list[Line] = field(default_factory=list)
    items: list[Line] = field(default_factory=list)
    """Output items and rows of a data set: what has an item."""

    def add(self, data: Any, file: str, line: int) -> None:
        """Sort one object in, and what lies within it."""
        if isinstance(data, list):
            for one in data:
                self.add(one, file, line)
        if not isinstance(data, dict):
            return
        if "testing_criteria" in data:
            self.evals.append(Line(data, file, line))
        elif "data_source" in data:
            self.runs.append(Line(data, file, line))
        elif _item(data) is not None:
            self.items.append(Line(data, file, line))
            return
        for key in ("data", "eval", "evals", "runs", "output_items"):
            self.add(data.get(key), file, line)


def _item(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the item of an output item or a row."""
    found = data.get("datasource_item", data.get("item"))
    return found if isinstance(found, dict) else None


def read_hosted(path: Path, config: SuiteConfig, root: Path, samples: Path | None) -> Rows:
    """Return the rows of an export; raise ConfigError."""
    export = _read(path, root)
    name = config.openai_evals.name if config.openai_evals else None
    chosen, run = _choose(export, name, display_path(path))
    graders = _graders(chosen)
    if samples is None:
        items = _items(chosen, run, export)
    else:
        items = [Line(_as_row(one.data), one.file, one.line) for one in read_objects(samples, root)]
    source = run.data.get("data_source") if run else None
    asking = _Asking(source if isinstance(source, dict) else {})
    taken: set[str] = set()
    rows = [
        _row(number, one, graders, asking, config=config, taken=taken)
        for number, one in enumerate(items, 1)
    ]
    return Rows(FORMAT, rows, _warnings(export, run, graders, rows, asking=asking, name=name))


def _read(path: Path, root: Path) -> _Export:
    export = _Export()
    if path.suffix == ".json":
        export.add(read_document(path), display_path(path), 1)
    else:
        for line in read_objects(path, root):
            export.add(line.data, line.file, line.line)
    return export


def _as_row(data: dict[str, Any]) -> dict[str, Any]:
    """Return a line of a data set as a row: the item in ``item``, or the line itself."""
    return data if _item(data) is not None else {"item": data}


def _choose(export: _Export, name: str | None, file: str) -> tuple[Line, Line | None]:
    """Return the eval and the run that are meant; raise ConfigError."""
    if not export.evals:
        message = f"the export has no testing criteria: add {_WHERE}"
        if export.items:
            message = f"the export has items but no testing criteria: add {_WHERE}"
        raise ConfigError([Problem(file, 0, "", message)])
    runs = export.runs
    evals = export.evals
    if name is not None:
        named = [one for one in evals if name in (one.data.get("id"), one.data.get("name"))]
        if not named:
            runs = [one for one in runs if name in (one.data.get("id"), one.data.get("name"))]
            named = [one for one in evals if not runs or _belongs(runs[-1], one)] if runs else []
        if not named:
            names = _names(evals)
            hint = suggestion(name, names) or f", it has: {', '.join(names)}"
            raise ConfigError([Problem(file, 0, "", f"the export has no eval {shown(name)}{hint}")])
        evals = named
    if len({str(one.data.get("id")) for one in evals}) > 1:
        listed = ", ".join(_names(evals))
        message = f"the export holds {len(evals)} evals: choose one by openai_evals.name: {listed}"
        raise ConfigError([Problem(file, 0, "", message)])
    chosen = evals[-1]
    own = [run for run in runs if _belongs(run, chosen)]
    return chosen, max(own, key=_created, default=None)


def _names(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(str(one.data.get("name") or one.data.get("id")) for one in lines))


def _belongs(run: Line, chosen: Line) -> bool:
    return run.data.get("eval_id") in (None, chosen.data.get("id"))


def _created(run: Line) -> float:
    created = run.data.get("created_at")
    return float(created) if isinstance(created, int | float) else 0.0


def _graders(chosen: Line) -> list[Grader]:
    criteria = chosen.data["testing_criteria"]
    if criteria is None:
        return []
    if not isinstance(criteria, list):
        message = f"expected a list of graders, got {shown(criteria)}"
        raise ConfigError([Problem(chosen.file, chosen.line, "testing_criteria", message)])
    graders, problems = [], []
    for number, raw in enumerate(criteria):
        try:
            graders.append(read_grader(raw, number + 1))
        except BadGraderError as error:
            where = f"testing_criteria[{number}]"
            problems.append(Problem(chosen.file, chosen.line, where, str(error)))
    if problems:
        raise ConfigError(problems)
    return graders


def _items(chosen: Line, run: Line | None, export: _Export) -> list[Line]:
    """Return the rows of the run, each once; raise ConfigError where there are none."""
    found: list[Line] = []
    if run is not None:
        source = run.data["data_source"]
        inner = source.get("source") if isinstance(source, dict) else None
        content = inner.get("content") if isinstance(inner, dict) else None
        if isinstance(content, list):
            rows = (one for one in content if isinstance(one, dict))
            found = [Line(_as_row(one), run.file, run.line) for one in rows]
    if not found:
        found = list(_distinct(export.items, run.data.get("id") if run else None))
    if found:
        return found
    message = (
        "the export has no items: name the JSONL file of the data set as openai_evals.samples, "
        "or add the run's output items"
    )
    place = run or chosen
    raise ConfigError([Problem(place.file, place.line, "", message)])


def _distinct(items: Sequence[Line], run_id: object) -> Iterator[Line]:
    """Yield the run's items, or all where none is the run's; the same item of two runs once."""
    own = [one for one in items if run_id is not None and one.data.get("run_id") == run_id]
    seen: set[str] = set()
    for one in own or items:
        number = one.data.get("datasource_item_id", one.data.get("data_source_idx"))
        key = json.dumps([number, _item(one.data)], sort_keys=True)
        if number is None or key not in seen:
            seen.add(key)
            yield one


@dataclass(frozen=True, slots=True)
class _Asking:
    """How a run asks the model."""

    source: Mapping[str, Any]

    @property
    def parameters(self) -> dict[str, Any]:
        """The run's sampling parameters, as a chat request has them."""
        raw = self.source.get("sampling_params")
        if not isinstance(raw, dict):
            return {}
        parameters = {key: raw[key] for key in _SAMPLING if raw.get(key) is not None}
        form = raw.get("text")
        if isinstance(form, dict) and isinstance(form.get("format"), dict):
            parameters["response_format"] = _chat_format(form["format"])
        return parameters

    def messages(self, item: Mapping[str, Any]) -> list[Message]:
        """Return what the model is asked; raise BadTemplateError or BadMessageError.

        Empty where the run asks nothing: its rows bring their answers along.
        """
        raw = self.source.get("input_messages")
        if raw is None:
            return []
        if isinstance(raw, dict) and isinstance(reference := raw.get("item_reference"), str):
            messages = look_up(parse_path(reference), {"item": item})
            if not isinstance(messages, list) or not messages:
                raise BadMessageError(f"{reference} is no list of messages")
            list(texts(messages))
            return fill_messages(messages, {"item": item})
        template = raw.get("template") if isinstance(raw, dict) else raw
        if not isinstance(template, list) or not template:
            raise BadMessageError("input_messages has no list of messages")
        list(texts(template))
        return fill_messages(template, {"item": item})


def _chat_format(form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer's format as a chat request has it; a Responses run keeps it flat."""
    if form.get("type") != "json_schema" or "json_schema" in form:
        return dict(form)
    schema = {key: value for key, value in form.items() if key != "type"}
    return {"type": "json_schema", "json_schema": schema}


def _row(
    number: int,
    line: Line,
    graders: Sequence[Grader],
    asking: _Asking,
    *,
    config: SuiteConfig,
    taken: set[str],
) -> Row:
    item = _item(line.data) or {}
    messages: list[Message] = []
    canned = problem = None
    try:
        messages = asking.messages(item)
    except (BadTemplateError, NotInSampleError, BadMessageError) as error:
        problem = f"the run's input_messages: {error}"
    if not messages and problem is None:
        canned = _canned(line.data)
        if canned is None:
            problem = "nothing to ask: the run has no input_messages, and the item brings no answer"
    problem = problem or next((why for one in graders if (why := one.check(item))), None)
    draft = Draft(
        number=number,
        id=item.get("id"),
        item=item,
        source=line.source,
        judgement=_judgement(graders, item),
        parameters=asking.parameters,
        canned=canned,
        problem=problem,
        vacuous=None if problem else _vacuous(graders, item),
    )
    return Row(case_of(draft, config, taken), messages, _judge(graders, item))


def _judgement(graders: Sequence[Grader], item: object) -> str:
    words = {"graders": [one.raw for one in graders], "item": item}
    return json.dumps(words, sort_keys=True, ensure_ascii=False, default=str)


def _vacuous(graders: Sequence[Grader], item: Mapping[str, Any]) -> str | None:
    """Return why the row passes whatever the answer: all of its graders do."""
    if not graders:
        return "the eval has no testing criteria"
    reasons = [one.passes_anything(item) for one in graders]
    if not all(reasons):
        return None
    return "; ".join(
        dict.fromkeys(f"{one.kind}: {why}" for one, why in zip(graders, reasons, strict=True))
    )


def _canned(data: Mapping[str, Any]) -> str | None:
    """Return the answer that a row brings along, in any of the forms in which rows keep it."""
    sample = data.get("sample")
    if not isinstance(sample, dict):
        return None
    if isinstance(sample.get("output_text"), str):
        return str(sample["output_text"])
    for key in ("output", "outputs", "choices"):
        several = sample.get(key)
        first = several[0] if isinstance(several, list) and several else None
        if isinstance(first, dict):
            first = first.get("message", first)
            content = first.get("content") if isinstance(first, dict) else None
            if isinstance(content, str):
                return content
    return None


def _judge(graders: Sequence[Grader], item: Mapping[str, Any]) -> RowJudge:
    def judge(answer: Answer, grading: Grading | None) -> Sequence[AssertionResult]:
        values = {"item": item, "sample": sample_of(answer)}
        return [grader.judge(values, grading) for grader in graders]

    return judge


def sample_of(answer: Answer) -> dict[str, Any]:
    """Return the namespace sample: what templates can say of an answer."""
    sample: dict[str, Any] = {
        "output_text": answer.text,
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "choices": [
            {
                "message": {"role": "assistant", "content": answer.text, **answer.extra},
                "finish_reason": answer.finish_reason,
            }
        ],
    }
    with suppress(ValueError):  # a template that asks for it fails the answer
        sample["output_json"] = read_json(answer.text.encode("utf-8", "replace"))
    if isinstance(answer.extra.get("tool_calls"), list):
        sample["output_tools"] = answer.extra["tool_calls"]
    return sample


def _warnings(
    export: _Export,
    run: Line | None,
    graders: Sequence[Grader],
    rows: Sequence[Row],
    *,
    asking: _Asking,
    name: str | None,
) -> tuple[str, ...]:
    told = []
    chosen = run is not None and name in (run.data.get("id"), run.data.get("name"))
    if run is not None and len(export.runs) > 1 and (name is None or not chosen):
        told.append(f"of {len(export.runs)} runs the newest is taken, {run.data.get('id')}")
    if canned := sum(row.case.canned is not None for row in rows):
        told.append(f"{canned} rows bring their answers along: no service is asked for them")
    told += [
        f"{grader.name}: the gate's judge is asked, not {grader.model}"
        for grader in graders
        if grader.model
    ]
    if isinstance(model := asking.source.get("model"), str):
        told.append(f"the gate's endpoint is asked, not {model}")
    return tuple(dict.fromkeys(told))
