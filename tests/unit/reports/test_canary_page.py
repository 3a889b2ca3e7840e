"""A canary as the page, the terminal and GitHub show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pytest_llmdeploy.reports.canary_record import Finding, Phase
from pytest_llmdeploy.reports.canary_words import in_short, interval, limit, what_decided
from pytest_llmdeploy.reports.github import step_summary
from pytest_llmdeploy.reports.html.canary_series import MOST_POINTS, read_series
from pytest_llmdeploy.reports.html.numbers import NONE
from pytest_llmdeploy.reports.html_report import page
from pytest_llmdeploy.reports.terminal import _parts
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.canary_records import BEGAN, CONFIG, Maker
from tests.unit.reports.samples import event, run
from tests.unit.reports.test_html_report import Page, seen

PHASES = ("Phase", "Verdict", "Split that was met")
FINDINGS = ("Signal", "Rule", "Verdict")


def maker(output: Path, name: str = "local-1", config: dict[str, Any] | None = None) -> Maker:
    return Maker(output / "records" / "canary" / name, config)


def promoted(output: Path) -> Maker:
    made = maker(output)
    for _ in range(3):
        made.watch()
    return made


def rolled_back(output: Path) -> Maker:
    made = maker(output)
    made.watch()
    made.watch(lambda look: 20 * look)
    return made


def canary_event(made: Maker, number: int) -> dict[str, Any]:
    """Return the event of a phase's item."""
    phase = made.records[number]
    step = {"name": phase.name, "detail": {"phase": phase.to_json()}}
    return event("canary", phase.name, Verdict(phase.verdict), phase.reason, detail={"step": step})


def advice(found: Page) -> str:
    (told,) = [text for text in found.texts["p"] if text.startswith("Recommendation: ")]
    return told.removeprefix("Recommendation: ")


def test_a_promoted_canary(tmp_path: Path) -> None:
    promoted(tmp_path).write()
    found = seen(run(tmp_path))
    rows = found.rows(*PHASES)
    assert [row[:4] for row in rows] == [
        ["weight-10", "✓ PASS", "10 % of 300", "10 s"],
        ["weight-50", "✓ PASS", "50 % of 300", "5 s"],
        ["weight-100", "✓ PASS", "100 % of 300", "3 s"],
    ]
    assert rows[0][4] == "400 new, 3\u202f600 running"
    assert rows[0][5].startswith("closest: error_rate (compare) +")
    assert advice(found).startswith("keep llm-service:2.0.0. The closest call was error_rate")
    captions = found.texts["figcaption"]
    assert captions == ["Weights and requests", "Both versions", "Evidence of more failures"]
    tables = [each for each in found.tables if tuple(each[0][:3]) == FINDINGS]
    assert [len(each) - 1 for each in tables] == [4, 4, 2]
    error_rate = tables[0][3]
    assert error_rate[:5] == ["error_rate", "compare", "✓ PASS", "0 %", "0 %"]
    assert error_rate[6:10] == ["+5 points", "e 1 of 160", "400 / 3\u202f600", "10 s"]
    assert error_rate[10] == "client: requests of this run answered by 2.0.0"
    assert tables[0][1][9] == "3 times 1 s"
    assert "Way back" not in found.texts["dt"]


def test_a_canary_that_went_back(tmp_path: Path) -> None:
    rolled_back(tmp_path).write()
    found = seen(run(tmp_path, [canary_event(rolled_back(tmp_path / "again"), 1)], exit_code=1))
    assert [row[1] for row in found.rows(*PHASES)] == ["✓ PASS", "✗ FAIL"]
    told = dict(zip(found.texts["dt"], found.texts["dd"], strict=True))
    assert told["Failure seen"] == "3.5 s after the first weight"
    assert told["Safe"] == "4 s after the first weight"
    assert told["Requests exposed"] == "77"
    assert advice(found).startswith(
        "mend llm-service:2.0.0 before it is tried again: error_rate (compare) at weight-50 decided"
    )
    assert "It would have stayed, had the increase been shown to be at most 5 points" in advice(
        found
    )
    assert "goes back" in found.source
    text = " ".join(found.texts["p"])
    assert "it is shown to fail more often at 160" in text


