"""The section ``load``: what it becomes, and what a user reads where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmdeploy.config.load import LoadConfig
from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.errors import ConfigError

STEADY = "environments: {local: {reference: {}}}\nload:\n  steady:\n"
"""What the section's keys are put below: they begin on line 4, the section itself on line 3."""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("llmdeploy.yaml")


def steady(file: Path, keys: str) -> LoadConfig:
    file.write_text(STEADY + "".join(f"    {line}\n" for line in keys.split("\n")))
    return load_config(file, "local", {}).load["steady"]


def complaint(file: Path, text: str, environment: str = "local") -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, environment, {})
    return str(caught.value)


def test_without_traffic_ten_users_ask_for_five_minutes(file: Path) -> None:
    config = steady(file, "seed: 3")
    assert not config.open_loop
    assert config.duration == 300
    assert config.objectives == ("error_rate <= 0.05", "e2e_p95 <= 5")
    assert config.output_tokens == (64, 64)


def test_objectives_are_kept_in_base_units(file: Path) -> None:
    config = steady(
        file, "rate: 5\nobjectives: [ttft_p95 <= 800 ms, error_rate<=5%, itl_p50 <= 0.01 ms]"
    )
    assert config.objectives == ("ttft_p95 <= 0.8", "error_rate <= 0.05", "itl_p50 <= 0.00001")
    assert [each.limit for each in config.parsed_objectives] == [0.8, 0.05, 1e-5]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("max_tokens: 7", (7, 7)),
        ("max_tokens: [1, 128]", (1, 128)),
        ("max_tokens: ${MOST:-32}", (32, 32)),
        ("max_tokens: ['${LEAST:-4}', 32]", (4, 32)),
    ],
)
def test_an_answers_length_is_a_number_or_a_range(
    file: Path, keys: str, expected: tuple[int, int]
) -> None:
    assert steady(file, keys).output_tokens == expected


@pytest.mark.parametrize(
    "keys",
    [
        "rate: 5000",
        "steps: [{rate: 2, to: 10, duration: 60}, {rate: 0, to: 3, duration: 5}]\nwarmup: 30",
        "trace: arrivals.jsonl\nwarmup: 400",
        "users: 4\nthink_time: 1\nturns: 3",
        "locustfile: locustfile.py\nusers: 4",
        "find: max_rate\nrate: 5\nmin_rate: 10\nduration: 20\nconfirm: true",
        "rate: 5\ncompare: {baseline: record, metrics: [e2e_p50.0, ttft_p99.9]}",
        "rate: 5\ncompare: {url: 'http://127.0.0.1:8001', blocks: 10}",
        "rate: 5\nstreamed: 0\ngood: {e2e: 3}\nobjectives: [goodput >= 90%]",
        "rate: 5\nclients: {keep_alive: 0, long_stream: 1}\ntimeouts: {total: 600}",
        "rate: 5\narrivals: gamma\nburstiness: 0.2\nparameters: {temperature: 0, stop: [x]}",
        "locustfile: x.py\ncompare: {baseline: record, metrics: [e2e_p95]}",
    ],
)
def test_what_goes_together(file: Path, keys: str) -> None:
    assert isinstance(steady(file, keys), LoadConfig)


