"""What a good file becomes for one environment."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.errors import ConfigError

FILE = """\
service:
  name: assistant
  timeout: ${TIMEOUT:-30}
  headers: {x-team: search, x-tier: gold}
environments:
  local:
    reference: {}
  staging:
    url: https://${STAGING_HOST}/llm
    protected: ${PROTECTED:-true}
    service:
      api_key: ${STAGING_KEY}
      headers:
        x-tier: silver
      verify_tls: no
    health:
      checks:
        - {name: alive, path: /alive, status: "204"}
    gates:
      capitals:
        min_pass_rate: ${RATE}
      extra: {cases: extra.csv}
    policy: {inconclusive: skip}
health:
  checks:
    - {name: health, path: /health}
    - {name: ready, path: /ready}
    - {name: deep, path: /deep}
smoke:
  checks: [models, {kind: completion, max_tokens: 4}]
gates:
  capitals:
    cases:
      - capitals.csv
      - {prompt: "cost: $$5 or $${X}?", assert: ["contains: x"]}
    repeats: "3"
"""
VARIABLES = {"STAGING_HOST": "staging.example", "STAGING_KEY": "sk-staging-1", "RATE": "0.9"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("deploy") / "llmdeploy.yaml"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


@pytest.fixture
def staging(file: Path) -> LoadedConfig:
    return load_config(file, "staging", VARIABLES)


def test_the_base_sections_without_overrides(file: Path, tmp_path: Path) -> None:
    loaded = load_config(file, "local", {})
    assert loaded.path == file
    assert loaded.root == tmp_path / "deploy"
    assert loaded.environment_name == "local"
    assert loaded.environment.reference is not None
    assert loaded.service.timeout == 30
    assert loaded.service.headers == {"x-team": "search", "x-tier": "gold"}
    assert [check.name for check in loaded.health.checks] == ["health", "ready", "deep"]
    assert [check.title for check in loaded.smoke.checks or ()] == ["models", "completion"]
    assert list(loaded.gates) == ["capitals"]
    assert loaded.gates["capitals"].repeats == 3
    assert loaded.gates["capitals"].cases[1] == {
        "prompt": "cost: $5 or ${X}?",
        "assert": ["contains: x"],
    }
    assert loaded.policy.inconclusive == "fail"
    assert loaded.redactor.secrets == ()


def test_maps_merge_deeply_and_lists_and_scalars_replace(staging: LoadedConfig) -> None:
    assert staging.service.name == "assistant"
    assert staging.service.headers == {"x-team": "search", "x-tier": "silver"}
    assert staging.service.verify_tls is False
    assert [(check.name, check.status) for check in staging.health.checks] == [("alive", 204)]
    assert staging.gates["capitals"].min_pass_rate == 0.9
    assert staging.gates["capitals"].repeats == 3
    assert staging.gates["extra"].cases == ("extra.csv",)
    assert staging.policy.inconclusive == "skip"


def test_variables_fill_any_kind_of_value(staging: LoadedConfig) -> None:
    assert staging.environment.url == "https://staging.example/llm"
    assert staging.environment.protected is True
    assert staging.service.api_key == "sk-staging-1"


def test_values_of_variables_are_secrets_and_defaults_are_not(staging: LoadedConfig) -> None:
    assert staging.redactor.secrets == ("0.9", "sk-staging-1", "staging.example")
    assert staging.redactor("sk-staging-1 for assistant, 30") == "*** for assistant, 30"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("gates", "capitals", "cases"), 33),
        (("gates", "capitals", "cases", 1, "assert", 0), 35),
        (("gates", "capitals", "min_pass_rate"), 21),
        (("gates", "capitals"), 20),
        (("gates", "capitals", "retries"), 32),
        (("gates", "extra"), 22),
        (("gates", "extra", "repeats"), 22),
        (("health", "checks", 0, "path"), 18),
        (("health", "checks", 1), 17),
        (("service", "name"), 2),
        (("service", "headers", "x-tier"), 14),
        (("service", "headers", "x-team"), 4),
        (("service", "model"), 1),
        (("smoke", "checks", 1, "max_tokens"), 30),
        (("environments", "staging", "url"), 9),
        (("nowhere",), 0),
        ((), 0),
    ],
)
def test_where(staging: LoadedConfig, path: tuple[str | int, ...], line: int) -> None:
    assert staging.where(*path) == ("deploy/llmdeploy.yaml", line)


def test_a_file_elsewhere_is_shown_with_its_whole_path(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file.absolute()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert load_config(path, "local", {}).where("smoke") == (str(path), 29)


def test_only_the_chosen_environments_variables_are_needed(file: Path) -> None:
    assert load_config(file, "local", {}).environment_name == "local"
    with pytest.raises(ConfigError) as caught:
        load_config(file, "staging", {"RATE": "1"})
    assert [problem.where for problem in caught.value.problems] == [
        "environments.staging.url",
        "environments.staging.service.api_key",
    ]


def test_an_override_spares_the_variable_of_the_base(file: Path) -> None:
    file.write_text(
        "service: {model: '${MODEL}'}\n"
        "environments:\n  local: {reference: {}, service: {model: fixed}}\n"
    )
    assert load_config(file, "local", {}).service.model == "fixed"


def test_an_override_completes_what_the_base_leaves_out(file: Path) -> None:
    file.write_text(
        "gates: {x: {repeats: 2}}\n"
        "environments:\n  local: {reference: {}, gates: {x: {cases: x.csv}}}\n"
    )
    assert load_config(file, "local", {}).gates["x"].cases == ("x.csv",)


@pytest.mark.parametrize("key", ["none", "dummy", "${KEY}", "${KEY:-none}", "Bearer ${KEY}", "''"])
def test_keys_that_may_stand_in_the_file(file: Path, key: str) -> None:
    file.write_text(f"environments: {{local: {{reference: {{}}}}}}\nservice:\n  api_key: {key}\n")
    assert load_config(file, "local", {"KEY": "sk-something"}).service.api_key is not None


def test_it_travels_to_another_process(staging: LoadedConfig) -> None:
    again = pickle.loads(pickle.dumps(staging))
    assert again.where("gates", "extra") == staging.where("gates", "extra")
    assert again.redactor("sk-staging-1") == "***"
