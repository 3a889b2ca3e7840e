"""The prompts of a config: in place, in files of many kinds, in patterns of files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.promptfoo.csv_file import parse_csv
from pytest_llmdeploy.gates.promptfoo.js_values import parse_json, stringify, trim
from pytest_llmdeploy.gates.promptfoo.paths import (
    BadPathError,
    Files,
    has_magic,
    is_javascript,
    read,
    without_function,
)
from pytest_llmdeploy.gates.promptfoo.references import expand
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import read_yaml_file
from pytest_llmdeploy.gates.wording import quote

_EXTENSIONS = [
    ".cjs",
    ".cts",
    ".j2",
    ".js",
    ".json",
    ".jsonl",
    ".md",
    ".mjs",
    ".mts",
    ".py",
    ".ts",
    ".txt",
    ".yml",
    ".yaml",
]
_SCRIPTS = (".sh", ".bash", ".exe", ".bat", ".cmd", ".ps1", ".rb", ".pl")
_SERVICES = ("portkey://", "langfuse://", "helicone://")
_SEPARATOR = "---"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a config."""

    raw: str
    label: str
    id: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    code: str | None = None
    """Python that makes the prompt, as ``path:function``."""
    problem: str | None = None
    """Why it cannot be asked here."""


def read_prompts(written: Any, files: Files) -> list[Prompt]:
    """Return the prompts in their order; raise BadPathError or ConfigError.

    `written` is what the config has: a text, a list, or a mapping of texts to labels.
    """
    prompts: list[Prompt] = []
    for entry in _entries(written):
        found = _prompts_of(entry, files)
        if not found:
            raise BadPathError(_NOTHING.format(quote(entry.raw, 60)))
        prompts += found
    return prompts


def matches(reference: str, prompt: Prompt) -> bool:
    """Say whether a test or a provider that names `reference` means the prompt."""
    names = [name for name in (prompt.label, prompt.id) if name]
    if reference in names or any(name.startswith(f"{reference}:") for name in names):
        return True
    prefix = reference.removesuffix("*")
    return prefix != reference and any(name.startswith(prefix) for name in names)


_NOTHING = (
    "there is no prompt in {}: a text with '/', '\\' or '.' near its end is taken for a file, "
    "unless it has more than one line; put such a text into a file"
)


def _entries(written: Any) -> list[Prompt]:
    if isinstance(written, str):
        written = [written]
    if isinstance(written, Mapping):
        return [Prompt(str(raw), str(label)) for raw, label in written.items()]
    if not isinstance(written, list) or not written:
        raise BadPathError("prompts takes a text, a list of them, or a mapping of texts to labels")
    texts = {one: Prompt(one, "") for one in written if isinstance(one, str)}
    ordered: list[Prompt] = []
    for one in written:
        if isinstance(one, str):
            if one in texts:  # the same text again does not count
                ordered.append(texts.pop(one))
            continue
        raw = (one.get("raw") or one.get("id")) if isinstance(one, Mapping) else None
        if not isinstance(raw, str):
            raise BadPathError(
                f"a prompt is a text or has one as raw or id, not {quote(str(one), 60)}"
            )
        config = one.get("config")
        ordered.append(
            Prompt(
                raw,
                str(one.get("label") or ""),
                str(one.get("id") or ""),
                config if isinstance(config, Mapping) else {},
            )
        )
    return ordered


def _looks_like_a_file(text: str) -> bool:
    if "\n" in text or any(service in text for service in _SERVICES):
        return False
    ends = text.split(":")[-2:]
    return (
        text.startswith("file://")
        or any(end.endswith(extension) for end in ends for extension in _EXTENSIONS)
        or text[-3:-2] == "."
        or text[-4:-3] == "."
        or any(mark in text for mark in "*/\\")
    )


def _prompts_of(entry: Prompt, files: Files) -> list[Prompt]:  # noqa: PLR0911 - a kind of value a line
    raw = entry.raw
    in_place = replace(entry, label=entry.label or raw)
    if raw.startswith("exec:"):
        return [replace(in_place, problem=f"the prompt '{raw}' runs a program, which is not done")]
    if raw.startswith(_SERVICES):
        service = raw.partition(":")[0]
        return [replace(in_place, problem=f"the prompt comes from {service}, which is not asked")]
    if not _looks_like_a_file(raw):
        return [in_place]
    if has_magic(raw):
        try:
            found = files.matches(raw)
        except BadPathError as error:
            if "matches no file" not in str(error):
                raise
            return [in_place]
        return [
            prompt
            for path in found
            for prompt in _of_file(path, None, Prompt(str(path), ""), files)
        ]
    name, function = without_function(raw.removeprefix("file://"))
    try:
        path = files.resolve(name)
    except BadPathError as error:
        if Path(name).suffix in {*_EXTENSIONS, ".csv"} or raw.startswith("file://"):
            raise
        if "outside" in str(error) and raw.startswith(("file://", "/", "..")):
            raise
        return []
    return _of_file(path, function, entry, files)


