"""The command line around the subcommands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import IO

import pytest

from pytest_llmdeploy.commands import main
from pytest_llmdeploy.config.schema import json_schema


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", {"pytest-llmdeploy": "1.2.3"}.__getitem__)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "llmdeploy 1.2.3\n"


def test_version_of_a_source_tree(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == "llmdeploy (not installed: run from its source)\n"


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "llmdeploy: error: the following arguments are required: COMMAND"
    )


def test_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


def test_schema_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "schema.json"
    file.write_text("old")
    assert main(["schema", "--output", str(file)]) == 0
    assert json.loads(file.read_text()) == json_schema()
    assert list(tmp_path.iterdir()) == [file]
    assert capsys.readouterr().out == ""


def test_an_error_is_one_line_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "missing" / "schema.json"
    assert main(["schema", "--output", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"llmdeploy: cannot write {file}: No such file or directory\n"
    )


MAIN = "import sys; from pytest_llmdeploy.commands import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("argument", ["schema", "--help", "--version"])
def test_an_output_that_nobody_reads_any_more(argument: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as broken:
        assert _written_to(broken, argument) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("argument", ["schema", "--help", "--version"])
def test_an_output_that_is_full(argument: str) -> None:
    with Path("/dev/full").open("wb") as full:
        assert _written_to(full, argument) == (
            2,
            "llmdeploy: [Errno 28] No space left on device\n",
        )


def _written_to(output: IO[bytes], argument: str) -> tuple[int, str]:
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, argument],
        check=False,
        stdout=output,
        stderr=subprocess.PIPE,
        env=variables,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr
