"""What stages see of a fleet, and the state to which they return."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmdeploy.platforms.local_fleet import snapshots
from pytest_llmdeploy.platforms.local_fleet.desired import Desired, Wanted
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
from pytest_llmdeploy.platforms.local_fleet.views import pods, rollout
from pytest_llmdeploy.ports import Pod, Rollout
from tests.unit.platforms.local_fleet.samples import desired, replica, status, template

CRASH = "CrashLoopBackOff: exit code 70, 2 restarts; last lines: bye"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (status(replica(1), replica(2)), Rollout(2, 2, 2, True, "nothing")),
        (
            status(replica(1), replica(2), seen=6),
            Rollout(2, 2, 2, False, "the supervisor to take up the change"),
        ),
        (status(replica(1)), Rollout(2, 1, 1, False, "1 of 2 ready")),
        (
            status(replica(1), replica(2, ready=False, problem="not ready: HTTP 503 on /ready")),
            Rollout(2, 2, 1, False, "1 of 2 ready (not ready: HTTP 503 on /ready)"),
        ),
        (
            status(replica(1), replica(2, ready=False, problem=CRASH, hopeless=True)),
            Rollout(2, 2, 1, False, f"1 of 2 ready ({CRASH})", f"llm-blue-1-2: {CRASH}"),
        ),
        (
            status(replica(1), replica(2), replica(3)),
            Rollout(2, 3, 3, False, "1 of 3 to be removed"),
        ),
        (
            status(replica(1), replica(2), replica(3, generation=0)),
            Rollout(2, 2, 2, False, "1 of another version to be removed"),
        ),
        (
            status(replica(1), replica(2), replica(3, terminating=True, ready=False)),
            Rollout(2, 2, 2, True, "nothing"),
        ),
    ],
)
def test_rollout(seen: FleetStatus, expected: Rollout) -> None:
    assert rollout("blue", desired(), seen) == expected


def test_the_rollout_of_nothing() -> None:
    nothing = desired(colors={})
    assert rollout("blue", nothing, status()) == Rollout(0, 0, 0, True, "nothing")
    left = rollout("blue", nothing, status(replica(1)))
    assert (left.complete, left.waiting_for) == (False, "1 of another version to be removed")
    ends = replica(1, terminating=True, hopeless=True, problem="x")
    assert rollout("blue", nothing, status(ends)).complete


def test_an_image_that_cannot_be_run() -> None:
    state = desired(templates={1: template(error="no such image", command=())})
    found = rollout("blue", state, status())
    assert (found.complete, found.failure, found.waiting_for) == (
        False,
        "no such image",
        "0 of 2 ready",
    )
    assert pods("blue", state, status()) == [
        Pod("blue-1", "blue", "llm:1", ready=False, problem="no such image")
    ]
    assert pods("blue", desired(), status(replica(1, restarts=2))) == [
        Pod("llm-blue-1-1", "blue", "llm:1", ready=True, restarts=2)
    ]


READY = status(replica(1), replica(2))


def taken() -> dict[str, Any]:
    """Return a snapshot that was in a journal."""
    return dict(json.loads(json.dumps(snapshots.take(desired(), READY))))


def test_a_snapshot_has_no_variables() -> None:
    assert taken() == {
        "fleet": "f1",
        "selector": "blue",
        "colors": {
            "blue": {"image": "llm:1", "generation": 1, "replicas": 2, "ready": 2},
            "green": None,
        },
    }


def released() -> Desired:
    """Return the state after a release that replaced green and blue, and switched."""
    state = desired(selector="green").with_template("green", template("llm:2"), 3)
    return state.with_template("blue", template("llm:3"), 4)


def test_the_way_back_in_the_same_life() -> None:
    back = snapshots.with_traffic(released(), taken())
    assert back.selector == "blue"
    assert back.colors == released().colors
    back = snapshots.with_replicas(back, taken(), lambda color, image: template("never"))
    assert back.colors == {"blue": Wanted(1, 2)}
    assert snapshots.differences(back, READY, taken()) == []


def test_the_way_back_in_another_life() -> None:
    new = desired(fleet="f2", colors={"green": Wanted(1, 1)}, templates={1: template("other")})
    back = snapshots.with_replicas(new, taken(), lambda color, image: template(image))
    assert back.colors == {"blue": Wanted(2, 2)}
    assert back.template("blue") == template("llm:1")
    ready = status(replica(1, generation=2), replica(2, generation=2))
    assert snapshots.differences(back, ready, taken()) == []


def test_differences() -> None:
    assert snapshots.differences(released(), READY, taken()) == [
        "traffic goes to green, not blue",
        "blue has image llm:3, not llm:1",
        "blue has replicas 4, not 2",
        "green is 3 replicas of llm:2, not absent",
    ]
    other = desired().with_template("blue", template(variables={}), 2)
    assert snapshots.differences(other, READY, taken()) == ["blue has other settings: generation 2"]
    assert snapshots.differences(desired(), status(replica(1)), taken()) == [
        "blue has 1 of 2 replicas ready"
    ]
    gone = replace(desired(), colors={})
    assert snapshots.differences(gone, READY, taken()) == [
        "blue is absent, not 2 replicas of llm:1"
    ]
