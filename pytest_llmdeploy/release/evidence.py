"""Files that tell why a step failed, kept in a folder of the run's output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def keep_evidence(root: Path, what: str, step: str, files: Mapping[str, str]) -> str | None:
    """Write the files below ``root/WHAT-STEP``; return that folder, None where there is nothing."""
    if not files:
        return None
    folder = root / f"{what}-{step}"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
    return str(folder)
