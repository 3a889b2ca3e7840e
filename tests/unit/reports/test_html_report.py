"""The page as a reader finds it: its words, its rows, and what must never be in it."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.reports.html import summary as summaries
from pytest_llmdeploy.reports.html.summary import Summary
from pytest_llmdeploy.reports.html_report import page, write_html
from pytest_llmdeploy.reports.result import RunResult
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.reports.samples import (
    Json,
    capacity,
    comparison,
    event,
    full_run,
    load_event,
    load_summary,
    run,
    write_summary,
)

VOID = {"link", "meta", "br"}


class Page(HTMLParser):
    """A page taken apart; fails where an element is not closed in its order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: Counter[str] = Counter()
        self.tables: list[list[list[str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self._cell: list[str] | None = None
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in VOID:
            return
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = self.tables[-1][-1]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data
        if self._cell is not None and "title" not in self._open:
            self._cell[-1] += data

    def rows(self, *heads: str) -> list[list[str]]:
        """Return the body of the only table whose first heads these are."""
        (found,) = [each for each in self.tables if tuple(each[0][: len(heads)]) == heads]
        return found[1:]


def seen(result: RunResult) -> Page:
    return Page(page(result))


def first_reasons(result: RunResult) -> list[str]:
    """Return the banner: the verdict and labels in one text, then the reasons."""
    banner = page(result).partition("<section")[2].partition("</section>")[0]
    parts = [re.sub("<[^>]*>", "", part) for part in banner.partition(">")[2].split("<p")]
    return [part.rpartition(">")[2].strip() for part in parts]


@pytest.fixture
def whole(tmp_path: Path) -> Page:
    return seen(full_run(tmp_path))


def with_summary(output: Path, summary: Json, *events: Json) -> RunResult:
    write_summary(output, summary)
    return run(output, events or [load_event(summary["name"], "ttft_p95")])


def test_the_page_asks_for_nothing_and_runs_nothing(whole: Page) -> None:
    assert not {"script", "iframe", "object", "embed", "img", "form"} & set(whole.tags)
    assert not [found for found in whole.attributes if found[1].startswith("on")]
    assert not [found for found in whole.attributes if found[1] in ("src", "srcset", "action")]
    links = {value for _, name, value in whole.attributes if name in ("href", "xlink:href")}
    assert links == {"data:,", "#gate-1", "#load-1", "#load-2", "#load-3", "#load-4"}
    anchors = [value for _, name, value in whole.attributes if name == "id"]
    assert sorted(anchors) == ["gate-1", "hatch", "load-1", "load-2", "load-3", "load-4"]
    assert set(re.findall(r"url\([^)]*\)|@import", whole.source)) == {"url(#hatch)"}
    policies = [value for _, name, value in whole.attributes if name == "content"]
    assert "default-src 'none'; style-src 'unsafe-inline'" in policies[0]


def test_every_chart_has_a_name_and_tells_what_it_shows(whole: Page) -> None:
    images = re.findall(r"<svg[^>]* role=\"img\"[^>]*>(<title>)?", whole.source)
    names = re.findall(r"<svg[^>]* role=\"img\"[^>]* aria-label=\"[^\"]+\"", whole.source)
    assert whole.tags["figure"] == 3 * 3 + 1
    assert len(names) == len(images) >= whole.tags["figure"]
    assert set(images) == {"<title>"}


def test_a_usual_page_is_small(tmp_path: Path) -> None:
    write_html(full_run(tmp_path))
    assert (tmp_path / "report.html").stat().st_size < 200_000
    write_html(with_summary(tmp_path, load_summary(seconds=7200)))
    assert (tmp_path / "report.html").stat().st_size < 100_000


@pytest.mark.parametrize(
    ("events", "more", "banner"),
    [
        ([event("health", "up")], {}, ["✓ PASS", "The only item passed."]),
        (
            [event("health", "up", Verdict.FAIL, "status 500")],
            {"exit_code": 1},
            ["✗ FAIL", "health::up: status 500"],
        ),
        (
            [event("health", "up"), event("load", "x", Verdict.INCONCLUSIVE, "too few requests")],
            {"exit_code": 11},
            [
                "? INCONCLUSIVE",
                "load::x: too few requests",
                "Of 2 items that decide: 1 PASS, 1 INCONCLUSIVE.",
            ],
        ),
        (
            [event("health", "up", Verdict.ERROR, "no answer")],
            {"exit_code": 10},
            ["! ERROR", "health::up: no answer"],
        ),
        ([], {}, ["! ERROR", "Nothing was asked, so nothing was measured."]),
        (
            [event("health", "up")],
            {"interrupted": True, "exit_code": 2},
            ["! ERROR· INTERRUPTED", "The run was interrupted: what follows is not the whole."],
        ),
        (
            [event("health", "up", Verdict.FAIL, "status 500")],
            {"interrupted": True, "exit_code": 2},
            [
                "✗ FAIL· INTERRUPTED",
                "health::up: status 500",
                "The run was interrupted: what follows is not the whole.",
            ],
        ),
        (
            [event("health", "up")],
            {"not_collected": True, "exit_code": 2},
            ["! ERROR", "Not everything could be collected, so it was not asked."],
        ),
        (
            [event("health", "up")],
            {"others_failed": True, "exit_code": 1},
            ["✗ FAIL", "Tests without a verdict of llmdeploy failed too."],
        ),
        (
            [event("health", "up")],
            {"exit_code": 3},
            ["✓ PASS", "pytest itself ended with exit code 3.", "The only item passed."],
        ),
        (
            [event("health", "up", scripted=True)],
            {},
            [
                "✓ PASS· SCRIPTED",
                "The only item passed.",
                "SCRIPTED answers: no model was judged.",
            ],
        ),
    ],
)
def test_the_verdict_comes_first_with_its_reason(
    tmp_path: Path, events: list[Json], more: dict[str, Any], banner: list[str]
) -> None:
    assert first_reasons(run(tmp_path, events, **more)) == banner


def test_run_facts(tmp_path: Path) -> None:
    events = [event("health", "up"), event("smoke", "x", version=None), event("tests", "y")]
    found = seen(run(tmp_path, [*events, event("tests", "z", environment="", service="")]))
    facts = dict(zip(found.texts["dt"], found.texts["dd"], strict=True))
    assert facts == {
        "Environment": "staging",
        "Service": "chat",
        "Version": "1.4.0, unknown",
        "Run": "20250301-120000-ab12",
        "Started": "2025-03-01 12:00:00 UTC",
        "Duration": "96.2 s",
        "Exit code": "0",
    }


def test_stages_attention_and_gates(whole: Page) -> None:
    assert whole.rows("Stage") == [
        ["health", "✓ PASS", "1 PASS"],
        ["smoke", "! ERROR", "1 PASS, 1 ERROR"],
        ["gates", "✓ PASS", "2 PASS; counted by a gate: 1 FAIL"],
        ["load", "✗ FAIL", "3 PASS, 1 FAIL, 1 INCONCLUSIVE, 1 ERROR"],
    ]
    deciding, counted = [each[1:] for each in whole.tables if each[0][0] == "Item"]
    unsure = "the interval holds the limit: 2400 requests would tell"
    assert [row[:2] for row in deciding] == [
        ["smoke::stream", "! ERROR"],
        ["load::outage::ttft_p95", "✗ FAIL"],
        ["load::outage::error_rate", "? INCONCLUSIVE"],
        ["load::lost::ttft_p95", "! ERROR"],
    ]
    assert deciding[2][2] == unsure
    assert counted == [["gates::capitals::peru", "✗ FAIL", "equals 'Lima': got 'Cusco'"]]
    reason = "pass rate 0.93 (28 of 30) >= min_pass_rate 0.90"
    gate = ["capitals", "✓ PASS", "93.33 %", "90 %", "28", "2", "0", reason]
    assert whole.rows("Gate") == [gate]


def test_each_summary_is_shown_once_with_the_items_verdicts(whole: Page) -> None:
    loads = [text for text in whole.texts["h2"] if text.startswith("Load")]
    assert loads == [
        "Load: steady ✓ PASS",
        "Load: outage ✗ FAIL",
        "Load: peak ✓ PASS",
        "Load: lost ! ERROR",
    ]
    assert whole.texts["li"][:3] == [
        "✓ PASS steady::ttft_p95",
        "✓ PASS steady::error_rate",
        "✗ FAIL outage::ttft_p95",
    ]
    missing = "No measurements to show: records/load/lost/summary.json cannot be read: "
    assert [text for text in whole.texts["p"] if text.startswith(missing)] == [
        missing + "No such file or directory."
    ]


def test_objectives_with_their_numbers(tmp_path: Path) -> None:
    summary = load_summary(failing=True)
    objective = summary["objectives"][1]
    summary["objectives"] += [
        {**objective, "name": "itl_p99", "text": "itl_p99 <= 0.05", "limit": 0.05, "value": 0.0123,
         "lower": 0.011, "upper": None, "verdict": "ERROR"},
        {**objective, "name": "throughput", "text": "throughput >= 18", "limit": 18, "value": 20.04,
         "lower": 19.5, "upper": 20.6, "verdict": "PASS"},
        {**objective, "name": "goodput", "text": "goodput >= 0.9", "limit": 0.9, "value": None,
         "lower": None, "upper": None, "n": 0, "verdict": "INCONCLUSIVE"},
    ]  # fmt: skip
    rows = seen(with_summary(tmp_path, summary)).rows("Objective")
    n = f"{summary['judged'] // 1000}\u202f{summary['judged'] % 1000:03d}"
    unsure = objective["reason"]
    late = "16 % of 1199 requests took longer than 0.8 s; 5 % may"
    assert rows == [
        ["ttft_p95 <= 0.8", "✗ FAIL", "∞", "\u2013", "800 ms", n, late],
        ["error_rate <= 0.05", "? INCONCLUSIVE", "10.49 %", "4.2 % … 11.8 %", "5 %", n, unsure],
        ["itl_p99 <= 0.05", "! ERROR", "12.3 ms", "11 ms … ∞", "50 ms", n, unsure],
        ["throughput >= 18", "✓ PASS", "20/s", "19.5/s … 20.6/s", "18/s", n, unsure],
        ["goodput >= 0.9", "? INCONCLUSIVE", "\u2013", "\u2013", "90 %", "0", unsure],
    ]


def test_what_failed_is_visible_in_the_distributions(tmp_path: Path) -> None:
    summary = load_summary(failing=True)
    failed = summary["intended"] - summary["classes"]["ok"]
    found = seen(with_summary(tmp_path, summary))
    part = f"{100 * failed / summary['intended']:.2f} %"
    told = f"The hatched part is failure: {part} of the judged requests have no latency."
    assert sum(told in text for text in found.texts["figcaption"] + found.texts["p"]) == 2
    assert found.source.count('class="lost"') == 2
    ttft = found.rows("Latency")[0]
    assert ttft[0] == "Time to first token"
    assert ttft[3] == ttft[4] == ttft[5] == "∞"
    healthy = seen(with_summary(tmp_path, load_summary()))
    assert 'class="lost"' not in healthy.source


def test_a_wide_range_of_latencies_is_drawn_logarithmically(tmp_path: Path) -> None:
    summary = load_summary()
    for high, log in ((0.9, False), (30.0, True)):
        summary["cdf"] = {"ttft": {"intended": [[0.1, 0.5], [high, 1.0]], "sent": []}}
        summary["objectives"] = []
        text = page(with_summary(tmp_path, summary))
        assert ("log scale" in text.partition("<figcaption>Timeline")[0]) == log


def test_ends_versions_clients_and_failures(tmp_path: Path) -> None:
    summary = load_summary()
    summary |= {
        "classes": {"reset": 9, "ok": 980, "http_5xx": 11},
        "versions": {"1.0": 700, "2.0": 280},
        "clients": {"keep_alive": {"intended": 1000, "ok": 980}, "idle": {"intended": 0, "ok": 0}},
        "failures": [{"class": "http_5xx", "count": 11, "detail": "status 503"}],
    }
    found = seen(with_summary(tmp_path, summary))
    assert found.rows("End", "Requests", "Share") == [
        ["ok", "980", "98 %", ""],
        ["http_5xx", "11", "1.1 %", ""],
        ["reset", "9", "0.9 %", ""],
    ]
    assert found.rows("Version") == [["1.0", "700", "71.43 %", ""], ["2.0", "280", "28.57 %", ""]]
    assert found.rows("Client") == [
        ["keep_alive", "1\u202f000", "980", "98 %"],
        ["idle", "0", "0", "\u2013"],
    ]
    assert found.rows("End", "Requests", "Detail") == [["http_5xx", "11", "status 503"]]


def test_a_saturated_generator_says_so(tmp_path: Path) -> None:
    summary = load_summary()
    summary["generator"] |= {
        "verdict": "saturated",
        "reason": "sent late by 210 ms",
        "check": None,
    }
    found = seen(with_summary(tmp_path, summary))
    facts = dict(zip(found.texts["dt"], found.texts["dd"], strict=True))
    assert facts["Verdict"] == "! SATURATED"
    assert facts["Self-check against a mock"] == "not made"
    assert "sent late by 210 ms" in found.texts["p"]


def test_an_error_is_told_above_what_was_measured(tmp_path: Path) -> None:
    summary = load_summary() | {"error": "generator saturated at 40 req/s"}
    del summary["objectives"]
    found = seen(with_summary(tmp_path, summary))
    told = (
        "generator saturated at 40 req/s. What follows was measured all the same; "
        "it is no verdict on the service."
    )
    assert told in found.texts["p"]
    assert "No objective was judged." in found.texts["p"]
    assert found.rows("Latency")


def test_notes_events_and_what_is_not_judged(tmp_path: Path) -> None:
    summary = load_summary(seconds=30)
    summary |= {
        "window": [5.0, 25.0],
        "notes": ["closed loop: a stall delays the requests behind it"],
        "events": [{"at": 12.5, "label": "revision 2 takes 10 %"}],
    }
    found = seen(with_summary(tmp_path, summary))
    assert summary["notes"][0] in found.texts["p"]
    assert "revision 2 takes 10 %" in found.texts["text"]
    (told,) = [text for text in found.texts["p"] if text.startswith("Each point")]
    assert told == (
        "Each point is 1 s. Grey is not judged: only 5 s to 25 s is. "
        "Marked: 12.5 s revision 2 takes 10 %."
    )
    assert found.source.count("<title>not judged</title>") == 2 * 3


def test_capacity(tmp_path: Path) -> None:
    found = seen(with_summary(tmp_path, load_summary() | {"capacity": capacity()}))
    rows = found.rows("Rate", "Verdict")
    assert [row[0] for row in rows[:3]] == ["10/s", "20/s", "30/s"], "not as they were made"
    assert rows[-1] == [
        "80/s", "✗ FAIL", "8 %", "∞", "∞", "+41.00/s", "no", "2\u202f400", "ttft_p95 <= 0.8 missed",
    ]  # fmt: skip
    assert "Highest rate 36/s, between 36/s and 40/s, by 7 probes." in found.texts["p"]
    assert "capacity 36/s" in found.texts["text"]
    (line,) = re.findall(r'd="([^"]*)" class="s1"><title>share of good', found.source)
    along = [float(point.split(" ")[0]) for point in re.split("[ML]", line)[1:]]
    assert along == sorted(along)
    assert len(along) == 7
    marks = Counter(re.findall(r'class="(m-\w+)"', found.source))
    assert marks == {"m-pass": 4, "m-fail": 2, "m-inconclusive": 1}


def test_runs_that_confirm_a_search(tmp_path: Path) -> None:
    run_above = {"rate": 50.0, "expected": "FAIL", "verdict": "PASS", "n": 1500, "reason": "held"}
    found = seen(
        with_summary(
            tmp_path, load_summary() | {"capacity": capacity() | {"confirmations": [run_above]}}
        )
    )
    assert found.rows("Rate", "Expected") == [["50/s", "✗ FAIL", "✓ PASS", "1\u202f500", "held"]]


def test_a_search_that_found_nothing(tmp_path: Path) -> None:
    empty: Json = {
        "rate": None,
        "low": None,
        "high": None,
        "verdict": "ERROR",
        "reason": "no probe could be made",
        "probes": [],
    }
    found = seen(with_summary(tmp_path, load_summary() | {"capacity": empty}))
    assert "Capacity ! ERROR" in found.texts["h3"]
    assert "no probe could be made" in found.texts["p"]


def test_comparison(tmp_path: Path) -> None:
    found = seen(with_summary(tmp_path, load_summary() | {"comparison": comparison()}))
    rows = found.rows("Metric")
    blocks = "20 blocks a side"
    assert rows[0] == [
        "ttft_p95", "✓ PASS", "410 ms", "420 ms", "1.02", "0.97 … 1.07", "1.1", "", blocks,
    ]  # fmt: skip
    none = "\u2013"
    assert rows[3] == [
        "itl_p99", "? INCONCLUSIVE", "80 ms", "∞", none, none, "1.1", "", blocks,
    ]  # fmt: skip
    assert found.source.count('class="forest"') == 4


def unreadable(text: str) -> Callable[[Path], None]:
    return lambda output: write_summary(output, load_summary(), text)


def changed(**values: object) -> Callable[[Path], None]:
    return lambda output: write_summary(output, load_summary() | values)


def without(key: str) -> Callable[[Path], None]:
    kept = {name: value for name, value in load_summary().items() if name != key}
    return lambda output: write_summary(output, kept)


def as_folder(output: Path) -> None:
    (output / "records/load/steady/summary.json").mkdir(parents=True)


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda output: None, "cannot be read: No such file or directory"),
        (as_folder, "cannot be read: Is a directory"),
        (unreadable(""), "holds no JSON: Expecting value: line 1 column 1 (char 0)"),
        (unreadable('{"format": NaN}'), "holds no JSON: NaN is no JSON number"),
        (unreadable("[" * 100_000), "holds no JSON: the JSON is nested too deeply"),
        (unreadable("[]"), "is no summary of a load run: whole: Input should be"),
        (changed(format=2), "is no summary of a load run: format: Input should be 1"),
        (without("judged"), "is no summary of a load run: judged: Field required"),
        (changed(classes=[]), "is no summary of a load run: classes: Input should be"),
        (changed(intended=-1), "is no summary of a load run: intended: Input should be"),
        (
            unreadable('{"format": 1, "error": null, "skipped": "it would cost\\n too much"}'),
            "says why: it would cost too much.",
        ),
        (unreadable('{"error": "the worker died"}'), "says why: the worker died."),
        (changed(duration=1e300), "is no summary of a load run: duration: Input should be"),
    ],
)
def test_a_summary_that_cannot_be_shown(
    tmp_path: Path, prepare: Callable[[Path], None], why: str
) -> None:
    prepare(tmp_path)
    found = seen(run(tmp_path, [load_event("steady", "ttft_p95", Verdict.ERROR, "lost")]))
    (note,) = [text for text in found.texts["p"] if text.startswith("No measurements to show: ")]
    assert f"records/load/steady/summary.json {why}" in note
    assert "load::steady::ttft_p95" in found.source


