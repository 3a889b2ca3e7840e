"""What a provider said, as the value that its transforms and the test's make of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates import javascript
from pytest_llmdeploy.gates.assertions import NotEvaluable
from pytest_llmdeploy.gates.promptfoo import code
from pytest_llmdeploy.gates.promptfoo.config_file import Config
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, parse_json
from pytest_llmdeploy.gates.promptfoo.paths import is_javascript, without_function
from pytest_llmdeploy.gates.promptfoo.row import Row, RowPrompt, RowProvider
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


def made_variables(
    written: Any, variables: Mapping[str, Any], config: Config, allow_code: bool
) -> Mapping[str, Any]:
    """Return the variables that ``transformVars`` makes of a test's; raise NotEvaluable."""
    place = Row(
        id="",
        description="",
        vars=variables,
        asserts=(),
        threshold=None,
        options={},
        provider=RowProvider("", ""),
        prompt=RowPrompt("", "", ""),
        test={},
        base=config.files.base,
        root=config.files.root,
        allow_code=allow_code,
    )
    if reason := _refused(written, place):
        raise NotEvaluable(reason.removeprefix(f"{KIND}: "))
    made = _changed(
        written, {"vars": code.json_safe(dict(variables)), "context": {"prompt": {}}}, place
    )
    if not isinstance(made, Mapping):
        raise NotEvaluable("its code must return an object of variables")
    return made


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
    python = written.startswith("file://") and path.endswith(".py")
    if written.startswith("file://") and not python and not is_javascript(path):
        return f"{KIND}: {path} must be a .py or .js file"
    try:
        code.refuse_unless_allowed(KIND, row)
        if not python:
            javascript.check_installed()
    except NotEvaluable as error:
        return str(error)
    except MissingExtraError as error:
        return f"{KIND}: {error}"
    return None


def _applied(written: Any, output: Any, row: Row) -> Any:
    if reason := _refused(written, row):
        raise NotEvaluable(reason)
    context = code.json_safe(
        {
            "vars": dict(row.vars),
            "prompt": {"raw": row.prompt.rendered, "label": row.prompt.label},
        }
    )
    return _changed(written, {"output": output, "context": context}, row)


def _changed(written: str, arguments: Mapping[str, Any], row: Row) -> Any:
    path, function = without_function(written.removeprefix("file://"))
    try:
        if not written.startswith("file://"):
            body = written if "\n" in written else f"return {written}"
            value = code.javascript_text(KIND, body, arguments)
        elif is_javascript(path):
            value = code.javascript_file(KIND, path, function, arguments, row, lenient=True)
        else:
            given = list(arguments.values())
            value = code.python_file(KIND, path, function or "get_transform", given, row)
    except code.RaisedError as error:
        raise NotEvaluable(f"{KIND}: its code raised {error}") from error
    if value is None or value is UNDEFINED:
        raise NotEvaluable(f"{KIND}: its code returned nothing")
    return value
