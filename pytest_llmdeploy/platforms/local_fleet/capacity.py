"""What a preflight tells about this machine."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_llmdeploy.platforms.local_fleet.desired import Template
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
from pytest_llmdeploy.ports import Finding

_MIB = 1024 * 1024


def findings(template: Template, status: FleetStatus, replicas: int) -> list[Finding]:
    """Return whether the image can be run, and whether this machine has room for its replicas."""
    found = []
    if template.error is not None:
        found.append(Finding("image", template.error))  # told by the rollout, as elsewhere
    present = len(status.replicas)
    text = f"{present} replicas run here, {replicas} more are to start, on {os.cpu_count()} CPUs"
    found.append(Finding("capacity", text))
    if (memory := _memory(status, replicas)) is not None:
        found.append(memory)
    return found


def _memory(status: FleetStatus, replicas: int) -> Finding | None:
    """Compare what is free with what the replicas that run take; None where neither is known."""
    available = _available()
    sizes = [size for each in status.replicas if each.pid and (size := _resident(each.pid))]
    if available is None or not sizes:
        return None
    needed = max(sizes) * replicas
    text = (
        f"{needed // _MIB} MiB for {replicas} replicas as large as the largest now, "
        f"of {available // _MIB} MiB available"
    )
    return Finding("memory", text, fatal=needed > available)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    values = dict(line.split(":", 1) for line in lines)
    return int(values["MemAvailable"].split()[0]) * 1024


def _resident(pid: int) -> int | None:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
