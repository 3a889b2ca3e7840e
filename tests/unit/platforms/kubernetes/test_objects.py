"""Journal and lease against lost answers and other writers; endpoints; quantities."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import pytest

from pytest_llmdeploy.config.quantities import quantity
from pytest_llmdeploy.errors import ConflictError, LockedError, PlatformError
from pytest_llmdeploy.platforms.kubernetes.capacity import quota_shortages, room_on_nodes
from pytest_llmdeploy.platforms.kubernetes.endpoints import endpoints
from pytest_llmdeploy.platforms.kubernetes.journal import ConfigMapJournal
from pytest_llmdeploy.platforms.kubernetes.lease import LeaseLock
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.ports import Endpoint
from tests.unit.platforms.kubernetes.server import LOST, Server

NAMES = Names("shop", "llm")
LEASE = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/llmdeploy-llm"
CONFIG_MAP = "/api/v1/namespaces/shop/configmaps/llmdeploy-llm"


def test_a_journal_keeps_its_order() -> None:
    journal = ConfigMapJournal(Server().api(), NAMES)
    assert journal.read() == []
    for number in range(3):
        journal.append({"n": number, "text": "Grün"})
    assert [entry["n"] for entry in journal.read()] == [0, 1, 2]
    journal.clear()
    assert journal.read() == []


@pytest.mark.parametrize("already", [0, 1])
def test_an_entry_whose_answer_is_lost_stands_there_once(already: int) -> None:
    server = Server()
    journal = ConfigMapJournal(server.api(), NAMES)
    for _ in range(already):
        journal.append({"same": "entry"})
    server.trouble = [None, LOST]
    journal.append({"same": "entry"})
    assert journal.read() == [{"same": "entry"}] * (already + 1)


def test_two_writers_lose_nothing() -> None:
    server = Server()
    one, other = (ConfigMapJournal(server.api(), NAMES) for _ in range(2))
    one.append({"by": "one"})

    def between(method: str) -> None:
        if method == "PUT":
            server.before = lambda _: None
            other.append({"by": "other"})

    server.before = between
    one.append({"by": "one again"})
    assert [entry["by"] for entry in one.read()] == ["one", "other", "one again"]


def test_a_full_journal_says_so() -> None:
    journal = ConfigMapJournal(Server().api(), NAMES)
    with pytest.raises(PlatformError, match="the journal in ConfigMap llmdeploy-llm is full"):
        journal.append({"text": "x" * 1_000_000})


def test_a_foreign_config_map_is_no_journal() -> None:
    server = Server()
    server.put(CONFIG_MAP, {"data": {"journal.jsonl": "hello\n"}})
    with pytest.raises(PlatformError, match="holds no journal of ours"):
        ConfigMapJournal(server.api(), NAMES).read()


def lock(server: Server, **settings: Any) -> LeaseLock:
    return LeaseLock(server.api(), NAMES, **settings)


def test_a_lease_that_is_held_names_its_holder() -> None:
    server = Server()
    first, second = lock(server), lock(server)
    first.acquire("ann@elsewhere:1")
    first.acquire("ann@elsewhere:1")
    with pytest.raises(LockedError) as caught:
        second.acquire("bob@here:2")
    assert caught.value.alive
    assert caught.value.holder == "ann@elsewhere:1"
    assert str(caught.value).startswith(
        "ann@elsewhere:1 is releasing llm (Lease llmdeploy-llm in namespace shop, renewed 0 s ago)"
    )
    first.release()
    first.release()
    second.acquire("bob@here:2")
    second.release()


def test_a_stale_lease_is_not_taken_silently() -> None:
    server = Server()
    lock(server).acquire("ann@elsewhere:1")
    server.objects[LEASE]["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"
    second = lock(server)
    with pytest.raises(LockedError, match=r"did not finish .*: 'llmdeploy rollback' takes it over"):
        second.acquire("bob@here:2")
    assert second.steal("bob@here:2") == "ann@elsewhere:1"
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "bob@here:2"
    assert server.objects[LEASE]["spec"]["leaseTransitions"] == 1
    second.release()


def test_a_holder_that_ended_on_this_machine_is_known_to_be_dead() -> None:
    server = Server()
    gone = f"ann@{socket.gethostname()}:{2**22 + 1}"
    lock(server).acquire(gone)
    with pytest.raises(LockedError) as caught:
        lock(server).acquire(f"bob@{socket.gethostname()}:{os.getpid()}")
    assert not caught.value.alive


def test_a_lease_is_renewed_and_one_that_was_stolen_is_noticed() -> None:
    server = Server()
    first = lock(server, renew_interval=0.02)
    first.acquire("ann@elsewhere:1")
    begun = server.objects[LEASE]["spec"]["renewTime"]
    deadline = time.monotonic() + 5
    while server.objects[LEASE]["spec"]["renewTime"] == begun and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.objects[LEASE]["spec"]["renewTime"] > begun
    first.check()
    second = lock(server)
    second.steal("bob@here:2")
    with pytest.raises(ConflictError, match="bob@here:2 has taken over the release of llm"):
        while time.monotonic() < deadline:
            first.check()
            time.sleep(0.01)
    first.release()
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "bob@here:2"
    second.release()


def test_a_lease_whose_answer_is_lost_is_ours() -> None:
    server = Server()
    server.trouble = [None, LOST]
    first = lock(server)
    first.acquire("ann@elsewhere:1")
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "ann@elsewhere:1"
    first.release()


def entry(pod: str, **conditions: bool) -> dict[str, Any]:
    return {
        "addresses": ["10.0.0.1"],
        "targetRef": {"kind": "Pod", "name": pod},
        "conditions": conditions,
    }


def test_endpoints_of_two_families_are_one_each() -> None:
    pods = [{"metadata": {"name": name, "labels": {"color": "blue"}}} for name in ("a", "b")]
    slices: list[dict[str, Any]] = [
        {"endpoints": [entry("a", ready=True), entry("b", ready=False), entry("c")]},
        {"endpoints": [entry("a", ready=True), {"addresses": ["192.0.2.1"]}]},
        {"endpoints": None},
    ]
    assert endpoints(slices, pods) == [
        Endpoint("192.0.2.1", None, ready=True),
        Endpoint("a", "blue", ready=True),
        Endpoint("b", "blue", ready=False),
        Endpoint("c", None, ready=True),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "0.5"), ("2", "2"), ("1Gi", str(2**30)), ("3k", "3000"), ("1.5Mi", "1572864")],
)
def test_quantities(text: str, value: str) -> None:
    assert str(quantity(text).normalize()) == str(quantity(value).normalize())


POD = {"containers": [{"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]}


def test_a_quota_without_room_is_a_shortage() -> None:
    quota = {
        "metadata": {"name": "small"},
        "spec": {},
        "status": {
            "hard": {"requests.cpu": "2", "pods": "10", "count/secrets": "1"},
            "used": {"requests.cpu": "1", "pods": "3", "count/secrets": "1"},
        },
    }
    assert list(quota_shortages([quota], POD, 3)) == [
        "ResourceQuota small: 3 more replicas need 1.5 of requests.cpu, 1 of 2 are left"
    ]
    assert list(quota_shortages([{**quota, "spec": {"scopes": ["BestEffort"]}}], POD, 3)) == []


def test_room_on_nodes() -> None:
    def node(name: str, cpu: str, *taints: str) -> dict[str, Any]:
        return {
            "metadata": {"name": name},
            "spec": {"taints": [{"effect": effect} for effect in taints]},
            "status": {"allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "110"}},
        }

    pods = [
        {"spec": {"nodeName": "a", **POD}, "status": {"phase": "Running"}},
        {"spec": {"nodeName": "a", **POD}, "status": {"phase": "Succeeded"}},
    ]
    nodes = [node("a", "2"), node("b", "1"), node("c", "64", "NoSchedule")]
    assert room_on_nodes(nodes, pods, POD) == 3 + 2
