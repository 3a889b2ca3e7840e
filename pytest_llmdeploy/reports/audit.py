"""``audit.jsonl``: who did what, when, from which commit, to which image, with which verdict.

Each line holds the hash of the line before it, so that one that was changed, left out or put in
afterwards shows. Whoever can write the whole file can write it anew: keep the last hash elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

AUDIT = "audit.jsonl"
START = "0" * 64
"""In place of a hash before the first line."""
GIT_TIMEOUT = 5.0


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add an entry, with time, commit and the hash chain, and wait until the disk has it."""
    with FileLock(path.with_suffix(".lock")):
        written = path.read_bytes() if path.exists() else b""
        lines = written.splitlines()
        before = _hash(lines[-1]) if lines else START
        cut = bool(written) and not written.endswith(b"\n")  # by a crash: it shows, alone
        line = json.dumps(
            {
                "time": datetime.now(UTC).isoformat(),
                "commit": _commit(str(Path.cwd())),
                **entry,
                "before": before,
            },
            ensure_ascii=True,
            separators=(",", ":"),
            default=str,
        )
        with path.open("ab") as file:
            file.write((b"\n" if cut else b"") + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def verify(path: Path) -> tuple[int, str]:
    """Return the number of entries and the last hash; raise ValueError for a broken chain."""
    lines = path.read_bytes().splitlines()
    if not lines:
        raise ValueError(f"{path}: it is empty")
    before = START
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            found = entry["before"]
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path}:{number}: no entry of an audit trail") from error
        if found != before:
            raise ValueError(
                f"{path}:{number}: it does not follow the line before it: "
                "a line was changed, left out or put in"
            )
        before = _hash(line)
    return len(lines), before


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


@lru_cache(maxsize=4)
def _commit(folder: str) -> str | None:
    """Return the git commit that is checked out, with ``+`` for changes; None outside of one."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],  # noqa: S607 - git's place differs
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
