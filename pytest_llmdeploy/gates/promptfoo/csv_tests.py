"""Rows of a table to tests: columns are variables, columns with ``__`` have a meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.gates.promptfoo.js_values import plain, trim
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, is_javascript

BASE_TYPES = [
    "agent-rubric",
    "answer-relevance",
    "bleu",
    "classifier",
    "contains",
    "contains-all",
    "contains-any",
    "contains-html",
    "contains-json",
    "contains-sql",
    "contains-xml",
    "context-faithfulness",
    "context-recall",
    "context-relevance",
    "conversation-relevance",
    "cost",
    "equals",
    "factuality",
    "finish-reason",
    "g-eval",
    "gleu",
    "guardrails",
    "icontains",
    "icontains-all",
    "icontains-any",
    "is-html",
    "is-json",
    "is-refusal",
    "is-sql",
    "is-valid-function-call",
    "is-valid-openai-function-call",
    "is-valid-openai-tools-call",
    "is-xml",
    "javascript",
    "latency",
    "levenshtein",
    "llm-rubric",
    "meteor",
    "model-graded-closedqa",
    "model-graded-factuality",
    "moderation",
    "perplexity",
    "perplexity-score",
    "pi",
    "python",
    "regex",
    "rouge-n",
    "ruby",
    "search-rubric",
    "similar",
    "similar:cosine",
    "similar:dot",
    "similar:euclidean",
    "skill-used",
    "starts-with",
    "tool-call-f1",
    "trace-error-spans",
    "trace-span-count",
    "trace-span-duration",
    "trajectory:goal-success",
    "trajectory:step-count",
    "trajectory:tool-args-match",
    "trajectory:tool-sequence",
    "trajectory:tool-used",
    "webhook",
    "word-count",
]
"""The types of assertions that may be negated; the text of a cell begins with one of them."""
_EXPECTED = re.compile(
    # The first type that fits wins: "similar:cosine" is the type similar with the value cosine.
    r"(not-)?(" + "|".join(map(re.escape, sorted(BASE_TYPES)))
    + r")(?:\((\d+(?:\.\d+)?)\))?(?::(.*))?", re.DOTALL
)  # fmt: skip
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_LISTS = ("contains-all", "contains-any", "icontains-all", "icontains-any")
_THRESHOLDS = [
    "answer-relevance",
    "classifier",
    "context-faithfulness",
    "context-recall",
    "context-relevance",
    "cost",
    "latency",
    "levenshtein",
    "perplexity-score",
    "perplexity",
    "rouge-n",
    "similar",
    "starts-with",
]
_CODE_MARKS = ("javascript:", "fn:", "eval:")


def row_to_test(row: Mapping[str, str]) -> dict[str, Any]:
    """Return the test that a record describes; raise BadPathError for a column that cannot be."""
    variables: dict[str, str] = {}
    checks: list[dict[str, Any]] = []
    test: dict[str, Any] = {"vars": variables, "assert": checks, "options": {}}
    metadata: dict[str, Any] = {}
    thresholds: dict[int, float] = {}
    metric: str | None = None
    for column, cell in row.items():
        name = trim(column)
        if name.startswith("__expected"):
            if trim(cell):
                checks.append(assertion_of_cell(trim(cell)))
        elif name in {"__prefix", "__suffix"}:
            test["options"][name.removeprefix("__")] = cell
        elif name in {"__description", "__providerOutput"}:
            test |= {name.removeprefix("__"): cell} if cell else {}
        elif name == "__metric":
            metric = cell
        elif name == "__threshold":
            limit = number(cell)
            test |= {} if limit is None else {"threshold": limit}
        elif name.startswith("__metadata:"):
            _note(metadata, name.removeprefix("__metadata:"), cell)
        elif name.startswith("__config:"):
            _configure(thresholds, name, cell)
        elif name != "__metadata":
            variables[name] = cell
    for place, check in enumerate(checks):
        check["metric"] = metric
        if place in thresholds:
            check["threshold"] = metadata["threshold"] = thresholds[place]
    return test | ({"metadata": metadata} if metadata else {})


def assertion_of_cell(text: str) -> dict[str, Any]:  # noqa: PLR0911 - a kind of value a line
    """Return the assertion that a cell of expectations stands for; equality where nothing fits."""
    is_file = text.startswith("file://")
    if mark := next((mark for mark in _CODE_MARKS if text.startswith(mark)), None):
        return {"type": "javascript", "value": trim(text.removeprefix(mark))}
    if is_file and is_javascript(text):
        return {"type": "javascript", "value": text}
    for mark in ("grade:", "llm-rubric:"):
        if text.startswith(mark):
            return {"type": "llm-rubric", "value": text.removeprefix(mark)}
    if text.startswith("python:"):
        return {"type": "python", "value": trim(text.removeprefix("python:"))}
    if is_file and (text.endswith(".py") or ".py:" in text):
        return {"type": "python", "value": trim(text.removeprefix("file://"))}
    found = _EXPECTED.fullmatch(text)
    if found is None:
        return {"type": "equals", "value": text}
    kind, value = found[2], found[4]
    check: dict[str, Any] = {"type": f"{found[1] or ''}{kind}"}
    if kind in _LISTS:
        value = comma_separated(value) if value else value
    elif kind not in {"contains-json", "is-json"}:
        value = None if value is None else trim(value)
    check |= {} if value is None else {"value": value}
    if kind in _THRESHOLDS:
        # The original's own defaults: they are tighter than those of the same types elsewhere.
        limit = None if found[3] is None else number(found[3])
        check["threshold"] = limit if limit is not None else (0.8 if kind == "similar" else 0.75)
    return check


def comma_separated(text: str) -> list[str]:
    """Return the values of a list in one cell; quotes keep commas. Raises BadPathError."""
    values: list[str] = []
    at = 0
    while at < len(text):
        while at < len(text) and (text[at].isspace() or text[at] == ","):
            at += 1
        if at >= len(text):
            break
        if text[at] != '"':
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            values.append(trim(text[at:end]))
            at = end
            continue
        value, at = _quoted(text, at + 1)
        values.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
        if at < len(text) and text[at] != ",":
            raise BadPathError(f"a comma is missing behind a quoted value in '{text[:60]}'")
    return values


def number(text: str) -> float | None:
    """Return the number of a cell; None where it is empty or none."""
    cell = trim(text)
    return plain(float(cell)) if _NUMBER.fullmatch(cell) else None


def _quoted(text: str, at: int) -> tuple[str, int]:
    parts: list[str] = []
    while at < len(text):
        pair = text[at : at + 2]
        if pair in {'\\"', "\\\\", '""'}:
            parts.append(pair[1])
            at += 2
        elif text[at] == '"':
            return "".join(parts), at + 1
        else:
            parts.append(text[at])
            at += 1
    raise BadPathError(f"a quote is opened and never closed in '{text[:60]}'")


def _note(metadata: dict[str, Any], key: str, cell: str) -> None:
    if not trim(cell):
        return
    if key.endswith("[]"):
        parts = re.split(r"(?<!\\),", cell)
        metadata[key.removesuffix("[]")] = [trim(part).replace(r"\,", ",") for part in parts]
    else:
        metadata[key] = cell


def _configure(thresholds: dict[int, float], column: str, cell: str) -> None:
    parts = column.removeprefix("__config:").split(":")
    if len(parts) != 2:
        return
    place = re.fullmatch(r"__expected([1-9]\d*|0+[1-9]\d*)?", parts[0])
    limit = number(cell)
    if place is None or parts[1] != "threshold":
        raise BadPathError(f"the column '{column}' is none: write __config:__expected1:threshold")
    if limit is None:
        raise BadPathError(f"the column '{column}' needs a number, got '{cell[:40]}'")
    thresholds[int(place[1] or 1) - 1] = limit
