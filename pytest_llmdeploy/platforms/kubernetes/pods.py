"""What a pod's status says: is it ready, how often did it restart, what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.names import COLOR
from pytest_llmdeploy.ports import Pod
from pytest_llmdeploy.untrusted import one_line

Object = Mapping[str, Any]
_HARMLESS = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class Crash:
    """How a container last ended by itself."""

    container: str
    reason: str
    """Such as ``Error`` or ``OOMKilled``."""
    exit_code: int


def name(item: Object) -> str:
    """Return an object's name."""
    return str(item["metadata"]["name"])


def labels(item: Object) -> Mapping[str, str]:
    """Return an object's labels."""
    return item["metadata"].get("labels") or {}


def is_terminating(pod: Object) -> bool:
    """Return whether the pod is about to go."""
    return "deletionTimestamp" in pod["metadata"]


def is_over(pod: Object) -> bool:
    """Return whether the pod has ended for good, such as one that was evicted."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def condition(item: Object, kind: str) -> Mapping[str, Any]:
    """Return a condition of the status; empty where it is not there."""
    for entry in (item.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind:
            return dict(entry)
    return {}


def is_ready(pod: Object) -> bool:
    """Return whether it may get traffic."""
    return condition(pod, "Ready").get("status") == "True" and not is_terminating(pod)


def container_statuses(pod: Object) -> Iterator[Mapping[str, Any]]:
    """Yield the statuses of all containers, those that initialise first."""
    status = pod.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(key) or []


def restarts(pod: Object) -> int:
    """Return how often its containers were restarted, in all."""
    return sum(int(status.get("restartCount") or 0) for status in container_statuses(pod))


def waiting(status: Mapping[str, Any]) -> tuple[str, str]:
    """Return reason and message of a container that waits; empty where it does not."""
    found = (status.get("state") or {}).get("waiting") or {}
    return str(found.get("reason") or ""), one_line(str(found.get("message") or ""))


def crash(status: Mapping[str, Any]) -> Crash | None:
    """Return how a container last ended; None where it never did."""
    for state in (status.get("state"), status.get("lastState")):
        ended = (state or {}).get("terminated")
        if ended:
            reason, code = ended.get("reason") or "Error", ended.get("exitCode", -1)
            return Crash(status["name"], reason, code)
    return None


def unscheduled(pod: Object) -> str | None:
    """Return why no node takes the pod; None where one did or may soon."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return one_line(str(scheduled.get("message") or "no reason given"))
    return None


def problem(pod: Object) -> str | None:
    """Return what keeps the pod from becoming ready; None where nothing does or it only starts."""
    if is_ready(pod) or is_terminating(pod):
        return None
    status = pod.get("status") or {}
    if is_over(pod):
        why = status.get("reason") or status.get("phase")
        return one_line(f"{why}: {status.get('message') or 'it has ended'}")
    if (why := unscheduled(pod)) is not None:
        return f"Unschedulable: {why}"
    for container in container_statuses(pod):
        reason, message = waiting(container)
        ended = crash(container)
        if reason and reason not in _HARMLESS:
            last = f"; it last ended with exit code {ended.exit_code}" if ended else ""
            return f"{reason}: {message}{last}" if message else f"{reason}{last}"
        if ended and ended.exit_code and not container.get("ready"):
            return f"{ended.reason}: it ended with exit code {ended.exit_code}"
    return None


def main_container(spec: Object, service: str) -> Mapping[str, Any]:
    """Return the container named like the service, or the first one, of a pod's spec."""
    containers = spec["containers"]
    found = (item for item in containers if item["name"] == service)
    return dict(next(found, containers[0]))


def to_pod(pod: Object, service: str) -> Pod:
    """Return the pod as stages know it."""
    return Pod(
        name=name(pod),
        color=labels(pod).get(COLOR, ""),
        image=str(main_container(pod["spec"], service)["image"]),
        ready=is_ready(pod),
        terminating=is_terminating(pod),
        restarts=restarts(pod),
        problem=problem(pod),
        digest=_digest(pod, service),
    )


def _digest(pod: Object, service: str) -> str | None:
    wanted = main_container(pod["spec"], service)["name"]
    found = (each.get("imageID") for each in container_statuses(pod) if each["name"] == wanted)
    return next(found, None) or None
