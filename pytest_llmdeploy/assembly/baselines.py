"""Where a baseline comes from: a file, a run's output folder, or a commit of the project."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.gates.baseline import Baseline, read_baseline

BLESSED = "llmdeploy-baseline.json"
"""The file that ``llmdeploy bless`` writes beside llmdeploy.yaml, to be committed."""
REPORT = "report.json"
GIT = "git:"
MAX_BYTES = 512 << 20
_GIT_TIMEOUT = 30.0


def find_baseline(named: str, root: Path) -> Baseline:
    """Return the baseline of --llmdeploy-baseline; raise NotMeasuredError.

    `named` is a report, a blessed file, a run's output folder, or ``git:REF``: the blessed file
    beside llmdeploy.yaml, whose folder is `root`, as that commit, branch or tag has it.
    """
    if named.startswith(GIT):
        return read_baseline(_from_git(named.removeprefix(GIT), root), named)
    path = Path(named)
    if path.is_dir():
        path = next((path / name for name in (REPORT, BLESSED) if (path / name).is_file()), path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise NotMeasuredError(f"--llmdeploy-baseline: {path} is larger than {MAX_BYTES} bytes")
        return read_baseline(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise NotMeasuredError(
            f"--llmdeploy-baseline: {named} cannot be read ({error}): give a run's {REPORT}, what"
            f" `llmdeploy bless` wrote, or {GIT}REF"
        ) from error


def _from_git(ref: str, root: Path) -> str:
    """Return the blessed file of a commit; nothing else of the repository is read."""
    command = ["git", "-C", str(root), "show", "--end-of-options", f"{ref}:./{BLESSED}"]
    try:
        shown = subprocess.run(command, capture_output=True, timeout=_GIT_TIMEOUT, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NotMeasuredError(f"--llmdeploy-baseline: git cannot be asked: {error}") from error
    if shown.returncode:
        said = " ".join(shown.stderr.decode("utf-8", "replace").split())
        raise NotMeasuredError(
            f"--llmdeploy-baseline: {GIT}{ref} has no {BLESSED} in {root.name}/: {said}; bless a"
            f" run (`llmdeploy bless`) and commit the file"
        )
    return shown.stdout.decode("utf-8", "replace")