def test_a_summary_outside_of_the_run_is_not_read(tmp_path: Path) -> None:
    output = tmp_path / "run"
    output.mkdir()
    (tmp_path / "secret.json").write_text(json.dumps(load_summary("secret")), encoding="utf-8")
    (output / "linked.json").symlink_to(tmp_path / "secret.json")
    (output / "circle.json").symlink_to(output / "circle.json")
    names = ("../secret.json", str(tmp_path / "secret.json"), "linked.json", "circle.json", "a\0b")
    for name in names:
        detail = {"summary": name}
        text = page(run(output, [event("load", "steady::x", detail=detail)]))
        assert "No measurements to show" in text
        assert "secret</h2>" not in text
        assert "Objectives" not in text


def test_a_huge_summary_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "LARGEST", 1024)
    assert "is larger than 0 MiB" in page(with_summary(tmp_path, load_summary()))


def test_other_stages_and_other_details_name_no_summary(tmp_path: Path) -> None:
    events = [
        event("gates", "a::b", detail={"summary": "records/x.json"}),
        event("load", "steady::x", detail={"summary": 3}),
    ]
    assert "No measurements to show" not in page(run(tmp_path, events))


HOSTILE = "</title></style><script>document.title='run'</script><img src=x onerror=alert(1)>\"'&"


