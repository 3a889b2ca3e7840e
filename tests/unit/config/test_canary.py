"""The section ``canary``: the release policy by default, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmdeploy.config.canary import CanaryConfig, one_shift
from pytest_llmdeploy.config.loader import load_config
from pytest_llmdeploy.errors import ConfigError

HEAD = "environments: {local: {reference: {}}}\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("llmdeploy.yaml")


def canary(file: Path, text: str) -> CanaryConfig:
    file.write_text(f"{HEAD}canary: {text}\n")
    found = load_config(file, "local", {}).canary
    assert found is not None
    return found


def complaint(file: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        canary(file, text)
    return str(caught.value)


def test_the_release_policy_by_default(file: Path) -> None:
    for config in (CanaryConfig(), canary(file, "{}")):
        assert [(phase.weight, phase.duration) for phase in config.phases] == [
            (5, 5 * 60),
            (25, 10 * 60),
            (50, 10 * 60),
            (100, 5 * 60),
        ]
        assert config.sample_interval == 30
        sla = config.sla
        limits = {key: getattr(sla, key) for key in type(sla).model_fields}
        assert {key: limit for key, limit in limits.items() if limit is not None} == {
            "error_rate": 0.05,
            "latency_p95": 5.0,
            "cpu_usage": 0.85,
            "memory_usage": 0.90,
            "points": 5,
        }
        assert (config.router.header, config.router.header_value) == ("canary", "true")
        assert config.inconclusive == "rollback"
        assert one_shift(config, 10, None).phases[0].duration == 300
        assert all(phase.approve is None for phase in config.phases)


def test_a_phase_and_its_name(file: Path) -> None:
    config = canary(
        file, "{phases: [{weight: 7, duration: 3}, {weight: 8, duration: 3, max_duration: 4}]}"
    )
    assert [phase.name for phase in config.phases] == ["weight-7", "weight-8"]
    assert [phase.longest for phase in config.phases] == [6, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{phases: [{weight: 50, duration: 1}, {weight: 25, duration: 1}]}",
            "the weights of the phases must grow",
        ),
        (
            "{phases: [{weight: 50, duration: 1}, {weight: 50, duration: 1}]}",
            "the weights of the phases must grow",
        ),
        (
            "{phases: [{weight: 50, duration: 2, max_duration: 1}]}",
            "max_duration must not be shorter than duration",
        ),
        ("{phases: [{weight: 0, duration: 1}]}", "weight"),
        ("{phases: [{weight: 101, duration: 1}]}", "weight"),
        ("{phases: [{weight: 5, duration: 0}]}", "duration"),
        ("{phases: [{weight: 5, duration: .inf}]}", "duration"),
        ("{phases: [{weight: 5}]}", "duration"),
        ("{phases: []}", "phases"),
        (
            "{sla: {error_rate: null, latency_p95: null, cpu_usage: null, memory_usage: null}}",
            "sla needs a limit: at weight 100 there is no other version to compare with",
        ),
        ("{sla: {error_rate: 1.1}}", "error_rate"),
        ("{sla: {error_rate: .nan}}", "error_rate"),
        ("{sla: {points: 0}}", "points"),
        ("{compare: {alpha: 0}}", "alpha"),
        ("{compare: {alpha: 1}}", "alpha"),
        ("{compare: {min_requests: 0}}", "min_requests"),
        ("{split_tolerance: 0}", "split_tolerance"),
        ("{split_tolerance: 1}", "split_tolerance"),
        ("{inconclusive: promote}", "inconclusive"),
        ("{metrics: {sources: [prometheus]}}", "the source prometheus needs prometheus: {url: …}"),
        ("{metrics: {queries: {errors: x}}}", "queries names errors; signals are error_rate, "),
        ("{metrics: {prometheus: {}}}", "give one of url and service"),
        (
            "{quality: {gate: g, phase: 30}}",
            "quality.phase is 30, and no phase has that weight",
        ),
    ],
)
def test_what_cannot_be(file: Path, text: str, said: str) -> None:
    complained = complaint(file, text)
    assert complained.startswith("llmdeploy.yaml:2: canary")
    assert said in complained


def test_where_no_phase_has_all_traffic_a_comparison_is_enough(file: Path) -> None:
    none = "{error_rate: null, latency_p95: null, cpu_usage: null, memory_usage: null}"
    phases = "[{weight: 50, duration: 1}]"
    assert canary(file, f"{{phases: {phases}, sla: {none}}}").compare.signals
    two = "{error_rate: null, latency_p95: null}"
    said = complaint(file, f"{{phases: {phases}, sla: {none}, compare: {two}}}")
    assert "sla needs a limit" in said


def test_one_shift() -> None:
    phases = [
        {"weight": 10, "duration": 7, "max_duration": 9},
        {"weight": 100, "duration": 8, "approve": "file"},
    ]
    config = CanaryConfig.model_validate({"phases": phases})
    (known,) = one_shift(config, 10, None).phases
    assert (known.weight, known.duration, known.max_duration) == (10, 7, 9)
    (longer,) = one_shift(config, 10, 20.0).phases
    assert (longer.duration, longer.longest) == (20, 40)
    (other,) = one_shift(config, 33, None).phases
    assert (other.duration, other.approve) == (300, None)
    # Another duration does not save the approval.
    (last,) = one_shift(config, 100, 5.0).phases
    assert (last.duration, last.approve) == (5, "file")


def test_one_shift_proves_where_the_whole_would() -> None:
    config = CanaryConfig()
    assert one_shift(config, 10, None).prove_from == 50
    assert one_shift(config, 50, None).prove_from == 50


def test_one_shift_asks_for_answers_where_the_whole_would() -> None:
    for asked, weight, wanted in ((None, 50, True), (5, 5, True), (5, 50, False)):
        quality = {"gate": "facts", "phase": asked}
        config = one_shift(CanaryConfig.model_validate({"quality": quality}), weight, None)
        assert (config.quality is not None) is wanted
        # Its record can be read again.
        assert CanaryConfig.model_validate(config.model_dump(mode="json")) == config