AT_SECTION = {
    "two-kinds-of-traffic": (
        "rate: 5\nusers: 4",
        "give one of rate, steps, trace, users, locustfile, not rate and users",
    ),
    "locustfile-and-rate": (
        "rate: 5\nlocustfile: x.py",
        "give one of rate, steps, trace, users, locustfile, not rate and locustfile",
    ),
    "search-without-a-rate": (
        "find: max_rate",
        "find: max_rate needs rate: where the search begins",
    ),
    "search-with-users": (
        "find: max_rate\nusers: 4",
        "find: max_rate needs rate: where the search begins",
    ),
    "search-of-short-probes": (
        "find: max_rate\nrate: 5\nduration: 3",
        "find needs a duration of 6 s at least for each of its probes: "
        "less does not show whether a backlog grows",
    ),
    "search-that-begins-at-its-end": (
        "find: max_rate\nrate: 5\nmax_rate: 2",
        "rate 5 is above max_rate 2",
    ),
    "search-that-cannot-find-enough": (
        "find: max_rate\nrate: 5\nmin_rate: 5000",
        "min_rate 5000 is above max_rate 1000",
    ),
    "enough-without-a-search": (
        "rate: 5\nmin_rate: 4",
        "min_rate is what a search must find: it needs find: max_rate",
    ),
    "confirmation-without-a-search": (
        "rate: 5\nconfirm: true",
        "confirm is for what a search found: it needs find: max_rate",
    ),
    "search-and-comparison": (
        "find: max_rate\nrate: 5\ncompare: {baseline: x}",
        "give find or compare; a comparison needs one given rate",
    ),
    "goodput-without-good": (
        "rate: 5\nobjectives: [goodput >= 0.9]",
        "goodput needs good: the limits that make a request a good one",
    ),
    "nothing-but-warmup": (
        "rate: 5\nduration: 10\nwarmup: 10",
        "warmup takes the whole traffic: nothing would be judged",
    ),
    "steps-of-nothing-but-warmup": (
        "steps: [{rate: 5, duration: 4}, {rate: 9, duration: 5}]\nwarmup: 9",
        "warmup takes the whole traffic: nothing would be judged",
    ),
    "fewer-processes-at-most": (
        "rate: 5\nprocesses: 4\nmax_processes: 2",
        "max_processes must be at least processes",
    ),
    "locustfile-without-tokens": (
        "locustfile: x.py\nobjectives: [ttft_p95 <= 1, itl_p95 <= 1, e2e_p95 <= 3]",
        "a locustfile's events do not tell itl, ttft; they tell e2e, error_rate, throughput",
    ),
    "locustfile-compared-by-tokens": (
        "locustfile: x.py\ncompare: {baseline: x}",
        "a locustfile's events do not tell ttft; they tell e2e, error_rate, throughput",
    ),
    "no-streams-for-an-objective": (
        "rate: 5\nstreamed: 0\nobjectives: [ttft_p95 <= 1, tpot_p95 <= 1]",
        "without streams there is no tpot or ttft",
    ),
    "no-streams-for-good": (
        "rate: 5\nstreamed: 0\ngood: {ttft: 1}\nobjectives: [goodput >= 0.9]",
        "without streams there is no ttft",
    ),
    "no-streams-to-compare": (
        "rate: 5\nstreamed: 0\ncompare: {baseline: x}",
        "without streams there is no ttft",
    ),
    "users-on-two-versions": (
        "users: 5\ncompare: {url: 'http://x'}",
        "two versions are compared under the same arrivals: give rate, steps or trace",
    ),
    "rate-of-half-the-traffic": (
        "rate: 5\ncompare: {url: 'http://x'}\nobjectives: [throughput >= 2]",
        "half of the traffic goes to the other version: judge no rate",
    ),
}


@pytest.mark.parametrize("name", AT_SECTION)
def test_what_does_not_go_together_is_told_at_the_section(file: Path, name: str) -> None:
    keys, message = AT_SECTION[name]
    text = STEADY + "".join(f"    {line}\n" for line in keys.split("\n"))
    assert complaint(file, text) == f"llmdeploy.yaml:3: load.steady: {message}"


