"""A gate that a judge decides, from the request to the report, and again without the judge."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pytest_llmdeploy.gates.assertions.graded.prompts import RUBRIC
from tests.plugin.conftest import Project
from tests.raw_server import RawServer, as_json, completion

CONFIG = """
service: {model: scripted}
environments: {local: {url: "{url}"}}
health: {checks: []}
smoke: {checks: []}
gates:
  cities:
    prompt: "Say exactly: {{ word }}"
    assert: ["llm-rubric: names a city of France"]
    cases:
      - {id: good, vars: {word: Paris}}
      - {id: bad, vars: {word: Rome}}
CASES
    judge:
      endpoint: {base_url: "JUDGE/v1", model: judge-2026-06}
      votes: 3
"""
GARBAGE = "      - {id: garbled, vars: {word: Lyon}}"


def respond(request: bytes, _: int) -> Iterator[bytes]:
    """Judge: Paris passes, Lyon has no verdict, all else fails."""
    body = json.loads(request.partition(b"\r\n\r\n")[2])
    assert body["model"] == "judge-2026-06"
    user = body["messages"][-1]["content"]
    found = re.search(r"BEGIN answer \w+\n(.*)\nEND answer", user)
    assert found is not None
    answer = json.loads(found[1])
    if "Lyon" in answer:
        yield as_json(completion("Lyon is a fine place."))
        return
    good = "Paris" in answer
    key = user.rpartition("The key is ")[2].rstrip(".")
    said = {"id": key, "reason": "as it stands", "pass": good, "score": float(good)}
    yield as_json(completion(json.dumps(said)))


def test_a_judge_decides_and_its_verdicts_are_replayed_without_it(project: Project) -> None:
    with RawServer(respond) as judge:
        project.config(CONFIG.replace("JUDGE", judge.url).replace("CASES", ""))
        recorded = project.run("-m", "gates", "--llmdeploy-replay", "record")
        assert len(judge.requests) == 6
    assert recorded.code == 1
    assert recorded.verdicts() == {
        "gates::cities::good": "PASS",
        "gates::cities::bad": "FAIL",
        "gates::cities::gate": "FAIL",
    }
    (gate,) = recorded.report["gates"]
    assert gate["judges"] == [
        {
            "type": "llm-rubric",
            "judge": "judge-2026-06",
            "prompt_sha256": RUBRIC.sha256,
            "verdicts": 2,
        }
    ]
    assert "the judge judge-2026-06 says otherwise" in recorded.out
    replayed = project.run("-m", "gates", "--llmdeploy-replay", "strict")  # the judge is gone
    assert (replayed.code, replayed.verdicts()) == (1, recorded.verdicts())
    assert replayed.report["gates"][0]["judges"] == gate["judges"]


def test_a_judge_that_talks_instead_of_judging_makes_an_error(project: Project) -> None:
    with RawServer(respond) as judge:
        text = CONFIG.replace("JUDGE", judge.url).replace("CASES", GARBAGE)
        project.config(text.replace("      - {id: bad, vars: {word: Rome}}\n", ""))
        done = project.run("-m", "gates")
    assert done.code == 10
    assert done.verdicts() == {
        "gates::cities::good": "PASS",
        "gates::cities::garbled": "ERROR",
        "gates::cities::gate": "ERROR",
    }
    assert "3 of 3 votes failed: the judge's reply is no JSON object" in done.out
