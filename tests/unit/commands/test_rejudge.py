"""Recorded canaries, judged once more: the same by the same limits, never better by others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.commands import main
from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.release.canary.looks import read_looks
from pytest_llmdeploy.release.canary.replay import Replayed, replay
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.canary_records import CONFIG, IMAGE, Maker


def rejudge(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["rejudge", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def good(folder: Path) -> Path:
    made = Maker(folder)
    for _ in range(3):
        made.watch()
    return made.write()


def bad(folder: Path) -> Path:
    """A version that fails one request of ten from the second phase on."""
    made = Maker(folder)
    made.watch()
    made.watch(lambda look: 20 * look)
    return made.write()


def config_file(folder: Path, **changes: Any) -> Path:
    path = folder / "llmdeploy.yaml"
    environments = {"local": {"url": "http://127.0.0.1:1"}}
    file = {"environments": environments, "canary": {**CONFIG, **changes}}
    path.write_text(json.dumps(file))
    return path


def replayed(folder: Path, config: Mapping[str, Any]) -> list[Replayed]:
    looks: dict[str, list[Any]] = {}
    for look in read_looks(folder / "looks.jsonl"):
        looks.setdefault(look.phase, []).append(look)
    return replay(looks, CanaryConfig.model_validate(config), {}, None)


def test_by_its_own_limits_a_record_gives_its_own_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for make, code in ((good, 0), (bad, 1)):
        folder = make(tmp_path / make.__name__)
        ended, out, err = rejudge(capsys, folder)
        assert (ended, err) == (code, ""), out
        assert "CHANGED" not in out
        assert "earlier than it did" not in out
        result = json.loads((folder / "result.json").read_text())
        told = replayed(folder, result["canary"]["config"])
        for now, then in zip(told, result["canary"]["phases"], strict=True):
            assert (now.name, str(now.verdict), now.reason) == (
                then["name"],
                then["verdict"],
                then["reason"],
            )
            assert [each.to_json() for each in now.findings] == then["findings"]


def test_the_lines_of_a_failed_canary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = rejudge(capsys, bad(tmp_path / "local-1"))
    lines = out.splitlines()
    assert lines[0] == f"canary local-1: {IMAGE}, by the recorded limits"
    assert lines[1:3] == [
        "  weight-10: recorded PASS, now PASS",
        "    ends at look 10 of 10, after 10.0 s",
    ]
    assert "  weight-50: recorded FAIL, now FAIL" in lines
    assert "    ends at look 1 of 1, after 1.0 s" in lines
    assert lines[-2:] == [
        "  weight-100: not reached",
        "  FAIL at weight-50: the canary ends here, and goes back",
    ]


def test_stricter_limits_end_it_earlier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Maker(tmp_path / "r")
    made.watch(lambda look: look, lambda look: 9 * look)  # 2.5 % of either version's requests
    made.watch()
    made.watch()
    file = config_file(tmp_path, sla={**CONFIG["sla"], "error_rate": 0.005})
    code, out, _ = rejudge(capsys, made.write(), "--config", file)
    assert code == 1, out
    assert "  weight-10: recorded PASS, now FAIL (CHANGED)\n    ends at look 3 of 10" in out
    assert "earlier than it did" in out
    assert "  weight-50: not reached" in out


def test_looser_limits_do_not_judge_what_was_never_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config_file(tmp_path, compare={"error_rate": 0.5, "latency_p95": None})
    code, out, _ = rejudge(capsys, bad(tmp_path / "r"), "--config", file)
    assert code != 0
    assert "now PASS (CHANGED)" not in out


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"sla": {**CONFIG["sla"], "ttft_p95": 1.0}},
            "ttft_p95 (sla): 0 of the 3 points wanted are there",
        ),
        (
            {"phases": [{"weight": 10, "duration": 60}, *CONFIG["phases"][1:]]},
            "the record ends after 10.0 s, the phase takes up to 60 s; so far PASS",
        ),
        (
            {"phases": [{"weight": 5, "duration": 1}, *CONFIG["phases"]]},
            "the record has no look of it",
        ),
    ],
    ids=["unsampled", "longer", "unknown weight"],
)
def test_what_the_record_cannot_tell_is_inconclusive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], why: str
) -> None:
    code, out, _ = rejudge(
        capsys, good(tmp_path / "r"), "--config", config_file(tmp_path, **changes)
    )
    assert code == 11, out
    assert why in out
    assert "not enough to tell" in out.splitlines()[-1]


def test_a_comparison_of_answers_that_was_not_made_never_passes(tmp_path: Path) -> None:
    told = replayed(good(tmp_path / "r"), {**CONFIG, "quality": {"gate": "capitals"}})
    assert [each.verdict for each in told] == [Verdict.INCONCLUSIVE]
    assert told[0].reason == "quality: no case of gate capitals was asked in this phase"


def test_a_phase_that_a_person_held_is_judged_to_its_last_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Maker(tmp_path / "r")
    made.watch(lambda look: 30 * (look - 12) if look > 12 else 0, held=8)  # fails once it is held
    assert made.records[-1].verdict == "FAIL"
    assert made.records[-1].duration > 12
    code, out, _ = rejudge(capsys, made.write())
    assert (code, "CHANGED" in out, "earlier" in out) == (1, False, False), out


def test_what_no_limit_decided_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Maker(tmp_path / "r")
    made.watch()
    made.note("FAIL", "replica green-1 was restarted")
    file = config_file(tmp_path, compare={"error_rate": 0.5, "latency_p95": None})
    code, out, _ = rejudge(capsys, made.write(), "--config", file)
    assert code == 1
    assert "no limit decides about this: replica green-1 was restarted" in out


def test_a_record_is_enough_by_itself_and_a_run_has_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good(tmp_path / "run" / "records" / "canary" / "a")
    bad(tmp_path / "run" / "records" / "canary" / "b")
    shutil.copytree(tmp_path / "run" / "records" / "canary" / "a", tmp_path / "moved")
    assert rejudge(capsys, tmp_path / "moved")[0] == 0
    code, out, _ = rejudge(capsys, tmp_path / "run")
    assert (code, out.count("canary ")) == (1, 3)


def test_the_last_line_that_a_crash_cut_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = good(tmp_path / "r")
    looks = folder / "looks.jsonl"
    looks.write_text(looks.read_text()[:-40])
    code, out, _ = rejudge(capsys, folder)
    assert code == 11
    assert f"  note: {looks}:18 is cut; it is left out" in out
    (folder / "result.json").unlink()
    code, _, err = rejudge(capsys, folder)
    assert code == 2
    assert "has no result.json, so the limits are not known that were in force" in err
    assert rejudge(capsys, folder, "--config", config_file(tmp_path))[0] == 11


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("looks.jsonl", '{"phase": "weight-10"}\n{}\n', "looks.jsonl:1 is no look of a canary"),
        ("looks.jsonl", "hello", "looks.jsonl:1 is no look of a canary"),
        ("result.json", '{\n "image": 1,\n}', "result.json:3 is no JSON"),
        ("result.json", "[]", "it is no result of a canary"),
        ("result.json", '{"image": "a", "canary": {}}', "it is a release without a canary"),
    ],
)
def test_foreign_files_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    folder = good(tmp_path / "r")
    (folder / name).write_text(text)
    code, _, err = rejudge(capsys, folder)
    assert code == 2
    assert said in err, err


def test_foreign_folders_and_files_of_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = rejudge(capsys, tmp_path)
    assert (code, err) == (
        2,
        f"llmdeploy: {tmp_path} holds no canary: expected the output folder of a run with "
        "records/canary, or a folder with looks.jsonl and result.json\n",
    )
    file = config_file(tmp_path)
    file.write_text('environments: {local: {url: "http://127.0.0.1:1"}}\n')
    code, _, err = rejudge(capsys, good(tmp_path / "r"), "--config", file)
    assert (code, err) == (2, f"llmdeploy: {file} has no section 'canary' to judge by\n")


def test_numbers_that_cannot_be_are_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = good(tmp_path / "r")
    looks = folder / "looks.jsonl"
    looks.write_text(looks.read_text().replace('"errors":0', '"errors":9999', 1))
    code, _, err = rejudge(capsys, folder)
    assert code == 2
    assert f"{looks}: look 1 cannot be judged: ValueError(" in err