AT_KEY = {
    "unknown-key": ("raet: 5", ".raet", "unknown key 'raet', did you mean 'rate'?"),
    "unknown-client": (
        "clients: {keepalive: 2}",
        ".clients.keepalive",
        "unknown key 'keepalive', did you mean 'keep_alive'?",
    ),
    "unknown-timeout": (
        "timeouts: {conect: 2}",
        ".timeouts.conect",
        "unknown key 'conect', did you mean 'connect'?",
    ),
    "unknown-metric": (
        "objectives: ['error_rate <= 1%', 'tttf_p95 <= 1']",
        ".objectives[1]",
        "unknown metric 'tttf_p95', did you mean 'ttft_p95'?",
    ),
    "wrong-operator": ("objectives: [ttft_p95 > 1]", ".objectives[0]", "'ttft' takes <=, not >"),
    "percent-above-100": (
        "objectives: [error_rate <= 5]",
        ".objectives[0]",
        "'error_rate' is a share from 0 to 1: write 0.05 or 5%",
    ),
    "no-objectives": (
        "objectives: []",
        ".objectives",
        "needs at least one entry, or nothing is judged",
    ),
    "one-objective-twice": (
        "objectives: [ttft_p95 <= 1, ttft_p95.0 <= 2]",
        ".objectives",
        "a metric stands there twice; its name is a test's name",
    ),
    "objective-without-a-list": (
        "objectives: ttft_p95 <= 1",
        ".objectives",
        "expected a list, got 'ttft_p95 <= 1'",
    ),
    "no-rate": ("rate: 0", ".rate", "must be greater than 0, got 0"),
    "text-for-a-rate": ("rate: fast", ".rate", "expected a number, got 'fast'"),
    "true-for-a-rate": ("rate: true", ".rate", "expected a number, got true"),
    "true-for-users": ("users: true", ".users", "expected a number, got true"),
    "true-for-tokens": ("max_tokens: true", ".max_tokens", "expected a number, got true"),
    "true-for-good": ("good: {ttft: true}", ".good.ttft", "expected a number, got true"),
    "text-for-tokens": ("max_tokens: lots", ".max_tokens", "expected a whole number, got 'lots'"),
    "no-tokens": ("max_tokens: 0", ".max_tokens", "must be at least 1, got 0"),
    "text-in-a-range": (
        "max_tokens: [1, lots]",
        ".max_tokens[1]",
        "expected a whole number, got 'lots'",
    ),
    "one-end-of-a-range": (
        "max_tokens: [5]",
        ".max_tokens",
        "expected [least, most] with least <= most",
    ),
    "range-backwards": (
        "max_tokens: [5, 2]",
        ".max_tokens",
        "expected [least, most] with least <= most",
    ),
    "step-without-arrivals": (
        "steps: [{rate: 0, duration: 5}]",
        ".steps[0]",
        "a step without arrivals has no use: give rate or to above 0",
    ),
    "step-without-an-end": ("steps: [{rate: 5}]", ".steps[0]", "'duration' is missing"),
    "no-client": (
        "clients: {keep_alive: 0}",
        ".clients",
        "at least one kind of client needs a weight above 0",
    ),
    "stream-as-a-parameter": (
        "parameters: {stream: false, temperature: 0}",
        ".parameters",
        "stream has a key of its own: streamed",
    ),
    "length-as-a-parameter": (
        "parameters: {max_tokens: 5}",
        ".parameters",
        "max_tokens has a key of its own: max_tokens",
    ),
    "messages-as-a-parameter": (
        "parameters: {messages: []}",
        ".parameters",
        "messages has a key of its own: prompts",
    ),
    "good-without-limits": ("good: {}", ".good", "give ttft, tpot or e2e"),
    "compared-with-nothing": (
        "compare: {}",
        ".compare",
        "give one of baseline (an earlier record) and url (a version that is up)",
    ),
    "too-few-blocks-in-turns": (
        "compare: {url: 'http://x', blocks: 9}",
        ".compare",
        "two versions that take turns need blocks: 10 at least",
    ),
    "compared-by-a-share": (
        "compare: {baseline: x, metrics: [error_rate]}",
        ".compare.metrics",
        "only percentiles of requests are compared, such as ttft_p95",
    ),
    "compared-by-gaps": (
        "compare: {baseline: x, metrics: [itl_p95]}",
        ".compare.metrics",
        "only percentiles of requests are compared, such as ttft_p95",
    ),
    "compared-without-a-percentile": (
        "compare: {baseline: x, metrics: [ttft]}",
        ".compare.metrics",
        "'ttft' needs a percentile, such as ttft_p95",
    ),
    "compared-twice": (
        "compare: {baseline: x, metrics: [ttft_p95, ttft_p095]}",
        ".compare.metrics",
        "a metric stands there twice; its name is a test's name",
    ),
    "a-coins-confidence": (
        "confidence: 0.5",
        ".confidence",
        "must be greater than 0.5, got 0.5",
    ),
    "percent-for-a-confidence": ("confidence: 95", ".confidence", "must be less than 1, got 95"),
    "unknown-arrivals": (
        "arrivals: posson",
        ".arrivals",
        "'posson' is not one of: poisson, constant, gamma, did you mean 'poisson'?",
    ),
}


@pytest.mark.parametrize("name", AT_KEY)
def test_what_is_wrong_with_a_key_is_told_at_its_line(file: Path, name: str) -> None:
    key, where, message = AT_KEY[name]
    text = f"{STEADY}    seed: 1\n    {key}\n"
    assert complaint(file, text) == f"llmdeploy.yaml:5: load.steady{where}: {message}"


