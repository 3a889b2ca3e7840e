"""What tells why something went wrong in a fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pytest_llmdeploy.errors import LLMDeployError
from pytest_llmdeploy.platforms.local_fleet.launching import read_status
from pytest_llmdeploy.platforms.local_fleet.layout import Layout
from pytest_llmdeploy.platforms.local_fleet.routing import EnvoyAdmin
from pytest_llmdeploy.platforms.processes import last_lines
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.untrusted import one_line

LINES = 200
LINES_SHOWN = 20


def gather(
    layout: Layout,
    colors: Sequence[str],
    admin: EnvoyAdmin,
    redact: Redactor,
) -> Mapping[str, str]:
    """Return file name to text; what cannot be got is replaced by why."""

    def envoy(path: str) -> str:
        status = read_status(layout)
        return "(no fleet)" if status is None else admin.get(status.admin_port, path).text

    sources: dict[str, Callable[[], str]] = {
        "status.json": lambda: layout.status.read_text(encoding="utf-8"),
        "supervisor.log": partial(_last, layout.log),
        "envoy.log": partial(_last, layout.envoy_log),
        "envoy-clusters.txt": lambda: envoy("/clusters"),
        "envoy-routes.json": lambda: envoy("/config_dump?resource=dynamic_route_configs"),
    }
    for log in sorted(layout.replicas.glob("*.log")):
        if any(f"-{color}-" in log.stem for color in colors):
            sources[f"replica-{log.name}"] = partial(_last, log)
    return {name: redact(_read(source)) for name, source in sources.items()}


def last_words(layout: Layout) -> str:
    """Return the last lines of the replica that wrote last, or else of the supervisor."""
    logs = sorted(layout.replicas.glob("*.log"), key=lambda log: log.stat().st_mtime)
    log = logs[-1] if logs else layout.log
    lines = [one_line(line) for line in last_lines(log, LINES_SHOWN)]
    shown = "\n".join(f"  | {line}" for line in lines) or "  | (it printed nothing)"
    return f"the last lines, from {log}:\n{shown}"


def _last(log: Path) -> str:
    return "\n".join(last_lines(log, LINES))


def _read(source: Callable[[], str]) -> str:
    try:
        return source()
    except (OSError, ValueError, LLMDeployError) as error:
        return f"(not available: {error})"
