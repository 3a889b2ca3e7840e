"""The text of a first llmdeploy.yaml: small, commented, good for ``pytest -m gates``."""

from __future__ import annotations

import json

from pytest_llmdeploy.commands.probing import HEALTH_PATHS, Address, Probe

_GATES = """\
# Quality gates: each case is one question, one test, and what its answer must show. The
# assertions are tolerant, so that any chat model passes: replace them with what your users need.
gates:
  basics:
    # Temperature 0 gives the same answer each time, as far as the service can.
    parameters: {temperature: 0, max_tokens: 64}
    # Share of the cases that must pass: 1.0 is all of them.
    min_pass_rate: 1.0
    cases:
      - id: arithmetic
        prompt: What is 2 + 2? Answer with the number only.
        # A regular expression that must be found; \\b keeps 14 or 42 from counting as 4.
        assert: ['regex: (?i)\\b(4|four)\\b']
      - id: capital-of-france
        prompt: Which city is the capital of France?
        # icontains takes no notice of small and capital letters.
        assert: ['icontains: Paris']
      - id: json-answer
        prompt: 'Answer with this JSON object and nothing else: {"status": "ok"}'
        # Text around the object is let pass here; the assertion is-json would not.
        assert: ['regex: "status"\\s*:\\s*"ok"']

# Load: arrivals that do not wait for answers, and what must hold under them (pytest -m load).
# load:
#   steady:
#     rate: 3                  # requests per second
#     duration: 60             # 180 requests: enough for an error rate of 2 %
#     max_tokens: 64
#     objectives: [ttft_p95 <= 1 s, error_rate <= 2%]
"""
_HEAD = """\
# What a release of this service must show, as a pytest run:
#   pytest -m gates             asks the questions below
#   pytest -m "health or smoke" asks whether it is up and speaks the API
# A value may hold ${VARIABLE} or ${VARIABLE:-default}.
"""


def reference_starter() -> str:
    """Return a file that starts the reference service, for trying things out."""
    service = "service:\n  # Response header that names the version which answered.\n"
    service += "  version_header: x-llm-version\n"
    environment = """\
environments:
  # pytest uses 'local' unless --env names another one.
  local:
    # The LLM service that comes with this package: a small real model on this machine.
    reference: {engine: smollm2}
  # staging:
  #   url: https://staging.example
"""
    return "\n".join((_HEAD, service, environment, _GATES))


def command_starter(command: str) -> str:
    """Return a file that starts a service with a command of the user's."""
    service = "service:\n  name: llm-service\n"
    service += "  # Model name sent with each request; default: the first one listed.\n"
    service += "  # model: my-model\n" + _key_lines(needed=False)
    environment = f"""\
environments:
  # pytest uses 'local' unless --env names another one.
  local:
    # Starts the service on this machine; {{port}} is replaced by a free port.
    command: {_quoted(command)}
    # Answers 200 once the service can serve.
    ready_path: /ready
    ready_timeout: 60
"""
    return "\n".join((_HEAD, f"{service}\n{environment}", _GATES))


def url_starter(address: Address, found: Probe) -> str:
    """Return a file for a service that answers at an address already."""
    lines = ["service:", f"  base_path: {_quoted(address.base_path)}"]
    if found.model is not None:
        lines.append(f"  model: {_quoted(found.model)}")
    else:
        lines.append("  # Model name sent with each request; default: the first one listed.")
        lines.append("  # model: my-model")
    if found.version_header is not None:
        lines.append("  # Response header that names the version which answered.")
        lines.append(f"  version_header: {_quoted(found.version_header)}")
    service = "\n".join(lines) + "\n" + _key_lines(needed=found.needs_key)
    environment = f"""\
environments:
  # pytest uses 'local' unless --env names another one.
  local:
    # The service answers here already, so nothing is started.
    url: {_quoted(address.url)}
"""
    return "\n".join((_HEAD, service, environment, _health(found), _GATES))


def _key_lines(*, needed: bool) -> str:
    comment = "  # Bearer token, from the environment: a key must not stand in this file.\n"
    return f"{comment}  {'' if needed else '# '}api_key: ${{LLM_API_KEY}}\n"


def _health(found: Probe) -> str:
    if found.unreachable is not None:
        return "# health: left out, so GET /health and GET /ready must answer 200.\n"
    if not found.health_paths:
        return (
            "health:\n"
            f"  # None of {' and '.join(HEALTH_PATHS)} answered 200 when this file was written.\n"
            "  checks: []\n"
        )
    checks = [f"    - {{name: {path[1:]}, path: {path}}}\n" for path in found.health_paths]
    return "health:\n  checks:\n" + "".join(checks)


def _quoted(text: str) -> str:
    """Return a YAML text that the loader reads as exactly `text`, dollar signs included."""
    return json.dumps(text.replace("$", "$$"), ensure_ascii=False)
