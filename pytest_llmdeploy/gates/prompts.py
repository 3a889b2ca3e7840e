"""From a case and its suite's prompt to the messages that the model gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.sentences import unknown_key
from pytest_llmdeploy.config.text import display_path, read_text
from pytest_llmdeploy.config.yaml_reader import read_yaml
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.cases import Case
from pytest_llmdeploy.gates.readers.json_files import strict_json
from pytest_llmdeploy.gates.templates import (
    TemplateError,
    message_problem,
    render_text,
    render_tree,
)

SuitePrompt = str | Mapping[str, str] | Sequence[Mapping[str, Any]] | None
"""A template, ``{file: path}``, or a list of messages."""
PROMPT_MAX_BYTES = 4 << 20
"""Largest prompt file."""
_TEXT_SUFFIXES = (".j2", ".txt", ".md")
_MESSAGE_SUFFIXES = (".yaml", ".yml", ".json")


def render(
    case: Case, suite_prompt: SuitePrompt, system: str | None, root: Path
) -> list[dict[str, Any]]:
    """Return the messages of one case; raise ConfigError naming the case, template and variable.

    The case's own prompt wins. `system` goes in front of a text prompt only: a list of messages
    says everything itself. Paths are relative to `root`.
    """
    prompt = suite_prompt if case.prompt is None else case.prompt
    if isinstance(prompt, Mapping):
        prompt = _from_file(prompt, root, case)
    try:
        if prompt is None:
            raise TemplateError("the case has no prompt, and its suite has none either")
        if isinstance(prompt, str):
            messages = [{"role": "user", "content": render_text(prompt, case.vars)}]
            if system is not None:
                messages.insert(0, {"role": "system", "content": render_text(system, case.vars)})
        else:
            if problem := message_problem(prompt):
                raise TemplateError(problem)
            messages = [_rendered(message, case.vars) for message in prompt]
        if not any(_says_something(message) for message in messages if message["role"] != "system"):
            raise TemplateError("the prompt is empty once its variables are filled in")
    except TemplateError as error:
        raise ConfigError([_problem(case, str(error))]) from error
    return messages


def validate_prompts(
    cases: Iterable[Case], suite_prompt: SuitePrompt, system: str | None, root: Path
) -> None:
    """Render every case once and forget it, so that a broken prompt is found before any is asked.

    Raises one ConfigError; what is wrong with many cases alike is said once, with their number.
    """
    first: dict[str, Problem] = {}
    count: dict[str, int] = {}
    for case in cases:
        try:
            render(case, suite_prompt, system, root)
        except ConfigError as error:
            for problem in error.problems:
                first.setdefault(problem.message, problem)
                count[problem.message] = count.get(problem.message, 0) + 1
    if first:
        raise ConfigError(
            [
                Problem(problem.file, problem.line, problem.where, message + _also(count[message]))
                for message, problem in first.items()
            ]
        )


def _also(count: int) -> str:
    return f" (and so for {count - 1} more)" if count > 1 else ""


def _problem(case: Case, message: str) -> Problem:
    file, _, line = case.source.rpartition(":")
    return Problem(file, int(line), case.id, message)


def _rendered(message: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: render_tree(value, variables) if key == "content" else value
        for key, value in message.items()
    }


def _says_something(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return bool(content.strip()) if isinstance(content, str) else bool(content)


def _from_file(prompt: Mapping[str, str], root: Path, case: Case) -> str | list[Any]:
    for key in prompt:
        if key != "file":
            raise ConfigError([_problem(case, f"prompt: {unknown_key(key, ['file'])}")])
    if "file" not in prompt:
        raise ConfigError([_problem(case, "prompt: expected a text, messages or {file: path}")])
    path = root / prompt["file"]
    try:
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError):
        stamp = (0, 0)  # reading it says what is wrong
    return _read(path, stamp)


@lru_cache(maxsize=64)
def _read(path: Path, stamp: tuple[int, int]) -> str | list[Any]:  # noqa: ARG001 - part of the key
    """Return a template or a list of messages; a changed file is read anew."""
    file = display_path(path)
    suffix = path.suffix.lower()
    if suffix in _TEXT_SUFFIXES:
        return read_text(path, PROMPT_MAX_BYTES)
    if suffix not in _MESSAGE_SUFFIXES:
        known = ", ".join(_TEXT_SUFFIXES + _MESSAGE_SUFFIXES)
        message = f"prompt files are {known}; '{suffix or path.name}' is none of them"
        raise ConfigError([Problem(file, 0, "", message)])
    if suffix == ".json":
        text = read_text(path, PROMPT_MAX_BYTES)
        try:
            messages = strict_json(text)
        except ValueError as error:
            raise ConfigError([Problem(file, 0, "", str(error))]) from error
    else:
        messages = read_yaml(path, PROMPT_MAX_BYTES).data
    if problem := message_problem(messages):
        raise ConfigError([Problem(file, 0, "", problem)])
    return list(messages)
