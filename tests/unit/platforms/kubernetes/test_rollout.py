"""When a rollout is complete, and how soon it is known that it never will be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pytest_llmdeploy.platforms.kubernetes.rollout import Seen, judge
from pytest_llmdeploy.ports import Rollout

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
REVISION = "deployment.kubernetes.io/revision"


def deployment(
    desired: int = 3,
    updated: int = 3,
    total: int = 3,
    available: int = 3,
    observed: int = 2,
    conditions: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    return {
        "metadata": {"name": "llm-green", "uid": "d", "annotations": {REVISION: "2"}},
        "spec": {"replicas": desired},
        "status": {
            "observedGeneration": observed,
            "updatedReplicas": updated,
            "replicas": total,
            "availableReplicas": available,
            "conditions": list(conditions),
        },
    }


def replica_set(uid: str, revision: str, *conditions: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"llm-green-{uid}",
            "uid": uid,
            "annotations": {REVISION: revision},
            "ownerReferences": [{"uid": "d", "controller": True}],
        },
        "status": {"conditions": list(conditions)},
    }


def pod(
    name: str = "p1",
    owner: str = "new",
    *,
    ready: bool = False,
    container: dict[str, Any] | None = None,
    conditions: tuple[dict[str, Any], ...] = (),
    **metadata: Any,
) -> dict[str, Any]:
    state = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "ownerReferences": [{"uid": owner, "controller": True}],
            **metadata,
        },
        "spec": {"containers": [{"name": "llm", "image": "llm:2"}]},
        "status": {
            "conditions": [state, *conditions],
            "containerStatuses": [{"name": "llm", "image": "llm:2", **(container or {})}],
        },
    }


def waits(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}, **more}


def unschedulable(seconds: float) -> tuple[dict[str, Any], ...]:
    since = (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    entry = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu.",
        "lastTransitionTime": since,
    }
    return (entry,)


def seen(
    of: dict[str, Any], *pods: dict[str, Any], events: tuple[dict[str, Any], ...] = ()
) -> Seen:
    return Seen(of, [replica_set("old", "1"), replica_set("new", "2")], pods, events, NOW)


def verdict(state: Seen, generation: int = 2, log: str = "") -> Rollout:
    return judge(state, generation, lambda pod, container: log)


@pytest.mark.parametrize(
    ("state", "complete"),
    [
        (deployment(), True),
        (deployment(desired=0, updated=0, total=0, available=0), True),
        (deployment(observed=1), False),
        (deployment(updated=2), False),
        (deployment(total=4), False),
        (deployment(available=2), False),
        (deployment(desired=4), False),
        (deployment(updated=2, total=3, available=3), False),
    ],
)
def test_complete_is_kubectls_complete(state: dict[str, Any], complete: bool) -> None:
    assert verdict(seen(state)).complete is complete


def test_a_status_of_the_generation_before_says_nothing() -> None:
    assert verdict(seen(deployment(observed=1))) == Rollout(
        3, 0, 0, complete=False, waiting_for="the cluster has not looked at the change yet"
    )


def test_what_it_waits_for_is_said() -> None:
    state = deployment(available=3, updated=2, total=5)
    found = verdict(seen(state, pod("p1", ready=True), pod("p2", container=waits("Whatever"))))
    assert found.waiting_for == "2 of 3 available, 3 old left, p2: Whatever"
    assert (found.updated, found.ready, found.failure) == (2, 1, None)


def test_a_failing_readiness_probe_is_shown_from_its_event() -> None:
    event = {
        "type": "Warning",
        "reason": "Unhealthy",
        "message": "Readiness probe failed: HTTP probe failed with statuscode: 503",
        "involvedObject": {"uid": "uid-p1"},
        "lastTimestamp": "2026-01-01T11:59:59Z",
    }
    found = verdict(seen(deployment(available=0), pod(), events=(event,)))
    assert found.waiting_for == (
        "0 of 3 available, p1: Unhealthy: "
        "Readiness probe failed: HTTP probe failed with statuscode: 503"
    )
    assert found.failure is None


CRASHED: dict[str, Any] = {
    "lastState": {"terminated": {"reason": "Error", "exitCode": 3}},
    "restartCount": 2,
}


@pytest.mark.parametrize(
    ("container", "failure"),
    [
        (waits("ContainerCreating"), None),
        (
            waits("ImagePullBackOff", "Back-off pulling image"),
            "pod p1: ImagePullBackOff: Back-off pulling image",
        ),
        (waits("InvalidImageName", "bad"), "pod p1: InvalidImageName: bad"),
        (waits("ErrImageNeverPull", "absent"), "pod p1: ErrImageNeverPull: absent"),
        (waits("ErrImagePull", "llm:2: not found"), "pod p1: ErrImagePull: llm:2: not found"),
        (waits("ErrImagePull", "503 Service Unavailable"), None),
        (
            waits("CreateContainerConfigError", 'secret "keys" not found'),
            'pod p1: CreateContainerConfigError: secret "keys" not found',
        ),
        (
            waits("CrashLoopBackOff", "back-off 10s", **CRASHED),
            "pod p1: CrashLoopBackOff: container llm ended 2 times, last with exit code 3 (Error)"
            "; its last lines:\n  | Traceback\n  | ValueError: no model",
        ),
        (
            {"restartCount": 3, "ready": False, "state": {"running": {}}},
            "pod p1: CrashLoopBackOff: container llm ended 3 times; its last lines:"
            "\n  | Traceback\n  | ValueError: no model",
        ),
        ({"restartCount": 2, "ready": False, "state": {"running": {}}}, None),
        ({"restartCount": 9, "ready": True, "state": {"running": {}}}, None),
    ],
)
def test_what_waiting_does_not_mend_is_a_failure(
    container: dict[str, Any], failure: str | None
) -> None:
    state = seen(deployment(available=0), pod(container=container))
    found = verdict(state, log="Traceback\nValueError: no model\n")
    assert found.failure == failure
    assert not found.complete


def test_pods_of_an_older_version_do_not_fail_the_new_one() -> None:
    old = pod("old1", "old", container=waits("CrashLoopBackOff", **CRASHED))
    leaving = pod("gone", container=waits("CrashLoopBackOff"), deletionTimestamp="now")
    assert verdict(seen(deployment(available=0), old, leaving)).failure is None


@pytest.mark.parametrize(
    ("seconds", "reason", "failure"),
    [
        (10, "FailedScheduling", None),
        (
            31,
            "FailedScheduling",
            "pod p1: Unschedulable for 31 s: 0/3 nodes are available: 3 Insufficient cpu.",
        ),
        (31, "TriggeredScaleUp", None),
        (31, "Nominated", None),
    ],
)
def test_a_pod_without_a_node_may_wait_for_an_autoscaler(
    seconds: float, reason: str, failure: str | None
) -> None:
    event = {"reason": reason, "involvedObject": {"uid": "uid-p1"}}
    waiting = pod(conditions=unschedulable(seconds))
    found = verdict(seen(deployment(available=0), waiting, events=(event,)))
    assert found.failure == failure
    assert "p1: Unschedulable: 0/3 nodes are available" in found.waiting_for


@pytest.mark.parametrize(
    ("message", "hopeless"),
    [
        ('pods "x" is forbidden: exceeded quota: small, requested: cpu=1', True),
        ('pods "x" is forbidden: maximum cpu usage per Container is 500m', True),
        ('admission webhook "policy" denied the request', True),
        ('pods "x" is forbidden: error looking up service account default/default', False),
        ("the server is currently unable to handle the request", False),
    ],
)
def test_pods_that_are_not_made(message: str, hopeless: bool) -> None:
    failed = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": message,
    }
    sets = [replica_set("old", "1"), replica_set("new", "2", failed)]
    found = verdict(Seen(deployment(updated=0, total=0, available=0), sets, (), (), NOW))
    expected = f"no pod can be made: FailedCreate: {message}" if hopeless else None
    assert found.failure == expected
    assert message in found.waiting_for


def test_a_deadline_that_passed_says_what_the_pods_wait_for() -> None:
    late = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": 'ReplicaSet "x" has timed out progressing.',
    }
    state = deployment(available=0, conditions=(late,))
    found = verdict(seen(state, pod(container=waits("Odd", "why"))))
    assert found.failure == (
        'ProgressDeadlineExceeded: ReplicaSet "x" has timed out progressing.; p1: Odd: why'
    )