OVERRIDDEN = """\
load:
  steady:
    rate: 5
    objectives: ["ttft_p95 <= 800 ms", "error_rate <= 1%"]
    timeouts: {total: 60}
environments:
  local: {reference: {}}
  prod:
    url: http://llm.example
    load_hosts: [llm.example]
    load_limits: {requests: 1000, tokens: 50000, seconds: 120}
    load:
      steady:
        rate: 50
        timeouts: {idle: 5}
      nightly: {steps: [{rate: "${RATE:-3}", duration: 60}]}
"""


def test_an_environment_overrides_values_and_adds_runs(file: Path) -> None:
    file.write_text(OVERRIDDEN)
    local, prod = (load_config(file, name, {}) for name in ("local", "prod"))
    assert (local.load["steady"].rate, list(local.load)) == (5, ["steady"])
    assert prod.load["steady"].rate == 50
    assert prod.load["steady"].objectives == ("ttft_p95 <= 0.8", "error_rate <= 0.01")
    assert (prod.load["steady"].timeouts.idle, prod.load["steady"].timeouts.total) == (5, 60)
    assert prod.load["nightly"].steps[0].rate == 3
    assert prod.environment.load_limits is not None
    assert prod.environment.load_limits.tokens == 50000


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("rate",), 14),
        (("objectives",), 4),
        (("objectives", 1), 4),
        (("timeouts", "idle"), 15),
        (("timeouts", "total"), 5),
        (("find",), 2),
    ],
)
def test_values_have_their_lines(file: Path, path: tuple[str | int, ...], line: int) -> None:
    file.write_text(OVERRIDDEN)
    loaded: LoadedConfig = load_config(file, "prod", {})
    assert loaded.where("load", "steady", *path) == ("llmdeploy.yaml", line)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "rate: 50",
            "rate: -1",
            "14: environments.prod.load.steady.rate: must be greater than 0, got -1",
        ),
        (
            "rate: 50",
            "users: 50",
            "13: environments.prod.load.steady: "
            "give one of rate, steps, trace, users, locustfile, not rate and users",
        ),
        (
            "idle: 5",
            "idel: 5",
            "15: environments.prod.load.steady.timeouts.idel: "
            "unknown key 'idel', did you mean 'idle'?",
        ),
        (
            "duration: 60}]",
            "duration: 0}]",
            "16: environments.prod.load.nightly.steps[0].duration: must be greater than 0, got 0",
        ),
        ("seconds: 120", "requests: 0", "11: environments.prod.load_limits: duplicate key"),
        (
            ", seconds: 120",
            "",
            "11: environments.prod.load_limits: 'seconds' is missing",
        ),
        (
            "load_hosts: [llm.example]",
            "load_hosts: llm.example",
            "10: environments.prod.load_hosts: expected a list, got 'llm.example'",
        ),
    ],
)
def test_what_is_wrong_in_an_override_is_told_there(
    file: Path, old: str, new: str, message: str
) -> None:
    assert OVERRIDDEN.count(old) == 1
    said = complaint(file, OVERRIDDEN.replace(old, new), "prod")
    assert said.startswith(f"llmdeploy.yaml:{message}")
    assert "\n" not in said


def test_another_environments_variables_are_not_judged_here(file: Path) -> None:
    text = OVERRIDDEN.replace("rate: 50", 'rate: ${UNSET}\n        max_tokens: ["${UNSET}", 9]')
    file.write_text(text)
    assert load_config(file, "local", {}).load["steady"].rate == 5
    assert complaint(file, text, "prod") == (
        "llmdeploy.yaml:14: environments.prod.load.steady.rate: "
        "the variable UNSET is not set: set it, or write ${UNSET:-default}\n"
        "llmdeploy.yaml:15: environments.prod.load.steady.max_tokens[0]: "
        "the variable UNSET is not set: set it, or write ${UNSET:-default}"
    )


def test_a_runs_name_must_not_come_from_a_variable(file: Path) -> None:
    text = "environments: {local: {reference: {}}}\nload:\n  '${NAME:-x}': {rate: 5}\n"
    assert complaint(file, text) == (
        "llmdeploy.yaml:3: load.${NAME:-x}: must not come from a variable: it shows in every report"
    )
