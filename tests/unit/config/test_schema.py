"""The JSON Schema against files that the loader takes and refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from pytest_llmdeploy.config.loader import load_config
from pytest_llmdeploy.config.models import FileConfig
from pytest_llmdeploy.config.schema import json_schema
from pytest_llmdeploy.config.sentences import PATTERNS
from pytest_llmdeploy.config.yaml_reader import read_yaml
from pytest_llmdeploy.errors import ConfigError

LOCAL = "environments: {local: {reference: {}}}\n"
GOOD = {
    "smallest": LOCAL,
    "address": "environments: {local: {url: http://127.0.0.1:8000}}\n",
    "command-as-text": "environments: {local: {command: 'serve --port {port}'}}\n",
    "command-as-list": "environments: {local: {command: [serve, '{port}']}}\n",
    "variables-anywhere": LOCAL
    + "service: {timeout: '${T:-3}', verify_tls: '${V:-true}', base_path: '${B:-/v1}'}\n"
    + "smoke: {checks: ['${K:-models}']}\npolicy: {inconclusive: '${P:-skip}'}\n",
    "smoke-short-and-long": LOCAL
    + "smoke: {checks: [models, {kind: http, request: {name: x, path: /x}}, {kind: stream}]}\n",
    "no-checks": LOCAL + "health: {checks: []}\nsmoke: {checks: []}\n",
    "cases-as-text": LOCAL + "gates: {x: {cases: x.csv}}\n",
    "cases-as-one-case": LOCAL + "gates: {x: {cases: {prompt: hi}}}\n",
    "cases-as-list": LOCAL + "gates: {x: {cases: [x.csv, {prompt: hi}], prompt: [{role: user}]}}\n",
    "everything-of-a-suite": LOCAL
    + "gates:\n  x:\n    cases: x.csv\n    prompt: {file: x.j2}\n    system: s\n"
    + "    assert: ['contains: x', {type: is-json}]\n    parameters: {temperature: 0}\n"
    + "    endpoint: {base_url: http://x/v1, model: m, api_key: '${K:-none}'}\n"
    + "    repeats: 2\n    min_pass_rate: 0.9\n    max_error_rate: 0\n    timeout: null\n",
    "gates-in-a-list": LOCAL
    + "gates: [{promptfoo: a/promptfooconfig.yaml}, {name: x, cases: x.csv, tags: {a: {}}}]\n",
    "an-imported-suite": LOCAL + "gates: {x: {openai_evals: {path: x.json, name: '${N:-y}'}}}\n",
    "overrides": "environments:\n  local:\n    reference: {engine: scripted, faults: [hang=1]}\n"
    + "    service: {timeout: 3}\n    health: {checks: [{name: x, path: /}]}\n"
    + "    smoke: {checks: [tls]}\n    policy: {inconclusive: skip}\n"
    + "    gates: {x: {repeats: '${R:-2}', endpoint: {model: other}}}\n"
    + "gates: {x: {cases: x.csv, endpoint: {base_url: http://x, model: m}}}\n",
    "load-of-any-kind": LOCAL
    + "load:\n  open: {rate: 5, max_tokens: [1, 64], compare: {url: 'http://x/llm'}}\n"
    + "  steps: {steps: [{rate: 2, to: 9.5, duration: 60}], arrivals: gamma, burstiness: 0.3}\n"
    + "  trace: {trace: x.jsonl, prompts: {file: x.txt}, compare: {baseline: records/x}}\n"
    + "  users: {users: 5, turns: 3, clients: {keep_alive: 0, long_stream: 2}}\n"
    + "  mine: {locustfile: x.py, find: null, good: null, min_rate: null}\n"
    + "  most: {find: max_rate, rate: 5, min_rate: 9, good: {ttft: 0.8, e2e: 9},\n"
    + "         objectives: [goodput >= 95%], parameters: {stop: [x]}}\n  bare: {}\n",
    "load-from-variables": LOCAL
    + "load: {x: {rate: '${R:-5}', max_tokens: '${M:-9}', timeouts: {total: '${T:-60}'}}}\n",
    "load-with-a-range-from-variables": LOCAL + "load: {x: {max_tokens: ['${M:-9}', 10]}}\n",
    "load-of-an-environment": "environments:\n  local:\n    reference: {}\n"
    + "    load_hosts: [llm.example]\n    load_limits: {requests: 9, tokens: 9, seconds: 9}\n"
    + "    load: {x: {rate: 7, timeouts: {idle: 3}, good: {e2e: 3}}}\n"
    + "load: {x: {rate: 5, good: {ttft: 1}}}\n",
    "http-check": LOCAL
    + "health: {checks: [{name: x, path: /x, method: POST, body: [1], json: {a.b: 1}}]}\n",
}
BAD = {
    "unknown-section": LOCAL + "gate: {}\n",
    "unknown-key": LOCAL + "service: {tymeout: 3}\n",
    "unknown-key-of-an-environment": "environments: {local: {reference: {}, ulr: x}}\n",
    "unknown-key-of-an-override": "environments: {local: {reference: {}, service: {nmae: x}}}\n",
    "unknown-key-of-an-overridden-suite": LOCAL[:-3]
    + ", gates: {x: {casse: y}}}}\ngates: {x: {cases: x.csv}}\n",
    "unknown-key-of-a-check": LOCAL + "health: {checks: [{name: x, path: /, stauts: 1}]}\n",
    "unknown-smoke-check": LOCAL + "smoke: {checks: [modles]}\n",
    "incomplete-check-of-an-override": "environments:\n  local:\n    reference: {}\n"
    + "    health: {checks: [{name: x}]}\n",
    "no-cases": LOCAL + "gates: {x: {}}\n",
    "two-sources": LOCAL + "gates: {x: {cases: x.csv, promptfoo: y.yaml}}\n",
    "no-environments": "service: {}\n",
    "bad-name": "environments: {'a b': {reference: {}}}\n",
    "bad-address": "environments: {local: {url: 'ftp://x'}}\n",
    "number-too-large": LOCAL + "gates: {x: {cases: x.csv, min_pass_rate: 95}}\n",
    "text-for-a-number": LOCAL + "service: {timeout: soon}\n",
    "unknown-key-of-a-load-run": LOCAL + "load: {x: {raet: 5}}\n",
    "unknown-client": LOCAL + "load: {x: {clients: {keepalive: 5}}}\n",
    "unknown-key-of-an-overridden-load-run": LOCAL[:-3] + ", load: {x: {raet: 5}}}}\n",
    "incomplete-step": LOCAL + "load: {x: {steps: [{rate: 5}]}}\n",
    "incomplete-limits": LOCAL[:-3] + ", load_limits: {requests: 5}}}\n",
    "unknown-arrivals": LOCAL + "load: {x: {arrivals: uniform}}\n",
    "no-rate": LOCAL + "load: {x: {rate: 0}}\n",
    "true-for-a-rate": LOCAL + "load: {x: {rate: true}}\n",
    "one-objective-without-a-list": LOCAL + "load: {x: {objectives: error_rate <= 1%}}\n",
    "text-for-tokens": LOCAL + "load: {x: {max_tokens: many}}\n",
    "no-percent-for-a-share": LOCAL + "load: {x: {streamed: 50}}\n",
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def read(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "llmdeploy.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", GOOD)
def test_loader_and_schema_take_good_files(
    tmp_path: Path, validator: jsonschema.Draft202012Validator, name: str
) -> None:
    file = read(tmp_path, GOOD[name])
    load_config(file, "local", {})
    validator.validate(read_yaml(file, 10_000).data)


@pytest.mark.parametrize("name", BAD)
def test_loader_and_schema_refuse_bad_files(
    tmp_path: Path, validator: jsonschema.Draft202012Validator, name: str
) -> None:
    file = read(tmp_path, BAD[name])
    with pytest.raises(ConfigError):
        load_config(file, "local", {})
    assert not validator.is_valid(read_yaml(file, 10_000).data)


def test_it_names_itself_and_describes_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == "urn:pytest-llmdeploy:llmdeploy.yaml"
    assert schema["title"] == "llmdeploy.yaml"
    sections = [schema, *schema["$defs"].values()]
    sections = [section["anyOf"][1] if "anyOf" in section else section for section in sections]
    bare = [
        f"{section.get('title')}.{key}"
        for section in sections
        for key, node in section["properties"].items()
        # pydantic leaves out what the section that is referred to says word for word.
        if not (node | schema["$defs"].get(node.get("$ref", "").split("/")[-1], {})).get(
            "description"
        )
    ]
    assert bare == []


def test_every_pattern_of_the_models_has_words() -> None:
    found: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("pattern"), str):
                found.add(node["pattern"])
            found.update(node.get("patternProperties", {}))
        for item in node.values() if isinstance(node, dict) else node:
            if isinstance(item, dict | list):
                visit(item)

    visit(FileConfig.model_json_schema())
    assert found == set(PATTERNS)
    assert all(re.compile(pattern) for pattern in found)
