"""ModelBasedClassify of openai/evals: a judge reads the answer and names one of some choices.

A sample passes with the choice of the highest score. openai/evals gives an unreadable choice the
lowest score; here it is no verdict at all.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.sentences import shown, suggestion
from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.config.yaml_reader import read_yaml
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.assertions import AssertionResult, Grading
from pytest_llmdeploy.gates.openai_evals import judging
from pytest_llmdeploy.gates.openai_evals.files import Line
from pytest_llmdeploy.gates.openai_evals.messages import chat
from pytest_llmdeploy.gates.openai_evals.row import Draft, RowJudge, result
from pytest_llmdeploy.gates.openai_evals.spec import YAML_MAX_BYTES, Spec, folder, parameters
from pytest_llmdeploy.ports import Answer, Message

_SLOT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MATCHES: dict[str, Callable[[str, str], bool]] = {
    "include": lambda line, choice: line in choice,
    "exact": lambda line, choice: line == choice,
    "endswith": lambda line, choice: line.endswith(choice),
    "starts_or_endswith": lambda line, choice: line.startswith(choice) or line.endswith(choice),
}
_CLOSINGS = {
    "classify": "Reply with exactly one of {choices}, without quotes, and with no other text.",
    "classify_cot": (
        "Put exactly one of {choices}, without quotes, on the first line. Give your reasons on "
        "the lines below it."
    ),
    "cot_classify": (
        "Think it through step by step in writing before you decide. Then put exactly one of "
        "{choices}, without quotes, on the last line, alone."
    ),
}


class BadSampleError(ValueError):
    """The sample does not have what the prompt needs; the text says why."""


@dataclass(frozen=True, slots=True)
class ModelGraded:
    """A model-graded spec with the arguments of the eval that uses it."""

    spec: Spec
    name: str
    prompt: Sequence[Message]
    choices: Sequence[str]
    scores: Mapping[str, float] | None
    eval_type: str
    match: str
    fields: tuple[str, str]
    """The sample's key that is asked, and the name of the answer in the prompt."""
    extra: Mapping[str, Any]
    asked: Mapping[str, Any]
    """Sampling parameters of the judge."""
    metaeval: bool

    def row(self, number: int, line: Line) -> tuple[Draft, list[Message], RowJudge]:
        """Return what a sample comes down to."""
        given, completion = self.fields
        messages: list[Message] = []
        problem = self._problem()
        canned = line.data.get(completion)
        canned = canned if isinstance(canned, str) else None
        try:
            messages = chat(line.data.get(given))
            self._messages({**self._values(line.data), completion: ""})
        except BadSampleError as error:
            problem = problem or str(error)
        except ValueError as error:
            problem = problem or f"{given}: {error}"
        if self.metaeval and line.data.get("choice") not in self.choices:
            problem = problem or "metaeval needs a sample's choice, one of the spec's"
        judgement = [
            self.name,
            [dict(message) for message in self.prompt],
            list(self.choices),
            dict(self.scores or {}),
            self.eval_type,
            self.match,
            dict(self.extra),
            dict(line.data),
        ]
        draft = Draft(
            number=number,
            item=line.data,
            source=line.source,
            judgement=json.dumps(judgement, sort_keys=True, ensure_ascii=False, default=str),
            parameters=parameters(self.spec),
            canned=canned,
            problem=problem,
            vacuous=self._vacuous(),
        )

        def judge(answer: Answer, grading: Grading | None) -> Sequence[AssertionResult]:
            return [self.judge(line.data, answer.text, grading)]

        return draft, messages, judge

    def judge(
        self, sample: Mapping[str, Any], text: str, grading: Grading | None
    ) -> AssertionResult:
        """Judge an answer; raise NotEvaluable."""
        messages = self._messages({**self._values(sample), self.fields[1]: text})
        votes = judging.ask(
            grading, messages, self.asked, self.read, lambda choice: self._verdict(choice, sample)
        )
        said = ", ".join(map(str, votes.evidence["votes"]))
        wanted = str(sample["choice"]) if self.metaeval else " or ".join(self._best())
        return result(
            "ModelBasedClassify",
            votes.passed,
            votes.score,
            f"expected the choice {wanted}, the judge said {said}",
            metric=self.name,
            evidence=votes.evidence,
        )

    def read(self, text: str) -> str:
        """Return the choice that an answer of the judge names; raise UnreadableError."""
        lines = text.strip().split("\n")
        if self.eval_type.startswith("cot_classify"):
            lines.reverse()
        for line in lines:
            bare = line.strip().translate(_PUNCTUATION)
            if bare:
                for choice in self.choices:
                    if _MATCHES[self.match](bare, choice):
                        return choice
        raise judging.UnreadableError(f"none of the choices {', '.join(self.choices)}")

    def _verdict(self, choice: str, sample: Mapping[str, Any]) -> tuple[bool, float]:
        if self.metaeval:
            return choice == sample["choice"], float(choice == sample["choice"])
        assert self.scores is not None
        low, high = min(self.scores.values()), max(self.scores.values())
        share = (self.scores[choice] - low) / (high - low) if high > low else 1.0
        return choice in self._best(), share

    def _best(self) -> list[str]:
        scores = self.scores or {}
        return [choice for choice in self.choices if scores[choice] == max(scores.values())]

    def _problem(self) -> str | None:
        if self.scores is None and not self.metaeval:
            return (
                f"the spec {self.name} has no choice_scores: it counts choices and calls none of "
                "them good; add choice_scores to it"
            )
        return None

    def _vacuous(self) -> str | None:
        if self.scores and not self.metaeval and len(set(self.scores.values())) == 1:
            return "every choice has the same score"
        return None

    def _values(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        return {**sample, **self.extra}

    def _messages(self, values: Mapping[str, Any]) -> list[Message]:
        return [
            {**message, "content": _filled(message["content"], values)} for message in self.prompt
        ]


def find(spec: Spec, root: Path) -> ModelGraded:
    """Return the spec that the eval names, from the registry's folder; raise ConfigError."""
    args = spec.args
    name = args.get("modelgraded_spec")
    place = folder(spec.path) / "modelgraded"
    found: dict[str, tuple[dict[str, Any], Path, int]] = {}
    for path in sorted(place.glob("*.yaml")) if place.is_dir() else ():
        if not path.resolve().is_relative_to(root.resolve()):
            continue
        document = read_yaml(path, YAML_MAX_BYTES)
        for key, raw in document.data.items() if isinstance(document.data, dict) else ():
            if isinstance(raw, dict):
                found[key] = raw, path, document.lines.get((key,), 1)
    if not isinstance(name, str) or name not in found:
        hint = suggestion(str(name), found)
        message = (
            f"there is no model-graded spec {shown(name)} in {display_path(place)}"
            f"{hint or ': copy its YAML file there'}"
        )
        raise ConfigError([spec.problem(message, "args", "modelgraded_spec")])
    raw, path, line = found[name]
    try:
        return _read(spec, name, raw)
    except ValueError as error:
        raise ConfigError([Problem(display_path(path), line, name, str(error))]) from error


def _read(spec: Spec, name: str, raw: Mapping[str, Any]) -> ModelGraded:
    args = spec.args
    choices = _choices(raw.get("choice_strings"))
    fields = raw.get("input_outputs")
    if not isinstance(fields, dict) or not all(isinstance(one, str) for one in fields.values()):
        raise ValueError("input_outputs must map a sample's key to the answer's name")
    if len(fields) != 1 or args.get("multicomp_n", 1) != 1:
        raise ValueError("it compares several answers to one sample: one answer is judged here")
    eval_type = args.get("eval_type")
    if eval_type is not None and eval_type not in _CLOSINGS:
        raise ValueError(
            f"there is no eval_type {shown(eval_type)}, expected one of: {', '.join(_CLOSINGS)}"
        )
    prompt = [dict(message) for message in chat(raw.get("prompt"))]
    if eval_type:
        listed = " or ".join(f'"{choice}"' for choice in choices)
        closing = _CLOSINGS[eval_type].format(choices=listed)
        escaped = closing.replace("{", "{{").replace("}", "}}")
        prompt[-1]["content"] += f"\n\n{escaped}"
    reading = raw.get("eval_type") or eval_type
    if reading not in _CLOSINGS:
        raise ValueError("neither the spec nor the eval says eval_type, such as cot_classify")
    match = args.get("match_fn") or "starts_or_endswith"
    if match not in _MATCHES:
        raise ValueError(f"there is no match_fn {shown(match)}, one of: {', '.join(_MATCHES)}")
    extra = args.get("modelgraded_spec_args") or {}
    sampling = args.get("eval_kwargs") or {}
    if not isinstance(extra, dict) or not isinstance(sampling, dict):
        raise ValueError("modelgraded_spec_args and eval_kwargs must be mappings")
    return ModelGraded(
        spec=spec,
        name=name,
        prompt=prompt,
        choices=choices,
        scores=_scores(raw.get("choice_scores"), choices),
        eval_type=reading,
        match=match,
        fields=next(iter(fields.items())),
        extra=extra,
        asked={"max_tokens": 1024, **sampling},
        metaeval=args.get("metaeval") is True,
    )


def _choices(raw: Any) -> list[str]:
    """Return the choices: a list, or the characters of a text."""
    if isinstance(raw, str) and raw.startswith("from_n"):
        raise ValueError(f"choice_strings: {raw} compares several answers: one is judged here")
    choices = list(raw) if isinstance(raw, str | list) else []
    if not choices or not all(isinstance(one, str) and one for one in choices):
        raise ValueError(f"choice_strings must be texts, got {shown(raw)}")
    for choice in choices:
        if choice != choice.translate(_PUNCTUATION):
            raise ValueError(f"the choice {shown(choice)} has punctuation: it could never be read")
    return choices


def _scores(raw: Any, choices: Sequence[str]) -> dict[str, float] | None:
    if raw is None:
        return None
    if raw == "from_strings":
        raw = {}
        for choice in choices:
            try:
                raw[choice] = float(choice)
            except ValueError:
                raise ValueError(f"choice_scores: the choice {choice} is no number") from None
    if not isinstance(raw, dict) or set(raw) != set(choices):
        raise ValueError("choice_scores must give each of choice_strings a number")
    for choice, score in raw.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or score - score != 0:
            raise ValueError(f"choice_scores: {choice} must be a number, got {shown(score)}")
    return {choice: float(score) for choice, score in raw.items()}


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """Return the template with its ``{name}`` filled; raise BadSampleError."""

    def one(slot: re.Match[str]) -> str:
        if slot[1] is None:
            return slot[0][0]
        name = slot[1]
        if name not in values:
            raise BadSampleError(f"the judge's prompt needs {{{name}}}, the sample has none")
        return _shown(values[name])

    return _SLOT.sub(one, template)


def _shown(value: Any) -> str:
    """Return a value in a judge's prompt; messages as lines with their role, a single one bare."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        if len(value) == 1:
            return str(value[0].get("content", ""))
        lines = []
        for message in value:
            role = str(message.get("name") or message.get("role") or "")
            role = role.removeprefix("example_")
            prefix = "" if role == "system" else f"{role.capitalize()}: "
            lines.append(f"{prefix}{message.get('content', '')}")
        return "\n".join(lines)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
