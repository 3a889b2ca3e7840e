"""Configs of the tests, written into a folder."""

from __future__ import annotations

from pathlib import Path

from pytest_llmdeploy.gates.promptfoo.config_file import read_config
from pytest_llmdeploy.gates.promptfoo.matrix import Planned, read_matrix

HEAD = 'providers: [echo]\nprompts: ["{{x}}"]\n'


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write the files and return the config, which is the first."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / next(iter(files))


def rows(
    folder: Path, text: str, files: dict[str, str] | None = None, *, allow_code: bool = False
) -> list[Planned]:
    """Return the rows of a config."""
    path = write(folder, {"promptfooconfig.yaml": text, **(files or {})})
    config = read_config(path, folder)
    return list(read_matrix(config, allow_code=allow_code, parameters={}).rows)
