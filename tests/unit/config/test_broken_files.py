"""What a user reads when llmdeploy.yaml is wrong: the whole message, each time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.errors import ConfigError

LOCAL = "environments: {local: {reference: {}}}\n"
VARIABLES = {"SPEED": "fastest", "KEY": "two\nlines", "KIND": "secret-kind"}

BOMB = (
    "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n"
        for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + LOCAL
)
NAME_RULE = "a name of letters, digits, '_', '.' and '-' that starts with a letter or digit"
SECTION_KEYS = (
    "name, model, base_path, api_key, headers, version_header, timeout, verify_tls, ca_file"
)
NEEDS_ADDRESS = (
    "give the service's address (url:), a command that starts it (command:) "
    "or the reference service (reference: {})"
)
TOP_KEYS = "expected keys such as service:, environments: and gates: at the top"
MALFORMED = (
    "malformed '${': write ${NAME} or ${NAME:-default without braces}, "
    "and $${ for the characters themselves"
)
NO_VARIABLE = "must not come from a variable: it shows in every report"
NO_LITERAL_KEY = "write ${VARIABLE}: a key must not stand in the file"

# Each message is what follows "llmdeploy.yaml" on its line.
BROKEN: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", [": the file is empty"]),
    "only-comments": ("# service:\n\n", [": the file is empty"]),
    "only-a-document-mark": ("---\n", [f":1: {TOP_KEYS}"]),
    "list-at-the-top": ("- service\n", [f":1: {TOP_KEYS}"]),
    "not-utf8": (
        b"service:\n  name: caf\xe9\n",
        [":2: not UTF-8: byte 0xe9 at position 12 of the line"],
    ),
    "utf16": (LOCAL.encode("utf-16"), [":1: not UTF-8: byte 0xff at position 1 of the line"]),
    "nul": ("service:\n  name: a\0b\n", [":2: the control character U+0000 cannot stand here"]),
    "escaped-nul": (
        LOCAL + 'service: {model: "\\0"}\n',
        [":2: service.model: an escape stands for NUL or half a character"],
    ),
    "half-a-character": (
        LOCAL + 'service: {model: "\\uD83D"}\n',
        [":2: service.model: an escape stands for NUL or half a character"],
    ),
    "no-such-character": (
        LOCAL + 'service: {model: "\\UFFFFFFFF"}\n',
        [":2: the YAML holds a character that does not exist"],
    ),
    "tab": (
        "service:\n\tname: x\n",
        [":2: a tab stands here: YAML is indented and aligned with spaces"],
    ),
    "colon-in-a-value": (
        "service:\n  name: a: b\n",
        [":2: a ':' where none can stand: put a text with ': ' in quotes, or mend the indentation"],
    ),
    "open-quote": (
        LOCAL + "service:\n  model: 'x\n",
        [":3: a quote is opened here and never closed"],
    ),
    "open-bracket": (
        LOCAL + "service: {model: x\n",
        [":2: a '[' or '{' is opened and never closed"],
    ),
    "bracket-never-opened": (
        "service: ]\n",
        [":1: a value is missing, or a bracket was never opened"],
    ),
    "comma-missing": (
        LOCAL + "service: {headers: {a: 'b' 'c'}}\n",
        [":2: a ',' or a closing bracket is missing"],
    ),
    "indentation": (
        LOCAL + "service:\n    name: x\n   model: y\n",
        [":4: this does not fit the lines above: check indentation and quotes"],
    ),
    "list-behind-a-key": (
        LOCAL + "gates: - x\n",
        [":2: a list starts on its own line, not behind 'key:'"],
    ),
    "unquoted-at-sign": (
        LOCAL + "service: {model: @x}\n",
        [":2: a value cannot start with @: put it in quotes"],
    ),
    "unknown-escape": (
        LOCAL + 'service: {model: "\\d"}\n',
        [r":2: an unknown escape in double quotes: write \\, or use single quotes"],
    ),
    "nameless-anchor": (
        LOCAL + "service: &",
        [
            ":2: not valid YAML: expected alphabetic or numeric character, "
            "but found the end of the file"
        ],
    ),
    "duplicate-key": (
        LOCAL + "service:\n  name: a\n  timeout: 3\n  name: b\n",
        [":5: service: duplicate key 'name', first given on line 3"],
    ),
    "duplicate-sections": (
        LOCAL + "policy: {}\n" + LOCAL,
        [":3: duplicate key 'environments', first given on line 1"],
    ),
    "duplicate-empty-keys": (
        LOCAL + "'': 1\nx: 2\n'': 3\n",
        [":4: duplicate key '', first given on line 2"],
    ),
    "two-documents": (
        LOCAL + "---\n" + LOCAL,
        [":2: a second document starts here: the file may hold only one"],
    ),
    "number-as-key": (
        "environments:\n  2024: {reference: {}}\n",
        [":2: environments: a key must be text: put 2024 in quotes"],
    ),
    "mapping-as-key": (LOCAL + "? {a: b}\n: c\n", [":2: a key must be text"]),
    "merge-key": (
        "x: &x {reference: {}}\nenvironments:\n  local:\n    <<: *x\n",
        [":4: environments.local: merge keys (<<) are not supported: write the keys out"],
    ),
    "python-tag": (
        LOCAL + "service: !!python/object/apply:os.system [ls]\n",
        [
            ":2: service: unknown tag !!python/object/apply:os.system: "
            "only plain data can stand here"
        ],
    ),
    "own-tag-on-a-text": (
        LOCAL + "service: {model: !env KEY}\n",
        [":2: service.model: unknown tag !env: only plain data can stand here"],
    ),
    "wrong-core-tag": (
        LOCAL + "service: {timeout: !!int soon}\n",
        [":2: service.timeout: 'soon' does not fit its tag !!int"],
    ),
    "unknown-alias": (
        LOCAL + "service: *s\n",
        [":2: service: unknown alias *s: no such anchor stands above"],
    ),
    "recursive-alias": (
        LOCAL + "gates: &g {capitals: *g}\n",
        [":2: gates.capitals: the alias *g stands inside its own anchor"],
    ),
    "yaml-bomb": (BOMB, [":5: e[7]: the aliases expand to more than 100000 values"]),
    "brackets-without-end": ("[" * 100_000, [":1: nested deeper than 100 levels"]),
    "dashes-without-end": ("- " * 100_000, [":1: nested deeper than 100 levels"]),
    "ten-megabytes": ("# padding\n" * 1_000_000, [": the file is larger than 1 MiB"]),
    "endless-number": (
        LOCAL + f"service: {{timeout: {'9' * 5000}}}\n",
        [":2: service.timeout: a number of 5000 digits"],
    ),
    "no-environments": ("service: {}\n", [": 'environments' is missing"]),
    "environments-empty": (
        "environments:\n",
        [":1: environments: expected a mapping, got nothing"],
    ),
    "environments-none-inside": (
        "environments: {}\n",
        [":1: environments: needs at least one entry"],
    ),
    "environment-empty": (
        "environments:\n  local:\n",
        [":2: environments.local: expected a mapping, got nothing"],
    ),
    "environment-without-a-service": (
        "environments:\n  local: {}\n",
        [f":2: environments.local: {NEEDS_ADDRESS}"],
    ),
    "environment-with-two": (
        "environments:\n  local: {reference: {}, url: http://x}\n",
        [":2: environments.local: give one of url, command and reference, not url and reference"],
    ),
    "environment-name": (
        "environments:\n  local: {reference: {}}\n  a b: {reference: {}}\n",
        [f":3: environments.a b: expected {NAME_RULE}, got 'a b'"],
    ),
    "command-elsewhere": (
        "environments:\n  local: {platform: kind, command: serve}\n",
        [":2: environments.local: command starts a process here: it needs platform: local"],
    ),
    "command-quotes": (
        "environments:\n  local:\n    command: serve 'x\n",
        [":3: environments.local.command: No closing quotation"],
    ),
    "protected-without-context": (
        "environments:\n  local: {reference: {}}\n"
        "  prod: {platform: kubernetes, protected: true}\n",
        [":3: environments.prod: a protected cluster needs context: the kubeconfig context's name"],
    ),
    "unknown-key-near": (
        LOCAL + "service:\n  tymeout: 3\n",
        [":3: service.tymeout: unknown key 'tymeout', did you mean 'timeout'?"],
    ),
    "unknown-key-far": (
        LOCAL + "service:\n  zzz: 3\n",
        [f":3: service.zzz: unknown key 'zzz', expected one of: {SECTION_KEYS}"],
    ),
    "unknown-section": (
        LOCAL + "gate: {}\n",
        [":2: gate: unknown key 'gate', did you mean 'gates'?"],
    ),
    "unknown-key-in-a-list": (
        LOCAL + "health:\n  checks:\n    - name: x\n      path: /\n      stauts: 3\n",
        [":6: health.checks[0].stauts: unknown key 'stauts', did you mean 'status'?"],
    ),
    "unknown-key-of-an-endpoint": (
        LOCAL + "gates: {x: {cases: x.csv, endpoint: {base_url: http://x, model: m, zz: 1}}}\n",
        [
            ":2: gates.x.endpoint.zz: unknown key 'zz', expected one of: "
            "base_url, model, api_key, headers"
        ],
    ),
    "text-for-a-number": (
        LOCAL + "service:\n  timeout: abc\n",
        [":3: service.timeout: expected a number, got 'abc'"],
    ),
    "true-for-a-number": (
        LOCAL + "service:\n  timeout: true\n",
        [":3: service.timeout: expected a number, got true"],
    ),
    "true-for-a-whole-number": (
        LOCAL + "gates: {x: {cases: x.csv, repeats: true}}\n",
        [":2: gates.x.repeats: expected a whole number, got true"],
    ),
    "fraction-for-a-whole-number": (
        LOCAL + "gates: {x: {cases: x.csv, repeats: 1.5}}\n",
        [":2: gates.x.repeats: expected a whole number, got 1.5"],
    ),
    "infinite": (
        LOCAL + "service: {timeout: .inf}\n",
        [":2: service.timeout: expected a finite number, got inf"],
    ),
    "number-for-a-text": (
        LOCAL + "service: {model: 1.0}\n",
        [":2: service.model: expected text, got 1.0: put it in quotes"],
    ),
    "no-boolean": (
        LOCAL + "service: {verify_tls: maybe}\n",
        [":2: service.verify_tls: expected true or false, got 'maybe'"],
    ),
    "too-small": (
        LOCAL + "service: {timeout: 0}\n",
        [":2: service.timeout: must be greater than 0, got 0"],
    ),
    "too-large": (
        LOCAL + "gates: {x: {cases: x.csv, min_pass_rate: 95}}\n",
        [":2: gates.x.min_pass_rate: must be at most 1, got 95"],
    ),
    "too-few": (
        LOCAL + "gates: {x: {cases: x.csv, repeats: 0}}\n",
        [":2: gates.x.repeats: must be at least 1, got 0"],
    ),
    "too-long": (
        LOCAL + f"service: {{name: {'x' * 65}}}\n",
        [":2: service.name: must have at most 64 characters, got 65"],
    ),
    "pattern": (
        LOCAL + "service: {base_path: v1}\n",
        [
            ":2: service.base_path: expected a path that starts with '/' "
            "and does not end with one, such as /v1, got 'v1'"
        ],
    ),
    "choice-near": (
        "environments:\n  local:\n    reference: {engine: smollm}\n",
        [
            ":3: environments.local.reference.engine: 'smollm' is not one of: "
            "smollm2, scripted, did you mean 'smollm2'?"
        ],
    ),
    "choice-far": (
        LOCAL + "policy: {inconclusive: 5}\n",
        [":2: policy.inconclusive: 5 is not one of: fail, skip"],
    ),
    "bare-smoke-check": (
        LOCAL + "smoke:\n  checks: [models, strem]\n",
        [
            ":3: smoke.checks[1]: 'strem' is not one of: models, completion, stream, "
            "bad-request, version-header, tls, http, did you mean 'stream'?"
        ],
    ),
    "smoke-http": (
        LOCAL + "smoke: {checks: [http]}\n",
        [":2: smoke.checks[0]: 'request' belongs to kind: http, and kind: http needs it"],
    ),
    "same-name-twice": (
        LOCAL + "smoke: {checks: [models, models]}\n",
        [":2: smoke: two checks are named 'models': a name is a test's name"],
    ),
    "list-for-a-mapping": (
        LOCAL + "gates: [x]\n",
        [":2: gates: gate 1 of the list: expected a mapping, got 'x'"],
    ),
    "mapping-for-a-list": (
        LOCAL + "health: {checks: {}}\n",
        [":2: health.checks: expected a list, got a mapping"],
    ),
    "no-cases": (
        LOCAL + "gates:\n  x: {}\n",
        [":3: gates.x: give one of cases, promptfoo and openai_evals"],
    ),
    "two-sources": (
        LOCAL + "gates:\n  x: {cases: x.csv, promptfoo: x.yaml}\n",
        [
            ":3: gates.x: give one of cases, promptfoo and openai_evals, not cases and promptfoo",
        ],
    ),
    "gates-of-one-name": (
        LOCAL + "gates:\n- promptfoo: a/promptfooconfig.yaml\n- {name: a, cases: x.csv}\n",
        [":2: gates: two gates are named 'a': give one a name: of its own"],
    ),
    "wrong-in-a-list-of-gates": (
        LOCAL + "gates:\n- promptfoo: a/suite.yaml\n  min_pass_rate: 2\n",
        [":4: gates.suite.min_pass_rate: must be at most 1, got 2"],
    ),
    "even-votes": (
        LOCAL + "gates:\n  x: {cases: x.csv, judge: {votes: 2}}\n",
        [":3: gates.x.judge: votes: 2 can end in a tie; take an odd number"],
    ),
    "more-than-asked": (
        LOCAL + "gates:\n  x: {cases: x.csv, k_of_n: 2}\n",
        [":3: gates.x: k_of_n: 2 of 1 answers can never pass"],
    ),
    "empty-cases": (
        LOCAL + "gates:\n  x: {cases: []}\n",
        [":3: gates.x.cases: needs at least one entry"],
    ),
    "wrong-case": (
        LOCAL + "gates:\n  x:\n    cases:\n      - x.csv\n      - 5\n",
        [":6: gates.x.cases[1]: expected text or a mapping, got 5: put it in quotes"],
    ),
    "wrong-prompt": (
        LOCAL + "gates: {x: {cases: x.csv, prompt: 5}}\n",
        [":2: gates.x.prompt: expected text, a mapping or a list, got 5: put it in quotes"],
    ),
    "wrong-inside-a-prompt": (
        LOCAL + "gates: {x: {cases: x.csv, prompt: {file: 5}}}\n",
        [":2: gates.x.prompt.file: expected text, got 5: put it in quotes"],
    ),
    "wrong-message": (
        LOCAL + "gates: {x: {cases: x.csv, prompt: [hello]}}\n",
        [":2: gates.x.prompt[0]: expected a mapping, got 'hello'"],
    ),
    "literal-key": (
        LOCAL + "service:\n  api_key: sk-abcdefgh\n",
        [f":3: service.api_key: {NO_LITERAL_KEY}"],
    ),
    "literal-key-as-default": (
        LOCAL + "service:\n  api_key: ${NOT_SET:-sk-abcdefgh}\n",
        [f":3: service.api_key: {NO_LITERAL_KEY}"],
    ),
    "literal-key-in-a-header": (
        LOCAL + "service:\n  headers: {Authorization: Bearer abcdefgh}\n",
        [f":3: service.headers.Authorization: {NO_LITERAL_KEY}"],
    ),
    "literal-key-of-an-endpoint": (
        LOCAL
        + "gates:\n  x:\n    cases: x.csv\n"
        + "    endpoint: {base_url: http://x, model: m, api_key: abcdefgh}\n",
        [f":5: gates.x.endpoint.api_key: {NO_LITERAL_KEY}"],
    ),
    "literal-key-in-another-environment": (
        "environments:\n  local: {reference: {}}\n"
        "  prod:\n    url: http://x\n    service: {api_key: abcdefgh}\n",
        [f":5: environments.prod.service.api_key: {NO_LITERAL_KEY}"],
    ),
    "missing-variable": (
        LOCAL + "service:\n  api_key: ${LLM_KEY}\n",
        [
            ":3: service.api_key: the variable LLM_KEY is not set: "
            "set it, or write ${LLM_KEY:-default}"
        ],
    ),
    "malformed-variable": (
        LOCAL + "service:\n  model: ${LLM KEY}\n",
        [f":3: service.model: {MALFORMED}"],
    ),
    "value-of-a-variable-is-not-shown": (
        LOCAL + "service:\n  timeout: ${SPEED}\n",
        [":3: service.timeout: expected a number, got the value of '${SPEED}'"],
    ),
    "key-with-two-lines": (
        LOCAL + "service:\n  api_key: ${KEY}\n",
        [
            ":3: service.api_key: expected one line of plain ASCII, as a header can carry it, "
            "got the value of '${KEY}'"
        ],
    ),
    "choice-from-a-variable": (
        LOCAL + "policy:\n  inconclusive: ${KIND}\n",
        [":3: policy.inconclusive: the value of '${KIND}' is not one of: fail, skip"],
    ),
    "validator-repeats-a-variable": (
        LOCAL + "health: {checks: [{name: '${KIND}', path: /}, {name: '${KIND}', path: /}]}\n",
        [
            ":2: health: two checks are named '***': a name is a test's name",
            f":2: health.checks[0].name: {NO_VARIABLE}",
            f":2: health.checks[1].name: {NO_VARIABLE}",
        ],
    ),
    "names-from-variables": (
        "environments:\n  local:\n    reference: {}\n    service: {name: 'a-${KIND}'}\n"
        "  ${KIND}: {reference: {}}\n"
        "smoke:\n  checks:\n  - {kind: models, name: '${UNSET}'}\n"
        "  - {kind: http, request: {name: '${KEY}', path: /}}\n"
        "gates:\n  '${KIND:-x}': {cases: [{prompt: x, assert: x}]}\n",
        [
            f":4: environments.local.service.name: {NO_VARIABLE}",
            f":5: environments.${{KIND}}: {NO_VARIABLE}",
            f":8: smoke.checks[0].name: {NO_VARIABLE}",
            f":9: smoke.checks[1].request.name: {NO_VARIABLE}",
            f":11: gates.${{KIND:-x}}: {NO_VARIABLE}",
        ],
    ),
    "environments-from-a-variable": (
        "environments: ${SPEED}\n",
        [":1: environments: expected a mapping, got the value of '${SPEED}'"],
    ),
    "override-is-no-mapping": (
        "environments:\n  local:\n    reference: {}\n    service: [x]\n",
        [":4: environments.local.service: expected a mapping, got a list"],
    ),
    "wrong-in-an-override": (
        "environments:\n  local:\n    reference: {}\n    service:\n      timeout: x\n"
        "service:\n  timeout: 3\n",
        [":5: environments.local.service.timeout: expected a number, got 'x'"],
    ),
    "wrong-in-a-list-of-an-override": (
        "environments:\n  local:\n    reference: {}\n    health:\n      checks:\n"
        "        - {name: x, path: y}\n"
        "health:\n  checks:\n    - {name: x, path: /x}\n",
        [
            ":6: environments.local.health.checks[0].path: "
            "expected a path that starts with '/', got 'y'"
        ],
    ),
    "wrong-below-a-merged-suite": (
        "environments:\n  local:\n    reference: {}\n    gates:\n      x: {repeats: 2}\n"
        "gates:\n  x:\n    cases: x.csv\n    retries: -1\n",
        [":9: gates.x.retries: must be at least 0, got -1"],
    ),
    "wrong-in-another-environment": (
        "environments:\n  local: {reference: {}}\n  prod:\n    url: ${PROD_URL}\n"
        "    ready_timeout: ${PROD_TIMEOUT}\n    stop_timeout: soon\n",
        [":6: environments.prod.stop_timeout: expected a number, got 'soon'"],
    ),
    "malformed-in-another-environment": (
        "environments:\n  local: {reference: {}}\n  prod:\n    url: http://${HOST\n",
        [f":4: environments.prod.url: {MALFORMED}"],
    ),
    "several-at-once": (
        "service:\n  timeout: x\n  nmae: y\n"
        "environments:\n  local: {reference: {}}\n  prod: 5\n"
        "gates:\n  capitals: {cases: [], min_pass_rate: 2}\n"
        "policy: {inconclusive: '${UNSET_ONE}'}\n",
        [
            ":2: service.timeout: expected a number, got 'x'",
            ":3: service.nmae: unknown key 'nmae', did you mean 'name'?",
            ":6: environments.prod: expected a mapping, got 5",
            ":8: gates.capitals.cases: needs at least one entry",
            ":8: gates.capitals.min_pass_rate: must be at most 1, got 2",
            ":9: policy.inconclusive: the variable UNSET_ONE is not set: "
            "set it, or write ${UNSET_ONE:-default}",
        ],
    ),
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("llmdeploy.yaml")


def write(file: Path, name: str) -> None:
    content = BROKEN[name][0]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("name", BROKEN)
def test_the_whole_message(file: Path, name: str) -> None:
    write(file, name)
    with pytest.raises(ConfigError) as caught:
        load_config(file, "local", VARIABLES)
    assert str(caught.value) == "\n".join(f"llmdeploy.yaml{line}" for line in BROKEN[name][1])


@pytest.mark.parametrize("name", ["yaml-bomb", "ten-megabytes", "brackets-without-end"])
def test_hostile_files_fail_fast(file: Path, name: str) -> None:
    write(file, name)
    started = time.process_time()
    with pytest.raises(ConfigError):
        load_config(file, "local", VARIABLES)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("chosen", "hint"), [("stagin", ", did you mean 'staging'?"), ("zzz", ".")]
)
def test_an_unknown_environment_is_named_with_the_known_ones(
    file: Path, chosen: str, hint: str
) -> None:
    file.write_text(
        "environments:\n  local: {reference: {}}\n  staging: {url: http://s}\n"
        "  prod: {url: http://p, stop_timeout: x}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file, chosen, {})
    assert str(caught.value) == (
        f"llmdeploy.yaml: environments: no environment '{chosen}'{hint} "
        "The file has: local, staging, prod (choose with --env)\n"
        "llmdeploy.yaml:4: environments.prod.stop_timeout: expected a number, got 'x'"
    )


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    missing = tmp_path / "llmdeploy.yaml"
    with pytest.raises(ConfigError) as caught:
        load_config(missing, "local", {})
    assert str(caught.value) == f"{missing}: the file does not exist"
    missing.mkdir()
    with pytest.raises(ConfigError) as caught:
        load_config(missing, "local", {})
    assert str(caught.value) == f"{missing}: this is a directory, not a file"


KEYS = ["service", "environments", "health", "smoke", "gates", "policy", "local", "reference"]
KEYS += ["url", "command", "cases", "prompt", "assert", "checks", "kind", "name", "path", "file"]
KEYS += ["request", "endpoint", "api_key", "headers", "timeout", "engine", "json"]
PIECES = [": ", "\n", "  ", "- ", "{", "}", "[", "]", ",", "&a ", "*a", "!!str ", "'", '"', "${"]
PIECES += ["$$", "|\n", "#", "? ", "<<", "1", "\t", "---\n", "~", "é", "\\", ":-", *KEYS]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(PIECES),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner),
)
ANYTHING = st.one_of(
    st.binary(),
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode()),
    st.dictionaries(st.sampled_from(KEYS), JSON).map(lambda data: json.dumps(data).encode()),
    st.fixed_dictionaries(
        {"environments": st.just({"local": {"reference": {}}})},
        optional=dict.fromkeys(("service", "health", "smoke", "gates", "policy"), JSON),
    ).map(lambda data: json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")),
)


@settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=250,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(content=ANYTHING)
def test_any_file_is_loaded_or_explained(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        outcome: LoadedConfig | ConfigError = load_config(file, "local", VARIABLES)
    except ConfigError as error:
        outcome = error
    assert isinstance(outcome, LoadedConfig) or all(p.message for p in outcome.problems)
