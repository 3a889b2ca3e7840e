from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from pytest_llmdeploy.reference.faults import KINDS
from pytest_llmdeploy.reference.settings import OPTIONS, read_settings


def test_flags_win_over_variables_and_variables_over_defaults() -> None:
    environ = {
        "LLM_VERSION": "2.0.0",
        "COLOR": "blue",
        "PORT": "81",
        "LLM_FAULTS": "hang=0.1,no-done",
    }
    settings = read_settings(["--version", "3.0.0"], environ)
    assert (settings.version, settings.color, settings.port) == ("3.0.0", "blue", 81)
    assert settings.faults == {"hang": Fraction(1, 10), "no-done": 1}
    assert (settings.engine, settings.environment, settings.grace) == ("smollm2", "local", 10.0)
    flags = ["--fault", "unhealthy", "--fault", "latency=2,not-ready"]
    assert read_settings(flags, environ).faults == {"unhealthy": 1, "latency": 2, "not-ready": 1}


def test_an_empty_variable_counts_as_unset() -> None:
    assert read_settings([], {"PORT": "", "LLM_FAULTS": ""}).port == 8000


def test_answers_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text('{"Who?": "Me."}')
    assert read_settings(["--answers", str(file)], {}).answers == {"Who?": "Me."}


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        (["--port", "x"], {}, "argument --port: 'x' is not a whole number from 0 to 65535"),
        ([], {"PORT": "70000"}, "variable PORT: '70000' is not a whole number from 0 to 65535"),
        ([], {"LLM_GRACE": "nan"}, "variable LLM_GRACE: 'nan' is not a number of 0 or more"),
        (
            ["--engine", "gpt"],
            {},
            "argument --engine: 'gpt' is not one of smollm2, scripted",
        ),
        (["--version", "1\n2"], {}, "argument --version: '1\\n2' cannot stand in an HTTP header"),
        (
            ["--fault", "no-dome"],
            {},
            "argument --fault: unknown fault 'no-dome': did you mean 'no-done'?",
        ),
        (
            [],
            {"LLM_FAULTS": "hang=2"},
            "variable LLM_FAULTS: fault 'hang=2': hang takes a share from 0 to 1",
        ),
    ],
)
def test_a_wrong_value_ends_the_program_with_its_name(
    argv: list[str],
    environ: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(argv, environ)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"python -m pytest_llmdeploy.reference: error: {message}"


def test_the_page_lists_every_option_and_every_fault() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference-service.md").read_text()
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    listed = set(re.findall(r"`([^`]+)`", rows))
    wanted = {f"--{option.flag}" for option in OPTIONS} | {option.variable for option in OPTIONS}
    assert (wanted | set(KINDS)) - listed == set()
