"""Judges of known quality, held against labels: what is told about them, and the exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.commands import main
from pytest_llmdeploy.gates.assertions.graded.prompts import RUBRIC
from tests.raw_server import RawServer, as_json, completion

Say = Callable[[str, int], Any]
"""What the judge replies to an answer, asked about it for the n-th time: members, or a text."""


@contextmanager
def judge(say: Say) -> Iterator[str]:
    """Serve a judge; yield its base URL."""
    asked: dict[str, int] = {}

    def respond(request: bytes, _: int) -> Iterator[bytes]:
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        user = body["messages"][-1]["content"]
        answer = json.loads(re.search(r"BEGIN answer \w+\n(.*)\nEND answer", user)[1])  # type: ignore[index]
        asked[answer] = asked.get(answer, 0) + 1
        said = say(answer, asked[answer])
        if isinstance(said, Mapping):
            said = json.dumps({"id": user.rpartition("The key is ")[2].rstrip("."), **said})
        yield as_json(completion(said))

    with RawServer(respond) as server:
        yield f"{server.url}/v1"


def verdict(passes: bool, reason: str = "so it is") -> dict[str, Any]:
    return {"reason": reason, "pass": passes, "score": float(passes)}


def labels(folder: Path, n: int = 40, passes: int | None = None) -> Path:
    """Write answers a0, a1, …: the first `passes` of them (half of them) are labelled pass."""
    passing = n // 2 if passes is None else passes
    rows = [
        {
            "id": f"a{number}",
            "answer": f"a{number}",
            "assert": "llm-rubric: is good",
            "label": "pass" if number < passing else "fail",
        }
        for number in range(n)
    ]
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def number(answer: str) -> int:
    return int(answer[1:])


def calibrate(
    capsys: pytest.CaptureFixture[str], path: Path, say: Say, *more: str
) -> tuple[int, str]:
    with judge(say) as url:
        code = main(["calibrate-judge", str(path), "--base-url", url, "--model", "j", *more])
    said = capsys.readouterr()
    assert said.err == ""
    return code, said.out


def test_the_whole_output_of_a_usable_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(answer: str, time: int) -> Any:
        if answer == "a5":
            return "I like it"
        good = number(answer) < 20
        if answer == "a30":
            return verdict(not good, "looks good")
        if answer == "a7" and time == 2:
            return verdict(False, "not today")
        return verdict(good)

    output = tmp_path / "out.json"
    code, out = calibrate(capsys, labels(tmp_path), say, "--output", str(output))
    key = RUBRIC.key({"rubric": "is good", "answer": "a30"})
    assert out.splitlines() == [
        "judge: j, 1 vote an answer",
        "labels: 40, of which 39 have a verdict; 1 have none, 1 of them as the reply could not be"
        " used",
        "",
        "                judge: pass   judge: fail    no verdict",
        "  label: pass            19             0             1",
        "  label: fail             1            19             0",
        "",
        "agreement: 97.4% (from 89.3% to 99.4%, each with 95 % confidence); always saying"
        " pass: 48.7%",
        "Cohen's kappa: 0.95",
        "self-consistency: 38 of 39 answers came out the same 2 times (97.4%, from 89.3%);"
        " kappa each time 0.95, 0.90",
        "",
        "judged against the label: 1",
        "  a30: label fail, judge pass, then pass",
        '    expected the answer to satisfy "is good": met; it replied {"id": "'
        + key
        + '", "reason": "looks good", "pass": true, "score": 1.0}',
        "",
        "judged otherwise when asked again: 1",
        "  a7: label pass, judge pass, then fail",
        '    expected the answer to satisfy "is good", the judge j says otherwise (score 0.00):'
        ' "not today"',
        "",
        "without a verdict: 1",
        "  a5: label pass, judge no verdict, then no verdict",
        '    the judge\'s reply is no JSON object: "I like it"',
        "",
        "USABLE: kappa is 0.95 over 39 labels, at least 0.6; for answers and rubrics like these",
        "The limits are conventions: kappa 0.6 and 0.4 of Landis and Koch (1977), 30 labels, 10%"
        " without a verdict.",
    ]
    assert code == 0
    data = json.loads(output.read_text())
    assert (data["exit_code"], data["judged"], data["judge"]["models"]) == (0, 39, ["raw"])
    assert list(data["judge"]["prompts"]) == ["llm-rubric"]
    assert data["answers"][30]["evidence"][0]["votes"][0]["passed"] is True


@pytest.mark.parametrize(
    ("n", "passes", "say", "code", "sentence"),
    [
        (40, 20, lambda a: verdict(number(a) % 20 < 12), 1, "NOT USABLE: it may agree with"),
        # Right in 29 of 40: kappa 0.45.
        (40, 20, lambda a: verdict((number(a) < 20) ^ (number(a) % 4 == 3)), 1, "WEAK: kappa is"),
        (40, 36, lambda _: verdict(True), 1, "NOT USABLE: it may agree with people in 79.5%"),
        (20, 10, lambda a: verdict(number(a) < 10), 11, "INCONCLUSIVE: 20 labelled answers were"),
        (40, 40, lambda _: verdict(True), 11, "INCONCLUSIVE: every answer is labelled pass;"),
        (40, 20, lambda _: "?", 10, "NOT MEASURED: 40 of 40 answers have no verdict (100%, at"),
        (
            40,
            20,
            lambda a: "?" if number(a) < 5 else verdict(number(a) < 20),
            10,
            "NOT MEASURED: 5 of 40 answers have no verdict (12%, at",
        ),
    ],
)
def test_what_makes_a_judge_of_no_use(
    n: int,
    passes: int,
    say: Callable[[str], Any],
    code: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = labels(tmp_path, n, passes)
    ended, out = calibrate(capsys, path, lambda answer, _: say(answer), "--again", "1")
    assert out.splitlines()[-2].startswith(sentence)
    assert ended == code


def test_the_votes_of_each_time_are_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    most: dict[str, int] = {}

    def say(answer: str, time: int) -> Any:
        most[answer] = time
        return verdict((number(answer) < 15) ^ (time % 3 == 1))  # outvoted by the other two

    code, out = calibrate(capsys, labels(tmp_path, 30), say, "--votes", "3", "--again", "2")
    assert code == 0
    assert set(most.values()) == {6}
    assert "30 of 30 answers came out the same 2 times" in out


def test_a_judge_that_lets_nobody_in_is_asked_no_further(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RawServer(lambda *_: [as_json({"error": {"message": "who?"}}, "401 No")]) as server:
        arguments = ["--base-url", f"{server.url}/v1", "--model", "j"]
        code = main(["calibrate-judge", str(labels(tmp_path)), *arguments])
        asked = len(server.requests)
    out = capsys.readouterr().out
    assert code == 10
    assert "of which 0 have a verdict; 40 have none, 0 of them as the reply could not" in out
    assert "401" in out
    assert asked <= 4  # as many as are asked side by side


def test_the_key_of_the_judge_is_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "s3cret-of-the-judge")
    output = tmp_path / "out.json"
    code, out = calibrate(
        capsys,
        labels(tmp_path, 30),
        lambda answer, _: verdict(number(answer) >= 15, "s3cret-of-the-judge"),
        *("--api-key-env", "JUDGE_KEY", "--output", str(output)),
    )
    assert code == 1
    assert "s3cret" not in out + output.read_text()


def test_labels_in_a_csv_and_a_gate_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "labels.csv"
    rows = [f"{n},Good?,a{n},llm-rubric: is good,{'pass' if n < 15 else 'fail'}" for n in range(30)]
    table.write_text("__id,question,answer,__expected,label\n" + "\n".join(rows) + "\n")
    config = tmp_path / "llmdeploy.yaml"
    with judge(lambda answer, _: verdict(number(answer) < 15)) as url:
        config.write_text(
            "environments: {local: {url: 'http://127.0.0.1:1'}}\n"
            "gates:\n"
            "  g:\n"
            "    prompt: hello\n"
            "    cases: [{id: a, assert: ['llm-rubric: is good']}]\n"
            f"    judge: {{endpoint: {{base_url: '{url}', model: dated}}, votes: 3}}\n"
        )
        command = ["calibrate-judge", str(table), "--config", str(config), "--env", "local"]
        assert main([*command, "--gate", "g"]) == 0
        assert capsys.readouterr().out.startswith("judge: dated, 3 votes an answer\n")
        assert main([*command, "--gate", "h"]) == 2
        assert capsys.readouterr().err == f"llmdeploy: {config} has no gate 'h'; its gates: g\n"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"label": "good"}, ":1: label: expected pass or fail, got 'good'"),
        ({"answer": 3}, ":1: answer: expected the answer as a text, got 3"),
        ({"lable": "pass"}, ":1: lable: unknown key 'lable', did you mean 'label'?"),
        (
            {"assert": ["llm-rubric: x", "llm-rubric: y"]},
            ":1: assert: a label is about one assertion: give one, and a row each for others",
        ),
        ({"assert": "contains: x"}, ":1: assert: no judge decides contains; a judge decides "),
        ({"question": 1}, ":1: question: expected a text, got 1"),
        ({"assert": "llm-rubic: x"}, ":1: assert: there is no assertion type 'llm-rubic'"),
    ],
)
def test_bad_labels(
    row: dict[str, Any], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "labels.jsonl"
    good = {"answer": "a", "assert": "llm-rubric: x", "label": "pass"}
    path.write_text(json.dumps({**good, **row}))
    assert main(["calibrate-judge", str(path), "--base-url", "http://x", "--model", "j"]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            [],
            "name the judge: --gate NAME for that of a gate, or --base-url URL with --model NAME",
        ),
        (["--base-url", "http://x"], "--base-url needs --model: a judge is pinned by its name"),
        (
            ["--base-url", "x", "--model", "j"],
            "--base-url: 'x' begins with no http:// or https://",
        ),
        (
            ["--base-url", "http://x", "--model", "j", "--api-key-env", "NOT_SET"],
            "--api-key-env: the variable NOT_SET is not set or is empty",
        ),
        (
            ["--gate", "g", "--model", "j"],
            "--model belongs to --base-url; the gate has a judge already",
        ),
    ],
)
def test_who_judges_must_be_clear(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate-judge", str(labels(tmp_path)), *arguments]) == 2
    assert capsys.readouterr().err == f"llmdeploy: {said}\n"