def poisoned(value: Any) -> Any:
    """Return a copy in which all texts, also those that are keys, hold markup."""
    if isinstance(value, str):
        return value if value in set(Verdict) else value + HOSTILE
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    if isinstance(value, dict):
        return {key: poisoned(item) for key, item in value.items()}
    return value


def test_foreign_markup_is_text(tmp_path: Path) -> None:
    def poison(result: RunResult) -> RunResult:
        events = [copy.deepcopy(dict(each)) for each in result.events]
        for each in events:
            keys = ("name", "reason", "environment", "service", "version")
            each |= {key: each[key] + HOSTILE for key in keys}
        return run(tmp_path, events, exit_code=1, run_id="id" + HOSTILE)

    harmless = full_run(tmp_path)
    expected = seen(harmless)
    for name in ("steady", "outage", "peak"):
        path = tmp_path / f"records/load/{name}/summary.json"
        summary = poisoned(json.loads(path.read_text(encoding="utf-8")))
        for key in ("classes", "versions", "clients"):
            summary[key] = {entry + HOSTILE: value for entry, value in summary[key].items()}
        path.write_text(json.dumps(summary), encoding="utf-8")
    found = seen(poison(harmless))
    assert found.source.count("&lt;script&gt;") > 50
    assert "<script" not in found.source
    assert set(found.tags) == set(expected.tags)
    assert {(tag, name) for tag, name, _ in found.attributes} <= {
        (tag, name) for tag, name, _ in expected.attributes
    }


