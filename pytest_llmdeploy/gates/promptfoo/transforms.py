"""What a provider said, as the value that its transforms and the test's make of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.gates.assertions import NotEvaluable
from pytest_llmdeploy.gates.promptfoo import code
from pytest_llmdeploy.gates.promptfoo.js_values import parse_json
from pytest_llmdeploy.gates.promptfoo.paths import without_function
from pytest_llmdeploy.gates.promptfoo.row import Row
from pytest_llmdeploy.ports import Answer

KIND = "transform"


def of_row(row: Row, answer: Answer) -> Any:
    """Return the answer after the provider's and the test's transform; raise NotEvaluable."""
    output = said(row, answer)
    for written in _written(row):
        output = _applied(written, output, row)
    return output


def of_assertion(written: Any, output: Any, row: Row, answer: Answer) -> Any:  # noqa: ARG001
    """Return what an assertion's own transform makes of the output; raise NotEvaluable."""
    return _applied(written, output, row)


def unsupported(row: Row) -> str | None:
    """Return why a transform of the row cannot be run; None where all can."""
    own = [one.get("transform") for one in row.asserts]
    for written in [*_written(row), *(one for one in own if one)]:
        if reason := _refused(written, row):
            return reason
    return None


def said(row: Row, answer: Answer) -> Any:
    """Return what promptfoo's provider would have said: text, tool calls, or the whole message."""
    canned = row.test.get("providerOutput")
    if canned and not isinstance(canned, str):
        return parse_json(answer.text)
    calls = answer.extra.get("function_call") or answer.extra.get("tool_calls")
    if calls and not answer.extra.get("reasoning"):
        if not answer.text:
            return calls
        return {"role": "assistant", "content": answer.text, **answer.extra}
    config: Mapping[str, Any] = {**row.provider.config, **row.prompt.config}
    wanted = config.get("response_format")
    if not canned and isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
        try:
            return parse_json(answer.text)
        except ValueError:
            pass
    return answer.text


def _written(row: Row) -> list[Any]:
    test = row.options.get("transform") or row.options.get("postprocess")
    return [one for one in (row.provider.transform, test) if one]


def _refused(written: Any, row: Row) -> str | None:
    if not isinstance(written, str):
        return f"{KIND}: it must be text"
    path, _ = without_function(written.removeprefix("file://"))
    if not (written.startswith("file://") and path.endswith(".py")):
        return f"{KIND}: {code.JAVASCRIPT}"
    try:
        code.refuse_unless_allowed(KIND, row)
    except NotEvaluable as error:
        return str(error)
    return None


def _applied(written: Any, output: Any, row: Row) -> Any:
    if reason := _refused(written, row):
        raise NotEvaluable(reason)
    path, function = without_function(written.removeprefix("file://"))
    context = code.json_safe(
        {
            "vars": dict(row.vars),
            "prompt": {"raw": row.prompt.rendered, "label": row.prompt.label},
        }
    )
    try:
        value = code.python_file(KIND, path, function or "get_transform", [output, context], row)
    except code.RaisedError as error:
        raise NotEvaluable(f"{KIND}: its code raised {error}") from error
    if value is None:
        raise NotEvaluable(f"{KIND}: its code returned nothing")
    return value
