"""Whether a Deployment has come where it should, or why it never will. Pure.

Complete is what ``kubectl rollout status`` calls complete, and the generation must be the one that
our own write returned: the status may still be that of the Deployment before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.pods import (
    condition,
    container_statuses,
    crash,
    is_over,
    is_ready,
    is_terminating,
    name,
    problem,
    unscheduled,
    waiting,
)
from pytest_llmdeploy.ports import Rollout
from pytest_llmdeploy.untrusted import one_line

Object = Mapping[str, Any]
REVISION = "deployment.kubernetes.io/revision"
HOPELESS_RESTARTS = 3
UNSCHEDULABLE_PATIENCE = 30.0
"""Seconds that a pod may wait for a node, unless an autoscaler said that it brings one."""
_AUTOSCALER_REASONS = frozenset({"TriggeredScaleUp", "Nominated"})
"""Events of the cluster autoscaler and of Karpenter: a node for the pod is on its way."""
_NO_IMAGE = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_NO_CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_FINAL_PULL_ERRORS = (
    "not found",
    "no such host",
    "unauthorized",
    "denied",
    "forbidden",
    "manifest unknown",
    "does not exist",
)
"""Words in a first failed pull that a second one will say as well."""
_REFUSALS = ("forbidden", "exceeded quota", "denied", "limitrange", "invalid")
"""Words in a FailedCreate that waiting does not change."""
_NO_ACCOUNT = "error looking up service account"
"""In a new namespace the account comes a moment later."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A Deployment and all that belongs to it, as read just now."""

    deployment: Object
    replica_sets: Sequence[Object]
    pods: Sequence[Object]
    events: Sequence[Object]
    """Events of those pods and ReplicaSets."""
    now: datetime
    """By the API server's clock."""


LastLines = Callable[[str, str], str]
"""Pod and container to the last lines that it printed before it ended; empty where unknown."""


def judge(seen: Seen, generation: int, last_lines: LastLines) -> Rollout:
    """Return how far the Deployment has come since the write that returned `generation`."""
    deployment = seen.deployment
    status = deployment.get("status") or {}
    desired = int(deployment["spec"].get("replicas", 1))
    if int(status.get("observedGeneration") or 0) < generation:
        text = "the cluster has not looked at the change yet"
        return Rollout(desired, 0, 0, complete=False, waiting_for=text)
    numbers = [int(status.get(key) or 0) for key in ("updatedReplicas", "replicas")]
    available = int(status.get("availableReplicas") or 0)
    updated, total = numbers
    newest = _newest(deployment, seen.replica_sets)
    pods = _pods_of(newest, seen.pods)
    ready = sum(is_ready(pod) for pod in pods)
    complete = updated == total == available == desired
    failure = None if complete else _failure(seen, newest, pods, last_lines)
    waits = [f"{min(available, updated)} of {desired} available"]
    if total > updated:
        waits.append(f"{total - updated} old left")
    if newest is not None and (message := _creation_failure(newest)):
        waits.append(message)
    waits += _what_pods_wait_for(pods, seen.events)
    text = "nothing" if complete else ", ".join(waits)
    return Rollout(desired, updated, ready, complete, text, failure)


def _newest(deployment: Object, replica_sets: Sequence[Object]) -> Object | None:
    revision = (deployment["metadata"].get("annotations") or {}).get(REVISION)
    uid = deployment["metadata"].get("uid")
    for item in replica_sets:
        ours = _owner(item) == uid
        if ours and (item["metadata"].get("annotations") or {}).get(REVISION) == revision:
            return item
    return None


def _owner(item: Object) -> str | None:
    owners = item["metadata"].get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), None)


def _pods_of(replica_set: Object | None, pods: Sequence[Object]) -> list[Object]:
    if replica_set is None:
        return []
    uid = replica_set["metadata"].get("uid")
    return [pod for pod in pods if _owner(pod) == uid and not is_terminating(pod)]


