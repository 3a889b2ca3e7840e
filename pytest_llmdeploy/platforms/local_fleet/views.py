"""What stages see of a colour: its replicas, and how far they have come. Pure."""

from __future__ import annotations

from pytest_llmdeploy.platforms.local_fleet.desired import Desired
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus, ReplicaStatus
from pytest_llmdeploy.ports import Pod, Rollout


def pods(color: str, desired: Desired, status: FleetStatus) -> list[Pod]:
    """Return a colour's replicas; of an image that cannot be run one that says so."""
    found = [_pod(replica) for replica in status.of(color)]
    template = desired.template(color)
    if template is not None and template.error is not None:
        name = f"{color}-{desired.colors[color].generation}"
        found.append(Pod(name, color, template.image, ready=False, problem=template.error))
    return found


def _pod(replica: ReplicaStatus) -> Pod:
    return Pod(
        name=replica.name,
        color=replica.color,
        image=replica.image,
        ready=replica.ready,
        terminating=replica.terminating,
        restarts=replica.restarts,
        problem=replica.problem,
    )


def rollout(color: str, desired: Desired, status: FleetStatus) -> Rollout:
    """Return how far a colour has come; replicas that are ending already are not counted."""
    wanted = desired.colors.get(color)
    replicas = [replica for replica in status.of(color) if not replica.terminating]
    count = 0 if wanted is None else wanted.replicas
    current = [r for r in replicas if wanted is not None and r.generation == wanted.generation]
    ready = sum(replica.ready for replica in current)
    others = len(replicas) - len(current)
    seen = status.seen >= desired.version
    complete = seen and len(current) == ready == count and not others
    return Rollout(
        desired=count,
        updated=len(current),
        ready=ready,
        complete=complete,
        waiting_for=_waiting_for(count, current, ready, others, seen=seen),
        failure=_failure(color, desired, current) if count and seen else None,
    )


def _waiting_for(
    count: int, current: list[ReplicaStatus], ready: int, others: int, *, seen: bool
) -> str:
    if not seen:
        return "the supervisor to take up the change"
    if ready < count:
        problem = next((r.problem for r in current if r.problem), None)
        return f"{ready} of {count} ready" + (f" ({problem})" if problem else "")
    if len(current) > count:
        return f"{len(current) - count} of {len(current)} to be removed"
    return f"{others} of another version to be removed" if others else "nothing"


def _failure(color: str, desired: Desired, current: list[ReplicaStatus]) -> str | None:
    template = desired.template(color)
    if template is not None and template.error is not None:
        return template.error
    return next((f"{r.name}: {r.problem}" for r in current if r.hopeless), None)
