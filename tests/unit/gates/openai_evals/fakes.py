"""A judge that says what a test tells it to, and files of evals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.assertions import AssertionRegistry
from pytest_llmdeploy.gates.openai_evals.suite import read_openai_evals
from pytest_llmdeploy.gates.scoring import SampleScore
from pytest_llmdeploy.gates.suite import SuiteParts
from pytest_llmdeploy.ports import Answer, Embedded, Message
from tests.unit.gates.helpers import answer, where


class Judge:
    """Answers the votes in turn, and remembers what it was asked."""

    judge = "judge-model"

    def __init__(self, *says: str, vectors: Sequence[Sequence[float]] = ()) -> None:
        self.says = says
        self.vectors = vectors
        self.asked: list[tuple[Sequence[Message], Mapping[str, Any] | None]] = []

    @property
    def votes(self) -> int:
        """As many as there are answers."""
        return len(self.says)

    def chat(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any] | None = None,
        *,
        vote: int = 0,
    ) -> Answer:
        """Return the vote's answer."""
        self.asked.append((messages, parameters))
        if self.says[vote] == "(broken)":
            raise NotMeasuredError("HTTP 500")
        return answer(self.says[vote])

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Return the vectors it was made with."""
        assert len(texts) == 2
        return Embedded(self.vectors, "vectors")


def read(root: Path, path: str, **fields: Any) -> SuiteParts:
    """Return the suite of a file; `fields` are those of openai_evals and, as gate, of the gate."""
    gate = fields.pop("gate", {})
    config = SuiteConfig.model_validate({"openai_evals": {"path": path, **fields}, **gate})
    return read_openai_evals("imported", config, root, where, AssertionRegistry())


def judged(parts: SuiteParts, text: str, judge: Judge | None = None, row: int = 0) -> SampleScore:
    """Return the score of an answer to a row."""
    case = parts.cases[row]
    return parts.score(case, parts.evaluate(case, [], answer(text), judge))


def export(root: Path, criteria: Any, *items: Any, **run: Any) -> str:
    """Write an export of one eval and one run, and return its name."""
    source = {
        "type": "completions",
        "model": "gpt-4o",
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{ item.question }}"}],
        },
        "source": {"type": "file_content", "content": [{"item": item} for item in items]},
        **run,
    }
    data = {
        "object": "eval",
        "id": "eval_1",
        "name": "capitals",
        "testing_criteria": criteria,
        "runs": [{"object": "eval.run", "id": "run_1", "eval_id": "eval_1", "data_source": source}],
    }
    (root / "export.json").write_text(json.dumps(data), encoding="utf-8")
    return "export.json"


def lines(path: Path, *objects: Any) -> None:
    """Write JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(one)}\n" for one in objects), encoding="utf-8")
