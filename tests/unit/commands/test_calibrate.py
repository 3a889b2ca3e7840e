from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.commands import main
from pytest_llmdeploy.commands.calibration_options import (
    GIVEN,
    read_cases,
    read_figures,
    read_speed,
    read_whole,
)
from pytest_llmdeploy.release.canary.calibration.cases import CASES

FIGURES = "rate=100,error_rate=0.005,latency_p50=0.2,latency_p95=0.4,ttft_share=0.3"
CONFIG = """
service: {name: llm-service}
environments:
  local: {reference: {engine: scripted}}
  prod: {reference: {engine: scripted}, protected: true}
  away: {url: "http://127.0.0.1:9"}
canary:
  phases: [{weight: 50, duration: 20, max_duration: 60}, {weight: 100, duration: 5}]
  look_interval: 1
  sample_interval: 5
  sla: {points: 2}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "llmdeploy.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def calibrate(*words: str) -> int:
    return main(["calibrate", "--runs", "0", "--simulate", "40", *words])


def read(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "calibration.json").read_text())
    return data


def test_a_simulation_needs_no_service(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeded; alpha bounds that one of 40 is alarmed at by 0.05."""
    assert calibrate("--figures", FIGURES, "--output", "out") == 0
    data = read(project / "out")
    assert [case["name"] for case in data["cases"]] == list(CASES)
    assert data["left_out"] == ["sla.cpu_usage", "sla.memory_usage"]
    assert (data["exit_code"], data["interrupted"], data["figures"]["requests"]) == (0, False, 0)
    by_name = {case["name"]: case for case in data["cases"]}
    assert by_name["errors-5"]["simulated"]["caught"]["share"] == 1
    assert by_name["errors-5"]["simulated"]["caught"]["n"] == 40
    assert by_name["crash-loop"]["simulated"] is None
    assert by_name["leak"]["not_simulated"] == (
        "the policy judges it as a version that is no worse"
    )
    said = capsys.readouterr().out
    assert "simulated: the same judge, drawn looks, with figures given: 100 requests/s" in said
    assert "not simulated, for nothing tells it: sla.cpu_usage, sla.memory_usage" in said
    assert (project / "out" / "calibration.html").read_text().startswith("<!doctype html>")


def test_a_policy_that_never_promotes_is_alarming(project: Path) -> None:
    assert calibrate("--only", "a-a", "--figures", FIGURES.replace("100", "2")) == 1
    (folder,) = (path for path in (project / ".llmdeploy").iterdir() if path.is_dir())
    data = read(folder)
    assert data["cases"][0]["held"] is False
    assert data["advice"][0].startswith("This policy never promotes")


def test_the_same_seed_has_the_same_figures(project: Path) -> None:
    only = ("--only", "errors-2", "--figures", FIGURES)
    for seed, folder in (("3", "one"), ("3", "same"), ("4", "other")):
        calibrate(*only, "--seed", seed, "--output", folder)
    one, same, other = (read(project / name)["cases"] for name in ("one", "same", "other"))
    assert one == same != other


def test_figures_of_an_earlier_calibration(project: Path) -> None:
    calibrate("--only", "a-a", "--figures", FIGURES, "--output", "out")
    found = read_figures("out/calibration.json,rate=7")
    assert (found.rate, found.error_rate) == (7.0, 0.005)
    assert found.latency == read_figures(FIGURES).latency


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("prod", "the environment 'prod' is protected, or runs something else"),
        ("away", "the environment 'away' is protected, or runs something else"),
    ],
)
def test_where_no_fault_may_be_planted(
    project: Path, capsys: pytest.CaptureFixture[str], environment: str, message: str
) -> None:
    assert main(["calibrate", "--env", environment]) == 2
    assert capsys.readouterr().err == (
        f"llmdeploy: a calibration plants faults into the reference service: {message}\n"
    )
    assert not (project / ".llmdeploy").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--runs 0 measures nothing to simulate with: give --figures"),
        (("--simulate", "0", "--figures", FIGURES), "--runs 0 --simulate 0 leaves nothing to do"),
    ],
)
def test_nothing_to_do_is_an_error(
    project: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert calibrate(*words) == 2
    assert capsys.readouterr().err == f"llmdeploy: {message}\n"


def test_a_folder_that_is_used(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate("--figures", FIGURES, "--output", ".") == 2
    assert "--output: '.' is not empty" in capsys.readouterr().err


def test_words_that_are_wrong() -> None:
    for read_it, text, message in (
        (read_cases, "a-a,errors", "no case errors; the cases are a-a, errors-1"),
        (read_cases, ",", "name at least one case"),
        (read_whole, "-1", "'-1' is no whole number"),
        (read_speed, "0.5", "'0.5' is no number from 1 to 1000"),
        (read_speed, "fast", "'fast' is no number from 1 to 1000"),
        (read_figures, "rate=1", "'rate=1': latency_p50, latency_p95 must be given, too"),
        (read_figures, "rat=1", f"'rat=1': no rat; figures are {', '.join(GIVEN)}"),
        (read_figures, "no.json", "'no.json': [Errno 2]"),
        (read_figures, "rate=0,latency_p50=1,latency_p95=2", "figures need rate > 0"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(message)):
            read_it(text)
    assert [case.name for case in read_cases("errors-5, a-a")] == ["a-a", "errors-5"]


def test_the_page_has_each_case_in_order(pytestconfig: pytest.Config) -> None:
    page = (pytestconfig.rootpath / "docs" / "calibrate.md").read_text(encoding="utf-8")
    table = page.partition("| Case |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE) == list(CASES)
    assert all(f"`{key}`" in page for key in GIVEN)
    readable = (pytestconfig.rootpath / "pytest_llmdeploy/commands/calibrate.py").read_text()
    options = set(re.findall(r'"(--[a-z]+)"', readable))
    assert options >= {"--runs", "--figures"}
    assert all(option in page for option in options)
