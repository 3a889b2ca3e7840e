"""The JSON Schema of ``llmdeploy.yaml``, for editors that complete and check while one types."""

from __future__ import annotations

import copy
from typing import Any

from pytest_llmdeploy.config.merging import OVERRIDABLE
from pytest_llmdeploy.config.models import SMOKE_KINDS, FileConfig

_VARIABLE = {
    "type": "string",
    "pattern": r"\$\{",
    "description": "A text with ${VARIABLE} or ${VARIABLE:-default}.",
}
_SUFFIX = "Override"
_REF = "#/$defs/"
# What stays on a node when its constraints move into an alternative.
_DEMANDS = ("required", "oneOf")
_LABELS = ("title", "description", "default")


def json_schema() -> dict[str, Any]:
    """Return a draft 2020-12 schema that accepts what the loader accepts, before variables.

    Each number, boolean, choice and patterned text may also be a text with a variable; the
    overrides of an environment take the keys of the base sections with nothing required.
    """
    schema = FileConfig.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    _accept_short_forms(definitions)
    listed = {"type": "array", "items": {"$ref": _REF + "NamedSuiteConfig"}}
    for name, definition in list(definitions.items()):
        definitions[name + _SUFFIX] = _override(definition, definitions)
    overrides = definitions["EnvironmentConfig"]["properties"]
    for section in OVERRIDABLE:
        described = _override_of(schema["properties"][section], definitions)
        described.pop("default", None)
        overrides[section] = described | {"description": overrides[section]["description"]}
    _also(schema["properties"]["gates"], listed)
    schema = _with_variables(schema)
    reachable = _reachable(schema)
    schema["$defs"] = {name: schema["$defs"][name] for name in sorted(reachable)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:pytest-llmdeploy:llmdeploy.yaml",
        **schema,
        "title": "llmdeploy.yaml",
    }


def _accept_short_forms(definitions: dict[str, Any]) -> None:
    """Add what the models' validators accept before they look at types."""
    cases = definitions["SuiteConfig"]["properties"]["cases"]
    _also(cases, {"type": "string"}, {"type": "object"})
    _also(definitions["EnvironmentConfig"]["properties"]["command"], {"type": "string"})
    suite = definitions["SuiteConfig"]
    suite["oneOf"] = [{"required": [key]} for key in ("cases", "promptfoo", "openai_evals")]
    names = {"type": "string", "description": "Name of the gate; left out: its suite's file."}
    definitions["NamedSuiteConfig"] = {
        **suite,
        "properties": {**suite["properties"], "name": names},
    }
    definitions["SmokeCheck"] = {
        "anyOf": [
            {"enum": list(SMOKE_KINDS), "description": "A check with its defaults."},
            definitions["SmokeCheck"],
        ]
    }


def _also(node: dict[str, Any], *alternatives: dict[str, Any]) -> None:
    constraints = {key: node.pop(key) for key in list(node) if key not in _LABELS}
    present = constraints["anyOf"] if set(constraints) == {"anyOf"} else [constraints]
    node["anyOf"] = [*present, *alternatives]


def _override(definition: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a section's definition with nothing required and no defaults, mappings deeply so.

    Lists replace the base's list as a whole, so what they hold stays complete.
    """
    result = {key: value for key, value in definition.items() if key not in _DEMANDS}
    if "properties" in result:
        result["properties"] = {
            key: {k: v for k, v in _override_of(value, definitions).items() if k != "default"}
            for key, value in result["properties"].items()
        }
    return result


def _override_of(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = dict(node)
    if "$ref" in node:
        node["$ref"] += _SUFFIX
    if "anyOf" in node:
        node["anyOf"] = [_override_of(one, definitions) for one in node["anyOf"]]
    if isinstance(node.get("additionalProperties"), dict):
        node["additionalProperties"] = _override_of(node["additionalProperties"], definitions)
    if "patternProperties" in node:
        node["patternProperties"] = {
            pattern: _override_of(one, definitions)
            for pattern, one in node["patternProperties"].items()
        }
    return node


def _with_variables(node: Any) -> Any:
    """Return a copy in which every value that is not free text may be a text with a variable."""
    if isinstance(node, list):
        return [_with_variables(item) for item in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key in {"properties", "$defs", "patternProperties"}:
            result[key] = {name: _with_variables(item) for name, item in value.items()}
        elif key in {"default", "propertyNames", "required", "enum", "examples"}:
            result[key] = copy.deepcopy(value)
        else:
            result[key] = _with_variables(value)
    if node.get("type") == "object" and "patternProperties" in node:
        result.setdefault("additionalProperties", False)
    constrained = node.get("type") == "string" and {"pattern", "maxLength"} & node.keys()
    if node.get("type") in {"number", "integer", "boolean"} or "enum" in node or constrained:
        _also(result, dict(_VARIABLE))
    return result


def _reachable(schema: dict[str, Any]) -> set[str]:
    found: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                visit(item)
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).removeprefix(_REF)
            if name and name not in found:
                found.add(name)
                visit(schema["$defs"][name])
            for key, value in node.items():
                if key not in {"$defs", "default"}:
                    visit(value)

    visit(schema)
    return found
