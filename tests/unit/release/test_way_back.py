"""When the former version's replicas are wanted again before the traffic goes back."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.ports import BLUE, GREEN, Fleet, Rollout
from pytest_llmdeploy.release.convergence import Identity
from pytest_llmdeploy.release.rollback import WayBack, _ensure_former


class Former:
    """A fleet whose former version has replicas, of which so many are wanted."""

    def __init__(self, desired: int, ready: int, color: str = GREEN) -> None:
        self.desired, self.ready = desired, ready
        self._color = color
        self.scaled = 0

    def rollout(self, color: str) -> Rollout:
        assert color == BLUE
        wanted = self.scaled or self.desired
        ready = self.scaled or self.ready
        return Rollout(wanted, wanted, ready, complete=ready == wanted, waiting_for="")

    def color(self) -> str:
        return self._color

    def image(self, color: str) -> str:
        return "llm-service:1.0.0"

    def scale(self, color: str, replicas: int) -> None:
        self.scaled = replicas


def scaled(fleet: Former) -> int:
    way = WayBack(
        fleet=cast("Fleet", cast("Any", fleet)),
        config=BlueGreenConfig(replicas=2),
        snapshot={},
        old_color=BLUE,
        old=Identity(BLUE, "1.0.0"),
        moved=True,
        who_answers=lambda: Identity(BLUE, "1.0.0"),
    )
    _ensure_former(way, None, lambda: 5.0)
    return fleet.scaled


@pytest.mark.parametrize(
    ("desired", "ready", "color", "wanted"),
    [
        (2, 2, GREEN, 0),  # all are there
        (2, 1, GREEN, 0),  # traffic goes to what there is
        (0, 0, GREEN, 2),  # none is left
        (0, 2, GREEN, 2),  # those that answer are about to end
        (0, 0, BLUE, 0),  # the traffic is there already
    ],
)
def test_replicas_that_are_about_to_end_are_none_to_go_back_to(
    desired: int, ready: int, color: str, wanted: int
) -> None:
    assert scaled(Former(desired, ready, color)) == wanted
