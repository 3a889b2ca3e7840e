"""Prompts that a function of the project makes, Python or JavaScript, where code may run."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates import javascript
from pytest_llmdeploy.gates.assertions import NotEvaluable
from pytest_llmdeploy.gates.promptfoo.js_values import UNDEFINED, parse_json, stringify
from pytest_llmdeploy.gates.promptfoo.paths import is_javascript, read
from pytest_llmdeploy.gates.promptfoo.prompts import Prompt
from pytest_llmdeploy.gates.promptfoo.providers import Provider
from pytest_llmdeploy.gates.promptfoo.variables import NotSupportedError
from pytest_llmdeploy.untrusted import one_line


def made(code: str, prompt: Prompt, variables: Mapping[str, Any], provider: Provider) -> str:
    """Return the prompt that ``path:function`` makes of the variables.

    Runs it, when the config is read: as conftest files do. Raises NotSupportedError.
    """
    path, _, name = code.rpartition(":")
    context = {
        "vars": dict(variables),
        "provider": {"id": provider.id, "label": provider.label},
        "config": dict(prompt.config),
    }
    try:
        if is_javascript(path):
            given = {"context": parse_json(stringify(context))}
            result = javascript.evaluate(
                read(Path(path)), given, form="module", function=name or None
            )
            result = UNDEFINED if result is javascript.UNDEFINED else result
        else:
            result = _function(Path(path), name)(context)
    except (NotEvaluable, MissingExtraError, javascript.JavaScriptError) as error:
        raise NotSupportedError(f"the prompt function {Path(path).name}: {error}") from error
    except Exception as error:
        raise NotSupportedError(
            f"the prompt function {Path(path).name}:{name} raised {type(error).__name__}: "
            f"{one_line(str(error))}"
        ) from error
    if isinstance(result, Mapping) and "prompt" in result:
        result = result["prompt"]
    return result if isinstance(result, str) else stringify(result)


def _function(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"llmdeploy_promptfoo_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)
