"""Code that a config names or holds: run only where the user allows it, and never in this process.

It runs in a process of its own, which ends at a deadline; values go in and out as JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import ConfigError, MissingExtraError
from pytest_llmdeploy.gates import javascript
from pytest_llmdeploy.gates.assertions import NotEvaluable
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, parse_json, stringify
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, is_javascript, read, resolve
from pytest_llmdeploy.gates.promptfoo.row import Row
from pytest_llmdeploy.ports import Answer
from pytest_llmdeploy.untrusted import one_line

DEADLINE = 20.0
"""Seconds that one call of Python may take."""
MOST_RETURNED = 10_000_000
"""Characters that it may return."""
_ALLOW = "set allow_code: true for the gate to let the config's code run"
_INDENTED = re.compile(r"^(?!\s*$)\s+", re.MULTILINE)
_RUNNER = """
import asyncio, importlib.util, inspect, json, os, sys
path, name, given, taken = sys.argv[1:]
sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
spec = importlib.util.spec_from_file_location(os.path.basename(path).rsplit(".", 1)[0], path)
module = importlib.util.module_from_spec(spec)
try:
    spec.loader.exec_module(module)
    function = module
    for part in name.split("."):
        function = getattr(function, part)
    with open(given, encoding="utf-8") as stream:
        arguments = json.load(stream)
    result = function(*arguments)
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    told = json.dumps({"returned": result}, ensure_ascii=False)
except BaseException as error:
    told = json.dumps({"raised": f"{type(error).__name__}: {error}"})
with open(taken, "w", encoding="utf-8") as stream:
    stream.write(told)
"""


class RaisedError(Exception):
    """The code itself raised an error, which makes an assertion fail there."""


def refuse_unless_allowed(kind: str, row: Row) -> None:
    """Raise NotEvaluable where the user did not allow code to run."""
    if not row.allow_code:
        raise NotEvaluable(f"{kind}: {_ALLOW}")


def run_file(  # noqa: PLR0917
    name: str,
    function: str | None,
    written: Mapping[str, Any],
    output: Any,
    row: Row,
    answer: Answer,
) -> Any:
    """Return what a file's function returned for the output, or the RaisedError that it raised.

    Raises NotEvaluable.
    """
    kind = str(written["type"])
    refuse_unless_allowed(kind, row)
    context = context_of(written, row, answer)
    if is_javascript(name):
        given = {"output": output, "context": context}
        try:
            return javascript_file(kind, name, function, given, row)
        except RaisedError as error:  # there, too, what a file throws is an error of the row
            raise NotEvaluable(f"{kind}: {error}") from error
    try:
        return python_file(kind, name, function or "get_assert", [output, context], row)
    except RaisedError as error:
        return error


def javascript_file(
    kind: str,
    name: str,
    function: str | None,
    arguments: Mapping[str, Any],
    row: Row,
    *,
    lenient: bool = False,
) -> Any:
    """Return what a file's function returned, or UNDEFINED; raise RaisedError or NotEvaluable."""
    try:
        path = resolve(name, row.base, row.root)
        source = read(path)
    except (BadPathError, ConfigError) as error:
        raise NotEvaluable(f"{kind}: {error}") from error
    if path.suffix.endswith("ts"):
        raise NotEvaluable(f"{kind}: {path.name} is TypeScript: compile it to JavaScript first")
    return _javascript(kind, source, arguments, form="module", function=function, lenient=lenient)


def javascript_text(kind: str, body: str, arguments: Mapping[str, Any]) -> Any:
    """Return what a function's body returned, or UNDEFINED; raise RaisedError or NotEvaluable."""
    return _javascript(kind, body, arguments, form="body")


def _javascript(kind: str, source: str, arguments: Mapping[str, Any], **how: Any) -> Any:
    try:
        given = json.loads(stringify(dict(arguments)))
        returned = javascript.evaluate(source, given, **how)
    except javascript.JavaScriptError as error:
        raise RaisedError(str(error)) from error
    except (NotEvaluable, MissingExtraError, ValueError) as error:
        raise NotEvaluable(f"{kind}: {error}") from error
    return UNDEFINED if returned is javascript.UNDEFINED else returned


def python_file(kind: str, name: str, function: str, arguments: list[Any], row: Row) -> Any:
    """Return what a function of a file returned; raise RaisedError or NotEvaluable."""
    try:
        path = resolve(name, row.base, row.root)
    except (BadPathError, ConfigError) as error:
        raise NotEvaluable(f"{kind}: {error}") from error
    return _python(kind, path, function, arguments, row)


def python_text(kind: str, text: str, arguments: list[Any], row: Row) -> Any:
    """Return what an expression, or the body of a function, returned."""
    if "\n" in text:
        found = _INDENTED.search(text)
        indent = found[0] if found else "    "
        body = "\n".join(f"{indent}{line}" for line in text.split("\n"))
    else:
        body = f"    return {text}"
    with tempfile.TemporaryDirectory(prefix="llmdeploy-") as folder:
        path = Path(folder) / "assertion.py"
        path.write_text(f"import json\n\n\ndef main(output, context):\n{body}\n", "utf-8")
        return _python(kind, path, "main", arguments, row)


def _python(kind: str, path: Path, function: str, arguments: list[Any], row: Row) -> Any:
    with tempfile.TemporaryDirectory(prefix="llmdeploy-") as folder:
        given, taken = Path(folder) / "given.json", Path(folder) / "taken.json"
        given.write_text(stringify(arguments), "utf-8", "replace")
        program = [sys.executable, "-c", _RUNNER, str(path), function, str(given), str(taken)]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        try:
            done = subprocess.run(
                program,
                cwd=row.base,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=DEADLINE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NotEvaluable(f"{kind}: its code took longer than {DEADLINE:g} s") from error
        if not taken.exists():
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise NotEvaluable(f"{kind}: its code ended without an answer: {' '.join(last)}")
        with taken.open(encoding="utf-8") as stream:
            text = stream.read(MOST_RETURNED + 1)
    if len(text) > MOST_RETURNED:
        raise NotEvaluable(f"{kind}: its code returned more than {MOST_RETURNED} characters")
    try:
        told = parse_json(text)
    except ValueError as error:
        raise RaisedError(f"what it returned is no JSON: {error}") from error
    if "raised" in told:
        raise RaisedError(one_line(str(told["raised"])))
    return told["returned"]


def context_of(written: Mapping[str, Any], row: Row, answer: Answer) -> dict[str, Any]:
    """Return what an assertion's code sees beside the output."""
    response = {"output": answer.text, "cached": answer.replayed, **answer.extra}
    context: dict[str, Any] = {
        "prompt": row.prompt.rendered,
        "vars": dict(row.vars),
        "test": dict(row.test),
        "logProbs": UNDEFINED if answer.logprobs is None else list(answer.logprobs),
        "provider": {"label": row.provider.label, "config": dict(row.provider.config)},
        "providerResponse": response,
    }
    if written.get("config"):
        context["config"] = written["config"]
    return json_safe(context)


def json_safe(value: dict[str, Any]) -> dict[str, Any]:
    """Return the value as JSON has it."""
    read: dict[str, Any] = json.loads(stringify(value))
    return read
