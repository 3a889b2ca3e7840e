"""The YAML parser's complaints as one sentence that says what to change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ruamel.yaml.error import MarkedYAMLError

_SENTENCES = (
    (
        "mapping values are not allowed",
        "a ':' where none can stand: put a text with ': ' in quotes, or mend the indentation",
    ),
    ("sequence entries are not allowed", "a list starts on its own line, not behind 'key:'"),
    ("could not find expected ':'", "a key without ':'"),
    ("expected <block end>", "this does not fit the lines above: check indentation and quotes"),
    ("expected ',' or", "a ',' or a closing bracket is missing"),
    ("expected the node content, but found", "a value is missing, or a bracket was never opened"),
    ("found unknown escape", r"an unknown escape in double quotes: write \\, or use single quotes"),
)
_NO_TOKEN = re.compile(r"found character '(.*)' that cannot start any token")


def syntax_problem(error: MarkedYAMLError) -> tuple[int, str]:
    """Return the line (0 when unknown) and the sentence for a syntax error."""
    problem = error.problem or "this is not YAML"
    line = error.problem_mark.line + 1 if error.problem_mark else 0
    opened = error.context_mark.line + 1 if error.context_mark else line
    if problem == "found unexpected end of stream":
        return opened, "a quote is opened here and never closed"
    if "<stream end>" in problem:
        return opened, "a '[' or '{' is opened and never closed"
    if found := _NO_TOKEN.fullmatch(problem):
        if found.group(1) == r"\t":
            return line, "a tab stands here: YAML is indented and aligned with spaces"
        return line, f"a value cannot start with {found.group(1)}: put it in quotes"
    for start, sentence in _SENTENCES:
        if problem.startswith(start):
            return line, sentence
    problem = problem.replace(r"'\x00'", "the end of the file")
    return line, f"not valid YAML: {' '.join(problem.split())[:120]}"