def test_what_steers_terminals_or_turns_text_around_is_replaced(tmp_path: Path) -> None:
    reason = "a\x00b\x1b[31m\u202egnp\u2066 half \ud800 joined \U0001f469\u200d\U0001f4bb\nline two"
    result = run(tmp_path, [event("health", "up", Verdict.FAIL, reason)], exit_code=1)
    write_html(result)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (
        "a\ufffdb\ufffd[31m\ufffdgnp\ufffd half \ufffd joined \U0001f469\u200d\U0001f4bb\nline two"
        in text
    )


def test_a_long_reason_is_cut_and_says_so(tmp_path: Path) -> None:
    result = run(tmp_path, [event("health", "up", Verdict.FAIL, "x" * 1_000_000)], exit_code=1)
    text = page(result)
    assert "xxx … (996000 more characters in report.json)" in text
    assert len(text) < 30_000


def test_the_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_html(run(tmp_path, [event("health", "up")]))
    before = (tmp_path / "report.html").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    (tmp_path / "report.html.partial").mkdir()
    with pytest.raises(IsADirectoryError):
        write_html(run(tmp_path, [event("health", "up", Verdict.FAIL, "no")], exit_code=1))
    assert (tmp_path / "report.html").read_bytes() == before


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*way, key))


COMPLETE = load_summary(failing=True, seconds=6) | {
    "capacity": capacity(),
    "comparison": comparison(),
    "cdf": {"ttft": {"intended": [[0.1, 0.5], [0.4, 0.9]], "sent": [[0.1, 0.5]]}},
}
LEAVES = list(leaves(COMPLETE))[1:]
NUMBERS = st.sampled_from([0, -1, 1, 5e-324, 1e-12, 1e-9, 0.1, 1e12, -1e12, 1e15, 10**15, 10**400])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.builds(list),
    st.builds(dict),
    st.lists(NUMBERS, max_size=4),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(LEAVES), VALUES), min_size=1, max_size=4))
def test_no_summary_breaks_the_page(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[tuple[Any, ...], Any]]
) -> None:
    summary = copy.deepcopy(COMPLETE)
    for way, value in changes:
        place: Any = summary
        try:
            for key in way[:-1]:
                place = place[key]
            place[way[-1]] = copy.deepcopy(value)  # a change of it must not reach another example
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change took the place away
    output = tmp_path_factory.getbasetemp() / "fuzzed"
    (output / "records").mkdir(parents=True, exist_ok=True)
    (output / "records/any.json").write_text(json.dumps(summary), encoding="utf-8")
    detail = {"summary": "records/any.json"}
    found = seen(run(output, [event("load", "steady::x", Verdict.FAIL, "no", detail=detail)]))
    numbers = [value for _, name, value in found.attributes if name in ("d", "x1", "y", "width")]
    assert not [value for value in numbers if "nan" in value or "inf" in value]


def test_the_sample_is_a_summary_in_every_field() -> None:
    told = Summary.model_validate(COMPLETE).model_dump(by_alias=True, exclude_unset=True)
    assert json.loads(json.dumps(told)) == json.loads(json.dumps(COMPLETE))
