"""One run for all who ask, whatever comes of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from pytest_llmdeploy.config.load import LoadConfig
from pytest_llmdeploy.config.models import EnvironmentConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.run import LoadRun, Subject
from pytest_llmdeploy.redaction import Redactor


def load_run(tmp_path: Path, subject: Callable[[], Subject]) -> LoadRun:
    return LoadRun(
        name="steady",
        config=LoadConfig(rate=5, duration=1),
        environment_name="local",
        environment=EnvironmentConfig(url="http://127.0.0.1:9"),
        root=tmp_path,
        folder=tmp_path / "records" / "steady",
        subject=subject,
        redact=Redactor(["hunter2"]),
        waiting=lambda _line: None,
    )


def test_what_nobody_expected_is_an_error_once_and_not_for_each_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # whoever else loads this machine
    asked = []

    def subject() -> Subject:
        asked.append(1)
        raise OSError(28, "No space left on hunter2")

    run = load_run(tmp_path, subject)
    for _ in range(2):
        with pytest.raises(NotMeasuredError) as caught:
            run.summary()
        line = subject.__code__.co_firstlineno + 2
        assert str(caught.value) == (
            f"OSError: [Errno 28] No space left on *** (test_run.py:{line})"
        )
    assert len(asked) == 1


def test_a_run_that_is_there_is_read_without_waiting_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = load_run(tmp_path, lambda: pytest.fail("it was begun"))
    run.folder.mkdir(parents=True)
    (run.folder / "summary.json").write_text('{"error": "no", "skipped": null}')
    lock = FileLock(tmp_path / f"llmdeploy-load-{os.getuid()}.lock")
    with lock, pytest.raises(NotMeasuredError, match=r"^no$"):
        run.summary()