def _of_file(path: Path, function: str | None, entry: Prompt, files: Files) -> list[Prompt]:
    label = files.relative(path)
    if path.suffix in {".js", ".cjs", ".mjs"}:
        named = f"{label}:{function}" if function else label
        return [replace(entry, label=entry.label or named, code=f"{path}:{function or ''}")]
    if is_javascript(path.name) or path.suffix in _SCRIPTS:
        problem = f"the prompt is code of {label}, which is not run here"
        return [replace(entry, label=entry.label or label, problem=problem)]
    if path.suffix == ".py":
        named = f"{label}:{function}" if function else f"{label}: {read(path)}"
        code = f"{path}:{function}" if function else None
        lacks = None if code else f"the prompt is the script {label}: name a function of it"
        return [replace(entry, label=entry.label or named, code=code, problem=lacks)]
    readers: Mapping[str, Callable[[Path, str, Prompt, Files], list[Prompt]]] = {
        ".csv": _table,
        ".j2": _whole,
        ".json": _json,
        ".jsonl": _lines,
        ".md": _whole,
        ".txt": _sections,
        ".yaml": _yaml,
        ".yml": _yaml,
    }
    reader = readers.get(path.suffix)
    return reader(path, label, entry, files) if reader else []


def _whole(path: Path, label: str, entry: Prompt, _: Files) -> list[Prompt]:
    text = read(path)
    config = {} if path.suffix == ".md" else entry.config
    return [Prompt(text, entry.label or f"{label}: {text[:50]}...", config=config)]


def _sections(path: Path, label: str, entry: Prompt, _: Files) -> list[Prompt]:
    sections: list[list[str]] = [[]]
    for line in re.split(r"\r?\n", read(path)):
        if trim(line) == _SEPARATOR:
            sections.append([])
        else:
            sections[-1].append(line)
    texts = [text for section in sections if (text := trim("\n".join(section)))]
    named = f"{entry.label}: {label}" if entry.label else label
    return [Prompt(text, f"{named}: {text}") for text in texts]


def _json(path: Path, label: str, entry: Prompt, files: Files) -> list[Prompt]:
    text = read(path)
    try:
        text = stringify(expand(parse_json(text), files))
    except ValueError as error:
        if isinstance(error, BadPathError) and "outside" in str(error):
            raise
    return [Prompt(text, entry.label or f"{label}: {text}", config=entry.config)]


def _yaml(path: Path, label: str, entry: Prompt, files: Files) -> list[Prompt]:
    text = read(path)
    try:
        text = stringify(expand(read_yaml_file(path).data, files))
    except ConfigError:
        pass  # what is no YAML is the prompt itself
    except BadPathError as error:
        if "outside" in str(error):
            raise
    return [Prompt(text, entry.label or f"{label}: {text[:80]}", config=entry.config)]


def _lines(path: Path, label: str, entry: Prompt, _: Files) -> list[Prompt]:
    lines = [line for line in re.split(r"\r?\n", read(path)) if line]
    named = entry.label or label
    several = len(lines) > 1
    return [
        Prompt(line, f"{named}: {line}" if several else named, config=entry.config)
        for line in lines
    ]


def _table(path: Path, _label: str, entry: Prompt, _: Files) -> list[Prompt]:
    text = read(path)
    rows: Sequence[tuple[str, str]]
    try:
        if "," not in text:
            raise BadPathError("one column")
        records = [row for _, row in parse_csv(_without_blank_lines(text), path.name, relaxed=True)]
        cells = [{trim(key): trim(cell) for key, cell in row.items()} for row in records]
        rows = [(row["prompt"], row.get("label", "")) for row in cells if row.get("prompt")]
    except (BadPathError, ConfigError):
        lines = [line for line in re.split(r"\r?\n", text) if trim(line)]
        start = 1 if lines and trim(lines[0]).lower() == "prompt" else 0
        rows = [(line, "") for line in lines[start:]]
    return _labelled(rows, entry)


def _without_blank_lines(text: str) -> str:
    return re.sub(r"(?m)^[ \t]*\r?\n", "", text)


def _labelled(rows: Sequence[tuple[str, str]], entry: Prompt) -> list[Prompt]:
    """Return the rows of a table as prompts; each has a label of its own."""
    several = len(rows) > 1
    used = {label for _, label in rows if label}
    prompts: list[Prompt] = []
    for number, (text, given) in enumerate(rows, start=1):
        label = given
        if not label:
            label = f"Prompt {number} - {text}"
            if entry.label:
                label = f"{entry.label}: {text}" if several else entry.label
            first, count = label, 1
            while label in used:
                label = f"{first} (row {number}{f'.{count}' if count > 1 else ''})"
                count += 1
            used.add(label)
        number_id = f"{entry.id}:{number}" if several and entry.id else entry.id
        prompts.append(replace(entry, raw=text, label=label, id=number_id))
    return prompts
