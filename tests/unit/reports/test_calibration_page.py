from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pytest_llmdeploy.reports.html.calibration_page import write_page


def share(count: int, low: float, high: float, n: int = 100) -> dict[str, Any]:
    return {"count": count, "n": n, "share": count / n, "low": low, "high": high}


def simulated(caught: int, inconclusive: int = 0) -> dict[str, Any]:
    promoted = 100 - caught - inconclusive
    reach = {"p10": 2.0, "median": 4.0, "p90": 9.0} if caught else None
    return {
        "wanted": 100,
        "caught": share(caught, max(0, caught - 8) / 100, min(100, caught + 8) / 100),
        "inconclusive": share(inconclusive, 0, 0.1),
        "error": share(0, 0, 0.04),
        "promoted": share(promoted, 0, 1),
        "seconds": reach,
        "exposed": reach,
        "by": {"error_rate (compare)": caught} if caught else {},
    }


def case(name: str, says: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "what": f"about {name}", "says": says, "why": "so", "held": True, **more}


def measured(outcome: str, **more: Any) -> dict[str, Any]:
    usual = {"by": "error_rate (compare)", "reason": "<b>worse</b>", "weight": 10, "restored": True}
    return {"outcome": outcome, "seconds": 3.25, "exposed": 1234, **usual, **more}


DATA: dict[str, Any] = {
    "run": "20260101-000000-abcd",
    "service": "llm-<script>alert(1)</script>",
    "environment": "local",
    "started": "2026-01-01T00:00:00+00:00",
    "duration": 61.0,
    "speed": 10.0,
    "runs": 1,
    "seed": 0,
    "exit_code": 1,
    "policy": {
        "phases": [{"weight": 10, "duration": 300.0}],
        "compare": {"error_rate": 0.02, "latency_p95": None, "alpha": 0.05},
    },
    "figures": {"rate": 20.0, "error_rate": 0.002, "requests": 4321},
    "left_out": ["sla.cpu_usage"],
    "cases": [
        case("a-a", "promote", simulated=simulated(1), measured=[measured("promoted", by="")]),
        case("errors-5", "catch", simulated=simulated(90, 10), measured=[measured("caught")]),
        case("slow", "tolerate", simulated=simulated(0, 20), measured=[measured("inconclusive")]),
        case("crash", "catch", held=False, not_simulated="no figure", measured=[measured("error")]),
    ],
    "advice": ["Set compare.error_rate: 0.01 & wait."],
    "notes": ["something <i>left</i>"],
}


class Reader(HTMLParser):
    """Collects tags and texts; complains of what is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, name: str, attributes: Any) -> None:
        self.seen.append(name)
        if name not in {"meta", "link", "br"}:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        self.text += data


def page(folder: Path, **changes: Any) -> Reader:
    path = write_page(folder, DATA | changes)
    assert path == folder / "calibration.html"
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_the_page_shows_what_was_measured_and_what_was_simulated(tmp_path: Path) -> None:
    found = page(tmp_path)
    assert {"script", "b", "i", "img"}.isdisjoint(found.seen)
    for words in (
        "FAIL",
        "The policy does not do what it says: crash.",
        "llm-<script>alert(1)</script>",
        "something <i>left</i>",
        "all times divided by 10, so with fewer requests than the policy has",
        "4\u202f321 requests of a-a",
        "a-a · must pass",
        "errors-5 · must be caught",
        "crash · must be caught ✗",
        "not simulated: no figure",
        "✓ caught",
        "▲ promoted",
        "82.0 to 98.0",
        "caught by error_rate (compare) at 10 %",
        "1\u202f234",
        "Set compare.error_rate: 0.01 & wait.",
        "95 % interval of the share caught",
        "simulated: median 4 s, 2 s to 9 s",
        "measured: 3.25 s",
        "sla.cpu_usage",
    ):
        assert words in found.text, words
    assert found.seen.count("figure") == 3


def test_a_page_without_anything_caught_or_known(tmp_path: Path) -> None:
    nothing = [case("a-a", "unknown", not_simulated="no figures to simulate with")]
    found = page(tmp_path, cases=nothing, figures=None, advice=[], interrupted=True, exit_code=130)
    assert "Nothing was caught." in found.text
    assert "Interrupted: what was under way has been taken back." in found.text
    assert "What follows" not in found.text
    assert page(tmp_path, cases=[], exit_code=10).seen.count("figure") == 0


def test_a_good_policy(tmp_path: Path) -> None:
    good = [each for each in DATA["cases"] if each["held"]]
    found = page(tmp_path, cases=good, exit_code=0)
    assert "A version that is no worse passes" in found.text
    assert "Promoted, wholly or now and then: slow (tolerated)." in found.text