def test_what_is_drawn_is_what_was_looked_at(tmp_path: Path) -> None:
    folder = rolled_back(tmp_path).write()
    series = read_series(folder / "looks.jsonl")
    assert (series.looks, series.trouble) == (11, None)
    first, last = series.groups[0], series.groups[-1]
    assert (first.phase, first.start, first.end) == ("weight-10", BEGAN + 5, BEGAN + 6)
    assert (last.phase, last.versions["canary"].error_rate) == ("weight-50", 0.1)
    assert first.e_value == pytest.approx(1)
    assert last.e_value is not None
    assert last.e_value > 160
    assert last.versions["stable"].quantile("latency", 0.5) == pytest.approx(0.1, rel=0.1)
    points = list(series.of(lambda group: group.e_value))
    assert [value for _, value in points].count(None) == 1  # the line is broken between phases


def test_a_long_canary_has_few_points_of_all_its_requests(tmp_path: Path) -> None:
    phase = {"weight": 10, "duration": 1000, "max_duration": 1000}
    made = maker(tmp_path, config={**CONFIG, "phases": [phase]})
    made.watch()
    series = read_series(made.write() / "looks.jsonl")
    assert series.looks == 1000
    assert len(series.groups) <= MOST_POINTS
    assert sum(each.versions["canary"].requests for each in series.groups) == 40_000
    assert len(page(run(tmp_path))) < 300_000


def test_every_column_of_a_long_release_is_drawn(tmp_path: Path) -> None:
    bins = 180
    timeline = {"bin": 1.0, "old": [300 + number % 7 for number in range(bins)]}
    made = promoted(tmp_path)
    made.write(traffic={"n": 1, "lost": 0, "moments": {"deploy": 1.0}, "timeline": timeline})
    found = seen(run(tmp_path))
    (columns,) = [
        value for tag, name, value in found.attributes if name == "d" and value.count("M") > 100
    ]
    assert columns.count("M") == bins
    assert "more characters" not in found.source


def test_several_canaries_have_a_section_each_and_links(tmp_path: Path) -> None:
    for name in ("local-1", "drill-1"):
        made = maker(tmp_path, name)
        made.watch()
        made.write()
    found = seen(run(tmp_path))
    links = {value for tag, name, value in found.attributes if (tag, name) == ("a", "href")}
    assert links == {"#canary-1", "#canary-2"}


@pytest.mark.parametrize(
    ("verdict", "reason", "said"),
    [
        ("FAIL", "a person asked to abort", "look at weight-10: a person asked to abort"),
        ("ERROR", "Prometheus is away", "look at weight-10: Prometheus is away"),
    ],
)
def test_a_phase_that_ended_without_figures(
    tmp_path: Path, verdict: str, reason: str, said: str
) -> None:
    made = maker(tmp_path)
    made.note(verdict, reason)
    made.write()
    found = seen(run(tmp_path))
    assert found.rows(*PHASES)[0][5] == reason
    assert advice(found) == said


def test_a_canary_that_ended_before_its_first_weight(tmp_path: Path) -> None:
    step = {"name": "smoke", "verdict": "FAIL", "reason": "no stream", "duration": 1.0}
    maker(tmp_path).write(success=False, steps=[step], error="smoke: no stream", traffic={})
    found = seen(run(tmp_path))
    assert "No weight was watched: nothing of the new version was judged." in found.texts["p"]
    assert (
        advice(found)
        == "mend what 'smoke' found before llm-service:2.0.0 is tried again: no stream"
    )


