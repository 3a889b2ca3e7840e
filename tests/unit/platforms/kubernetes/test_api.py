"""What is asked again, what is not, and what errors say."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.kubernetes.refusals import UnclearError, named
from pytest_llmdeploy.platforms.kubernetes.transport import Answer, NoAnswerError
from tests.unit.platforms.kubernetes.server import LOST, Server, answer, status

PATH = "/api/v1/namespaces/shop/services/llm"
REFUSED = NoAnswerError("connection refused", sent=False)
BROKEN = NoAnswerError("connection reset", sent=True)


@pytest.fixture
def server() -> Server:
    server = Server()
    server.put(PATH, {"metadata": {"name": "llm"}, "spec": {"replicas": 1}})
    return server


@pytest.mark.parametrize(
    "trouble", [REFUSED, BROKEN, status(429, "", ""), status(500, "", ""), status(503, "", "")]
)
def test_a_read_is_repeated(server: Server, trouble: Answer | NoAnswerError) -> None:
    server.trouble = [trouble, trouble]
    found = server.api().get(PATH)
    assert found is not None
    assert found["spec"] == {"replicas": 1}
    assert len(server.requests) == 3


def test_retry_after_is_honoured(server: Server) -> None:
    server.trouble = [answer(429, {}, **{"retry-after": "7"})]
    server.api().get(PATH)
    assert server.clock.time == 7.0


def test_a_server_that_is_away_for_20_seconds_is_waited_for(server: Server) -> None:
    api = server.api()
    api.get(PATH)
    server.trouble = [REFUSED] * 22
    assert api.get(PATH) is not None
    assert 19 < server.clock.time < 22


def test_patience_ends(server: Server) -> None:
    api = server.api()
    api.get(PATH)
    server.trouble = [REFUSED] * 1000
    with pytest.raises(PlatformError):
        api.get(PATH)
    assert 58 < server.clock.time <= 60


def test_with_an_address_that_never_answered_patience_ends_soon(server: Server) -> None:
    server.trouble = [REFUSED] * 1000
    with pytest.raises(PlatformError) as caught:
        server.api().get(PATH)
    assert 8 < server.clock.time <= 10
    assert str(caught.value) == (
        "GET services/llm in namespace shop: no clear answer of the API server: connection refused"
    )


def test_a_certificate_that_is_refused_is_not_tried_again(server: Server) -> None:
    server.trouble = [NoAnswerError("certificate verify failed", sent=False, hopeless=True)]
    with pytest.raises(PlatformError, match="certificate verify failed"):
        server.api().get(PATH)
    assert len(server.requests) == 1


@pytest.mark.parametrize("trouble", [BROKEN, LOST, status(500, "InternalError", "oops")])
def test_a_creation_with_an_unclear_answer_is_not_repeated(
    server: Server, trouble: Answer | NoAnswerError | str
) -> None:
    server.trouble = [trouble]
    with pytest.raises(UnclearError):
        server.api().create("/api/v1/namespaces/shop/services", {"metadata": {"name": "other"}})
    assert len(server.requests) == 1


@pytest.mark.parametrize("trouble", [REFUSED, status(429, "TooManyRequests", "slow down")])
def test_a_creation_that_surely_did_not_happen_is_repeated(
    server: Server, trouble: Answer | NoAnswerError
) -> None:
    server.trouble = [trouble]
    server.api().create("/api/v1/namespaces/shop/services", {"metadata": {"name": "other"}})
    assert len(server.requests) == 2


def test_deleting_what_is_gone_is_done(server: Server) -> None:
    server.api().delete(PATH)
    server.api().delete(PATH)
    assert server.objects == {}


def test_a_refusal_says_what_why_and_what_to_do(server: Server) -> None:
    server.trouble = [status(403, "Forbidden", 'services "llm" is forbidden: User "x" cannot get')]
    with pytest.raises(PlatformError) as caught:
        server.api().get(PATH)
    assert str(caught.value) == (
        "GET services/llm in namespace shop: 403 Forbidden: "
        'services "llm" is forbidden: User "x" cannot get (grant the missing rights; '
        "deploy/kubernetes/rbac.yaml has all that a release needs)"
    )


def test_a_server_that_has_just_started_may_not_know_our_rights_yet(server: Server) -> None:
    forbidden = status(403, "Forbidden", "RBAC: not loaded")
    server.trouble = [REFUSED, forbidden, forbidden]
    api = server.api()
    assert api.get(PATH) is not None
    server.clock.time += 60
    server.trouble = [forbidden]
    with pytest.raises(PlatformError, match="403 Forbidden"):
        api.get(PATH)


def test_a_conflict_of_field_managers_names_them(server: Server) -> None:
    cause = {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "argocd-controller" using apps/v1',
        "field": ".spec.replicas",
    }
    server.trouble = [status(409, "Conflict", "Apply failed", details={"causes": [cause]})]
    with pytest.raises(ConflictError) as caught:
        server.api().apply("/apis/apps/v1/namespaces/shop/deployments/llm-blue", {})
    assert str(caught.value) == (
        "deployments/llm-blue in namespace shop: argocd-controller manages .spec.replicas: "
        "two writers would undo each other's work; take the object out of the other one's hands"
    )


def test_pages_are_put_together(server: Server) -> None:
    pages = [
        answer(200, {"metadata": {"continue": "next"}, "items": [{"n": 1}]}),
        answer(200, {"metadata": {}, "items": [{"n": 2}]}),
    ]
    server.trouble = [*pages]
    assert server.api().items("/api/v1/namespaces/shop/pods") == [{"n": 1}, {"n": 2}]


def test_the_servers_clock_counts(server: Server) -> None:
    server.trouble = [answer(200, {}, date="Wed, 01 Jan 2020 00:00:00 GMT")]
    api = server.api()
    api.get(PATH)
    assert api.now().year == 2020


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/api/v1/namespaces/shop/pods/a/log", "pods/a in namespace shop"),
        ("/apis/apps/v1/namespaces/shop/deployments", "deployments in namespace shop"),
        ("/api/v1/nodes", "nodes"),
        ("/api/v1/namespaces/shop", "namespaces/shop"),
        ("/version", "/version"),
    ],
)
def test_paths_are_named_as_people_do(path: str, text: str) -> None:
    assert named(path) == text
