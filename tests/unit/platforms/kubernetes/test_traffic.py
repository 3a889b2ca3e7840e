"""One switch at most, whatever becomes of its answer, and never over somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.platforms.kubernetes.snapshot import kept
from pytest_llmdeploy.platforms.kubernetes.traffic import Traffic
from pytest_llmdeploy.platforms.kubernetes.transport import Answer, NoAnswerError
from tests.unit.platforms.kubernetes.server import LOST, Server, status

NAMES = Names("shop", "llm")
PATH = NAMES.service_path()
BLUE = {"app": "llm", "color": "blue"}
GREEN = {"app": "llm", "color": "green"}


def service(selector: Mapping[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "llm"}, "spec": {"selector": dict(selector), "ports": []}}


@pytest.fixture
def server() -> Server:
    server = Server()
    server.put(PATH, service(BLUE))
    return server


def traffic(server: Server) -> Traffic:
    return Traffic(server.api(), NAMES, BlueGreenConfig(), None, server.clock)


def ready(color: str, selector: Mapping[str, str]) -> None:
    pass


def patches(server: Server) -> int:
    return sum(method == "PATCH" for method, _ in server.requests)


def test_a_switch_is_one_patch(server: Server) -> None:
    traffic(server).switch("blue", "green", ready)
    assert server.objects[PATH]["spec"]["selector"] == GREEN
    assert patches(server) == 1


def test_a_switch_whose_answer_is_lost_is_found_done(server: Server) -> None:
    server.trouble = [None, LOST]
    traffic(server).switch("blue", "green", ready)
    assert server.objects[PATH]["spec"]["selector"] == GREEN
    assert patches(server) == 1


@pytest.mark.parametrize(
    "trouble", [NoAnswerError("reset", sent=True), status(500, "InternalError", "oops")]
)
def test_a_switch_that_was_not_done_is_done_again(
    server: Server, trouble: Answer | NoAnswerError
) -> None:
    server.trouble = [None, trouble]
    traffic(server).switch("blue", "green", ready)
    assert server.objects[PATH]["spec"]["selector"] == GREEN
    assert patches(server) == 2


def test_another_writer_just_before_the_patch_stops_it(server: Server) -> None:
    def another(method: str) -> None:
        if method == "PATCH":
            present = service({"app": "llm", "color": "red"})
            fields: dict[str, Any] = {"f:spec": {"f:selector": {}}}
            entry = {"manager": "kubectl-edit", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields}
            present["metadata"]["managedFields"] = [entry]
            server.put(PATH, present)

    server.before = another
    with pytest.raises(ConflictError) as caught:
        traffic(server).switch("blue", "green", ready)
    assert str(caught.value) == (
        "Service llm leads to red, as kubectl-edit (2026-01-01T00:00:00Z) wrote it last, "
        "not to blue: somebody else switches it; nothing was changed"
    )


def test_a_service_that_leads_elsewhere_is_left_alone(server: Server) -> None:
    server.put(PATH, service({"app": "llm"}))
    with pytest.raises(ConflictError, match="leads to no colour, not to blue"):
        traffic(server).switch("blue", "green", ready)
    assert patches(server) == 0


def test_a_switch_without_a_former_colour_tests_the_whole_selector(server: Server) -> None:
    server.put(PATH, service({"app": "llm"}))
    traffic(server).switch(None, "green", ready)
    assert server.objects[PATH]["spec"]["selector"] == GREEN


def test_without_a_service_the_switch_makes_it() -> None:
    server = Server()
    server.trouble = [None, LOST]
    traffic(server).switch(None, "blue", ready)
    made = server.objects[PATH]["spec"]
    assert made["selector"] == BLUE
    assert made["type"] == "ClusterIP"
    assert made["ports"][0]["port"] == 80
    assert made["ports"][0]["targetPort"] == 8000


def test_too_few_ready_pods_stop_the_switch(server: Server) -> None:
    def none_ready(color: str, selector: Mapping[str, str]) -> None:
        assert (color, dict(selector)) == ("green", GREEN)
        raise PlatformError("2 of 3")

    with pytest.raises(PlatformError, match="2 of 3"):
        traffic(server).switch("blue", "green", none_ready)
    assert patches(server) == 0


def test_a_refusal_that_is_no_conflict_stays_what_it_is(server: Server) -> None:
    server.trouble = [None, status(403, "Forbidden", "no")]
    with pytest.raises(PlatformError, match="403 Forbidden"):
        traffic(server).switch("blue", "green", ready)


def test_restoring_is_idempotent(server: Server) -> None:
    former = kept(server.objects[PATH])
    traffic(server).switch("blue", "green", ready)
    for _ in range(2):
        traffic(server).restore(former)
    assert server.objects[PATH]["spec"]["selector"] == BLUE
    assert patches(server) == 2


def test_a_service_deleted_by_hand_is_made_anew(server: Server) -> None:
    former = kept(server.objects[PATH])
    del server.objects[PATH]
    server.trouble = [None, status(422, "Invalid", "the address is taken")]
    traffic(server).restore(former)
    assert server.objects[PATH]["spec"]["selector"] == BLUE


def test_a_service_that_was_not_there_before_is_removed(server: Server) -> None:
    traffic(server).restore(None)
    assert server.objects == {}