def test_records_that_are_broken_are_told(tmp_path: Path) -> None:
    folder = promoted(tmp_path).write()
    (folder / "looks.jsonl").write_text("{}\n\x00\nhello")
    assert "looks.jsonl:3 is cut: left out" in seen(run(tmp_path)).texts["p"]
    (folder / "looks.jsonl").unlink()
    assert any("looks.jsonl cannot be read" in text for text in seen(run(tmp_path)).texts["p"])
    (folder / "result.json").write_text("{")
    assert any("result.json cannot be read" in text for text in seen(run(tmp_path)).texts["p"])


def test_nothing_of_a_record_becomes_markup(tmp_path: Path) -> None:
    attack = "<script>window.ran=1</script>"
    folder = rolled_back(tmp_path).write()
    result = (folder / "result.json").read_text()
    for text in ("llm-service:2.0.0", "requests of this run answered by 2.0.0", "Envoy of local"):
        assert text in result
        result = result.replace(text, attack)
    (folder / "result.json").write_text(result)
    looks = (folder / "looks.jsonl").read_text().replace("weight-10", attack)
    (folder / "looks.jsonl").write_text(looks)
    found = seen(run(tmp_path))
    assert attack in advice(found)
    assert "<script" not in found.source


def test_the_terminal_and_github_tell_phase_by_phase(tmp_path: Path) -> None:
    made = rolled_back(tmp_path)
    result = run(tmp_path, [canary_event(made, number) for number in range(2)], exit_code=1)
    console = Console(width=160)
    with console.capture() as shown:
        for part in _parts(result):
            console.print(part)
    lines = [" ".join(line.split()) for line in shown.get().splitlines()]
    assert any(
        line.startswith("weight-10 PASS 400 new, 3 600 running: closest: error_rate (compare) +")
        for line in lines
    ), lines
    assert any(
        line.startswith(
            "weight-50 FAIL 200 new, 200 running: error_rate (compare) 10 % against 0 %: "
        )
        for line in lines
    ), lines
    rows = [line for line in step_summary(result).splitlines() if line.startswith("| weight-")]
    assert [row.split(" | ")[1] for row in rows] == ["PASS", "FAIL"]


@pytest.mark.parametrize(
    ("given", "short", "between", "allowed"),
    [
        (
            {"rule": "compare", "signal": "latency_p95", "low": 0.9, "high": 1.1, "limit": 0.25},
            "latency_p95 (compare) +10.0 % at most, +25 % allowed",
            "-10.0 % to +10.0 %",
            "+25 %",
        ),
        (
            {
                "rule": "compare",
                "signal": "error_rate",
                "estimate": 0.01,
                "stable": 0.02,
                "low": -0.02,
                "high": 0.04,
                "limit": 0.02,
            },
            "error_rate (compare) 1 % against 2 %: no sign of worse, not yet shown to be within "
            "+2 points",
            "-2.00 points to +4.00 points",
            "+2 points",
        ),
        (
            {"rule": "sla", "signal": "throughput", "estimate": 12.0, "limit": 10.0},
            "throughput (sla) 12/s, ≥ 10/s",
            NONE,
            "≥ 10/s",
        ),
        (
            {
                "rule": "compare",
                "signal": "latency_p50",
                "verdict": "FAIL",
                "estimate": 0.9,
                "stable": 0.3,
                "low": 2.0,
                "high": 4.0,
                "limit": 0.5,
            },
            "latency_p50 (compare) 900 ms against 300 ms: +100.0 % at least, +50 % allowed",
            "+100.0 % to +300.0 %",
            "+50 %",
        ),
        (
            {"rule": "quality", "signal": "answers", "low": -0.01, "high": 0.02, "limit": 0.05},
            "answers (quality): ",
            "-1.00 points to +2.00 points",
            "-5 points",
        ),
    ],
)
def test_findings_in_words(given: dict[str, Any], short: str, between: str, allowed: str) -> None:
    finding = Finding.model_validate({"verdict": "PASS", **given})
    assert (in_short(finding), interval(finding), limit(finding)) == (short, between, allowed)


def test_a_phase_without_findings_tells_its_reason() -> None:
    assert what_decided(Phase(name="weight-5", weight=5, verdict="ERROR", reason="gone")) == "gone"