def _failure(
    seen: Seen, newest: Object | None, pods: Sequence[Object], last_lines: LastLines
) -> str | None:
    progressing = condition(seen.deployment, "Progressing")
    for pod in pods:
        if is_over(pod) or is_ready(pod):
            continue  # an evicted pod is replaced by another one
        if (why := _hopeless(pod, last_lines)) is not None:
            return f"pod {name(pod)}: {why}"
        if (why := _unschedulable(pod, seen)) is not None:
            return f"pod {name(pod)}: {why}"
    if newest is not None and (why := _not_created(newest)) is not None:
        return why
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        states = "; ".join(_what_pods_wait_for(pods, seen.events))
        text = f"ProgressDeadlineExceeded: {one_line(str(progressing.get('message') or ''))}"
        return f"{text}; {states}" if states else text
    return None


def _hopeless(pod: Object, last_lines: LastLines) -> str | None:
    for status in container_statuses(pod):
        reason, message = waiting(status)
        final = any(word in message.lower() for word in _FINAL_PULL_ERRORS)
        if reason in _NO_IMAGE or (reason == "ErrImagePull" and final):
            return f"{reason}: {message or status.get('image')}"
        if reason in _NO_CONTAINER:
            return f"{reason}: {message}"
        many = int(status.get("restartCount") or 0) >= HOPELESS_RESTARTS
        if reason == "CrashLoopBackOff" or (many and not status.get("ready")):
            return _crash_text(pod, status, last_lines)
    return None


def _crash_text(pod: Object, status: Mapping[str, Any], last_lines: LastLines) -> str:
    container = str(status["name"])
    text = f"CrashLoopBackOff: container {container} ended {status.get('restartCount')} times"
    if (ended := crash(status)) is not None:
        text += f", last with exit code {ended.exit_code} ({ended.reason})"
    lines = last_lines(name(pod), container).rstrip().splitlines()
    return "\n".join([f"{text}; its last lines:", *(f"  | {one_line(line)}" for line in lines)])


def _unschedulable(pod: Object, seen: Seen) -> str | None:
    why = unscheduled(pod)
    if why is None:
        return None
    reasons = {event.get("reason") for event in seen.events if _concerns(event, pod)}
    since = _time(condition(pod, "PodScheduled").get("lastTransitionTime"))
    if reasons & _AUTOSCALER_REASONS or since is None:
        return None
    waited = (seen.now - since).total_seconds()
    if waited < UNSCHEDULABLE_PATIENCE:
        return None
    return f"Unschedulable for {waited:.0f} s: {why}"


def _creation_failure(replica_set: Object) -> str:
    """Return why pods are not made, whether or not that can change; empty where they are."""
    failed = condition(replica_set, "ReplicaFailure")
    if failed.get("status") != "True":
        return ""
    return f"{failed.get('reason')}: {one_line(str(failed.get('message') or ''))}"


def _not_created(replica_set: Object) -> str | None:
    message = _creation_failure(replica_set)
    refused = any(word in message.lower() for word in _REFUSALS)
    if refused and _NO_ACCOUNT not in message:
        return f"no pod can be made: {message}"
    return None


def _what_pods_wait_for(pods: Sequence[Object], events: Sequence[Object]) -> list[str]:
    """Return, for each pod that is not ready, what is known of it; equal texts once."""
    texts: dict[str, str] = {}
    for pod in pods:
        if is_ready(pod) or is_over(pod):
            continue
        said = problem(pod) or _latest_warning(pod, events)
        if said:
            texts.setdefault(said, name(pod))
    return [f"{pod}: {text}" for text, pod in texts.items()]


def _latest_warning(pod: Object, events: Sequence[Object]) -> str | None:
    warnings = [
        event for event in events if event.get("type") == "Warning" and _concerns(event, pod)
    ]
    if not warnings:
        return None
    latest = max(warnings, key=lambda event: str(event.get("lastTimestamp") or ""))
    return f"{latest.get('reason')}: {one_line(str(latest.get('message') or ''))}"


def _concerns(event: Object, item: Object) -> bool:
    return bool((event.get("involvedObject") or {}).get("uid") == item["metadata"].get("uid"))


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
