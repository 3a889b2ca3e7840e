"""Our rows and promptfoo's are the same, config by config."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.side_by_side import rows

FOLDERS = rows.folders()


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_rows_are_told_alike(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rows.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert rows.differences(folder) == []


def test_there_is_a_record_for_every_config() -> None:
    assert [path.name for path in FOLDERS] == sorted(path.name for path in rows.CONFIGS.iterdir())
    assert len(FOLDERS) >= 25
