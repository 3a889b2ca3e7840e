"""Versions side by side on this machine, with the real Envoy and the real reference service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from pytest_llmdeploy.config.models import EnvironmentConfig, ServiceConfig
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConflictError, LockedError, PlatformError
from pytest_llmdeploy.platforms.local_fleet.fleet import LocalFleet
from pytest_llmdeploy.platforms.local_fleet.launching import list_fleets, stop_fleet
from pytest_llmdeploy.ports import BLUE, GREEN, Rollout
from pytest_llmdeploy.redaction import Redactor
from tests.contract.conftest import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

CHAT = "/v1/chat/completions"
NEW = "registry.example:5000/llm:2.0.0"
PROBES = {
    "readiness": {"path": "/ready", "delay": 0.1, "period": 0.1, "timeout": 0.5, "failures": 2},
    "liveness": {"path": "/health", "delay": 5, "period": 0.2, "timeout": 0.5, "failures": 3},
}
FAST = {"LLM_TTFT": "0.002", "LLM_TOKEN_INTERVAL": "0.001"}
Make = Callable[..., LocalFleet]


def make_fleet(folder: Path, *, owner: int | None = None, **options: Any) -> LocalFleet:
    """Return a fleet of scripted reference services, two a colour, that are probed often."""
    environment = options.pop("environment", {"reference": {"engine": "scripted"}})
    config = options.pop("config", {})
    return LocalFleet(
        name="llm",
        environment=EnvironmentConfig.model_validate({"stop_timeout": 3, **environment}),
        environment_name="local",
        service=ServiceConfig(),
        config=BlueGreenConfig.model_validate(
            {
                **PROBES,
                "replicas": 2,
                "pre_stop": 0.3,
                "termination_grace_period": 10,
                "variables": FAST,
                **config,
            }
        ),
        root=folder.parent,
        folder=folder,
        owner=os.getpid() if owner is None else owner,
        redact=Redactor(["the-secret"]),
        first_back_off=0.1,
        **options,
    )


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a function that makes clients of the test's fleet; the fleet ends with the test."""
    made: list[LocalFleet] = []

    def make(**options: Any) -> LocalFleet:
        made.append(make_fleet(tmp_path / "fleet", **options))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
    assert stop_fleet(tmp_path / "fleet", 20)


@pytest.fixture
def fleet(make: Make) -> LocalFleet:
    """Return a fleet that has not been started."""
    return make()


def complete(fleet: LocalFleet, color: str) -> Rollout:
    """Return the rollout once it is complete."""
    wait_until(lambda: fleet.rollout(color).complete)
    return fleet.rollout(color)


def version(url: str) -> str | None:
    """Return the version that answers a new connection; None where nobody does."""
    answer = httpx.get(f"{url}/ready", trust_env=False)
    if answer.status_code == 503:
        return None
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-llm-version"])


def answered_by(url: str, wanted: str) -> bool:
    """Return whether a new connection is answered by a version."""
    return version(url) == wanted


def colors(fleet: LocalFleet) -> Counter[str | None]:
    """Return how many addresses of each colour Envoy has in use."""
    return Counter(endpoint.color for endpoint in fleet.endpoints() if endpoint.ready)


def process_of(fleet: LocalFleet, pod: str) -> int:
    """Return a replica's pid."""
    (found,) = list_fleets(fleet._layout.folder)
    assert found.status is not None
    pid = next(replica.pid for replica in found.status.replicas if replica.name == pod)
    assert pid is not None
    return pid


def all_pids(folder: Path) -> set[int]:
    """Return the pids of everything that a fleet runs."""
    (found,) = list_fleets(folder)
    assert found.status is not None
    pids = {found.pid, found.status.envoy_pid, *(each.pid for each in found.status.replicas)}
    return {pid for pid in pids if pid is not None}


def runs(pid: int) -> bool:
    """Return whether a process runs; one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}


# A release and its way back


def test_a_release_and_its_way_back(fleet: LocalFleet) -> None:
    service = fleet.entry()
    assert service.api_url == f"{service.url}/v1"
    assert (service.version, service.scripted) == ("1.0.0", True)
    assert (fleet.color(), fleet.image(BLUE), fleet.image(GREEN)) == (BLUE, "stable", None)
    assert colors(fleet) == {BLUE: 2}
    before = fleet.snapshot()
    assert fleet.differences(before) == []

    fleet.deploy(GREEN, NEW, {})
    assert fleet.rollout(GREEN).desired == 2
    assert complete(fleet, GREEN) == Rollout(2, 2, 2, complete=True, waiting_for="nothing")
    assert colors(fleet) == {BLUE: 2}, "green is ready but must not have traffic"
    green = [pod.name for pod in fleet.pods(GREEN)]
    for pod in green:
        with fleet.direct(pod) as url:
            health = httpx.get(f"{url}/health", trust_env=False).json()
            assert (health["version"], health["color"]) == ("2.0.0", GREEN)
            assert health["environment"] == "local"
    assert version(service.url) == "1.0.0"

    fleet.switch(BLUE, GREEN)
    wait_until(lambda: version(service.url) == "2.0.0", 2)
    assert fleet.color() == GREEN
    assert sorted(endpoint.pod for endpoint in fleet.endpoints()) == green
    assert fleet.differences(before) == [
        "traffic goes to green, not blue",
        f"green is 2 replicas of {NEW}, not absent",
    ]

    fleet.restore_traffic(before)
    wait_until(lambda: version(service.url) == "1.0.0", 2)
    fleet.restore_replicas(before)
    fleet.restore_replicas(before)
    wait_until(lambda: not fleet.pods(GREEN))
    assert fleet.differences(before) == []
    assert complete(fleet, GREEN).desired == 0
    with pytest.raises(PlatformError, match=r"^no process of replica 'llm-green-2-1' runs$"):
        fleet.direct("llm-green-2-1").__enter__()


def test_another_image_in_the_same_color_replaces_the_former_when_it_is_ready(
    fleet: LocalFleet,
) -> None:
    url = fleet.entry().url
    before = fleet.snapshot()
    blue = {pod.name for pod in fleet.pods(BLUE)}
    fleet.deploy(BLUE, "llm:3", {"LLM_FAULTS": "slow-start=0.5"})
    assert not fleet.rollout(BLUE).complete
    while not fleet.rollout(BLUE).complete:
        assert version(url) in {"1.0.0", "3"}
    assert version(url) == "3"
    assert not blue & {pod.name for pod in fleet.pods(BLUE) if not pod.terminating}
    assert fleet.differences(before) == ["blue has image llm:3, not stable"]
    fleet.restore_replicas(before)
    complete(fleet, BLUE)
    assert version(url) == "1.0.0"
    assert fleet.differences(before) == []


def test_no_color_is_selected(fleet: LocalFleet) -> None:
    url = fleet.entry().url
    fleet.restore_traffic({**fleet.snapshot(), "selector": None})
    wait_until(lambda: not fleet.endpoints())
    answer = httpx.get(url, trust_env=False)
    assert (answer.status_code, answer.text) == (503, "no colour is selected\n")
    assert fleet.entry().version is None
    fleet.switch(None, BLUE)
    wait_until(lambda: version(url) == "1.0.0", 2)


# What fails


def test_somebody_else_switched(make: Make) -> None:
    mine, other = make(), make()
    mine.entry()
    other.deploy(GREEN, NEW, {})
    other.switch(BLUE, GREEN)
    with pytest.raises(ConflictError) as caught:
        mine.switch(BLUE, GREEN)
    assert str(caught.value) == "the traffic goes to green, not to blue: somebody else switched"
    other.switch(GREEN, BLUE)
    mine.deploy(GREEN, "llm:3", {})
    changes = (partial(other.scale, GREEN, 1), partial(other.deploy, GREEN, NEW, {}))
    for change in changes:
        with pytest.raises(ConflictError) as caught:
            change()
        assert str(caught.value) == "somebody else has changed green: it runs llm:3"
    mine.delete(GREEN)
    with pytest.raises(ConflictError, match=r"^somebody else has changed green: it is deleted$"):
        other.delete(GREEN)
    with pytest.raises(PlatformError, match=r"^green cannot be scaled: nothing is deployed there$"):
        mine.scale(GREEN, 1)


def test_a_version_that_never_gets_ready_never_gets_traffic(fleet: LocalFleet) -> None:
    url = fleet.entry().url
    fleet.deploy(GREEN, NEW, {"LLM_FAULTS": "not-ready"})
    waiting_for = "0 of 2 ready (not ready: HTTP 503 on /ready)"
    wait_until(lambda: fleet.rollout(GREEN).waiting_for == waiting_for)
    rollout = fleet.rollout(GREEN)
    assert (rollout.complete, rollout.updated, rollout.ready) == (False, 2, 0)
    assert rollout.failure is None, "it might become ready later"
    fleet.switch(BLUE, GREEN)
    wait_until(lambda: version(url) is None, 2)
    assert fleet.endpoints() == []
    logs = fleet.evidence([GREEN])
    assert not any("/v1/" in text for name, text in logs.items() if name.startswith("replica-"))


def test_a_crash_loop_is_reported_within_seconds(fleet: LocalFleet) -> None:
    fleet.entry()
    fleet.deploy(GREEN, NEW, {"LLM_FAULTS": "exit-at-start"})
    wait_until(lambda: fleet.rollout(GREEN).failure is not None, 8)
    failure = fleet.rollout(GREEN).failure
    assert failure is not None
    name, _, problem = failure.partition(": ")
    assert name in {pod.name for pod in fleet.pods(GREEN)}
    said = "CrashLoopBackOff: exit code 70, 2 restarts; last lines: (it printed nothing)"
    assert problem == said
    fleet.delete(GREEN)
    wait_until(lambda: not fleet.pods(GREEN))


def test_a_command_that_is_missing_and_an_image_that_is_unknown(make: Make) -> None:
    python = [sys.executable, "-m", "pytest_llmdeploy.reference", "--engine", "scripted"]
    fleet = make(
        environment={
            "command": [*python, "--port", "{port}", "--version", "stable"],
            "images": {
                "nothing": {"command": "no-such-program {port}"},
                "llm:2": {"variables": {"LLM_VERSION": "unused"}},
            },
        }
    )
    fleet.entry()
    fleet.deploy(GREEN, "llm:9", {})
    wait_until(lambda: fleet.rollout(GREEN).failure is not None, 2)
    rollout = fleet.rollout(GREEN)
    said = "image 'llm:9' is not among environments.local.images: nothing, llm:2"
    assert (rollout.failure, rollout.ready, rollout.complete) == (said, 0, False)
    assert [(pod.ready, pod.problem) for pod in fleet.pods(GREEN)] == [(False, said)]
    assert next(each.text for each in fleet.preflight(GREEN, "llm:9")) == said
    fleet.deploy(GREEN, "nothing", {})
    wait_until(lambda: fleet.rollout(GREEN).failure is not None, 2)
    failure = fleet.rollout(GREEN).failure or ""
    assert "cannot be started: no-such-program: No such file or directory" in failure
    fleet.deploy(GREEN, "llm:2", {})
    complete(fleet, GREEN)


def test_a_stable_version_that_cannot_start(make: Make) -> None:
    fleet = make(
        environment={"reference": {"engine": "scripted", "faults": ["exit-at-start"]}},
    )
    with pytest.raises(PlatformError) as caught:
        fleet.entry()
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("the stable version cannot be started: llm-blue-1-")
    assert rest[0].startswith("the last lines, from ")
    assert list_fleets(fleet._layout.folder) == []


# Replicas and Envoy that end


def test_a_killed_replica_is_taken_out_and_replaced(fleet: LocalFleet) -> None:
    url = fleet.entry().url
    victim = fleet.pods(BLUE)[0].name
    os.kill(process_of(fleet, victim), signal.SIGKILL)
    wait_until(lambda: colors(fleet) == {BLUE: 1}, 2)
    assert version(url) == "1.0.0"
    pod = next(pod for pod in fleet.pods(BLUE) if pod.name == victim)
    assert (pod.ready, pod.problem) == (False, "ended by signal SIGKILL")
    wait_until(lambda: colors(fleet) == {BLUE: 2}, 5)
    pod = next(pod for pod in fleet.pods(BLUE) if pod.name == victim)
    assert (pod.ready, pod.problem, pod.restarts) == (True, None, 1)


def test_a_replica_that_hangs_is_taken_out_and_restarted(make: Make) -> None:
    liveness = {**PROBES["liveness"], "delay": 2}
    fleet = make(config={"liveness": liveness, "pre_stop": 0.1, "termination_grace_period": 0.3})
    fleet.entry()
    victim = fleet.pods(BLUE)[0].name
    os.kill(process_of(fleet, victim), signal.SIGSTOP)
    wait_until(lambda: colors(fleet) == {BLUE: 1}, 5)
    wait_until(lambda: colors(fleet) == {BLUE: 2}, 8)
    pod = next(pod for pod in fleet.pods(BLUE) if pod.name == victim)
    assert pod.restarts == 1


def test_envoy_is_restarted_on_its_port(fleet: LocalFleet) -> None:
    url = fleet.entry().url
    (found,) = list_fleets(fleet._layout.folder)
    assert found.status is not None
    assert found.status.envoy_pid is not None
    os.kill(found.status.envoy_pid, signal.SIGKILL)

    def answers() -> bool:
        try:
            return version(url) == "1.0.0"
        except httpx.TransportError:
            return False

    wait_until(lambda: not answers(), 2)
    wait_until(answers, 5)
    assert colors(fleet) == {BLUE: 2}


def test_removal_lets_open_streams_end(fleet: LocalFleet) -> None:
    service = fleet.entry()
    slow = {"LLM_TOKEN_INTERVAL": "0.1", "LLM_TOKENS": "20"}
    fleet.deploy(GREEN, NEW, slow)
    complete(fleet, GREEN)
    fleet.switch(BLUE, GREEN)
    wait_until(lambda: version(service.url) == "2.0.0")
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with httpx.stream("POST", service.url + CHAT, json=body, trust_env=False, timeout=10) as stream:
        lines = stream.iter_lines()
        next(lines)
        fleet.switch(GREEN, BLUE)
        fleet.scale(GREEN, 0)
        wait_until(lambda: all(pod.terminating for pod in fleet.pods(GREEN)), 1)
        assert version(service.url) == "1.0.0"
        assert list(lines)[-2:] == ["data: [DONE]", ""]
    wait_until(lambda: not fleet.pods(GREEN), 5)


# Nothing is lost


class Client(threading.Thread):
    """Asks without a pause until stopped."""

    def __init__(self, url: str, *, keep_alive: bool) -> None:
        super().__init__()
        self.url = url
        self.keep_alive = keep_alive
        self.stopped = threading.Event()
        self.answers: Counter[str] = Counter()
        self.lost: list[str] = []
        self.start()

    def run(self) -> None:
        headers = {} if self.keep_alive else {"connection": "close"}
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        with httpx.Client(trust_env=False, timeout=10, headers=headers) as client:
            while not self.stopped.wait(0.002):
                try:
                    answer = client.post(self.url + CHAT, json=body)
                except httpx.TransportError as error:
                    self.lost.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.answers[answer.headers["x-llm-version"]] += 1
                else:
                    self.lost.append(answer.text)


def test_switching_twenty_times_loses_no_request(fleet: LocalFleet) -> None:
    url = fleet.entry().url
    fleet.deploy(GREEN, NEW, {})
    complete(fleet, GREEN)
    clients = [Client(url, keep_alive=number % 2 == 0) for number in range(4)]
    try:
        for turn in range(20):
            old, new = ((BLUE, "1.0.0"), (GREEN, "2.0.0"))[:: -1 if turn % 2 else 1]
            fleet.switch(old[0], new[0])
            wait_until(partial(answered_by, url, new[1]), 2)
            time.sleep(0.05)
        fleet.scale(GREEN, 0)
        wait_until(lambda: not fleet.pods(GREEN))
        fleet.scale(BLUE, 3)
        complete(fleet, BLUE)
        fleet.scale(BLUE, 1)
        wait_until(lambda: len(fleet.pods(BLUE)) == 1)
    finally:
        for client in clients:
            client.stopped.set()
        for client in clients:
            client.join()
    assert [client.lost for client in clients] == [[]] * 4
    for client in clients:
        assert set(client.answers) == {"1.0.0", "2.0.0"}
        assert client.answers.total() > 50


# Who owns the fleet


OWNER = """
import sys, time
from pathlib import Path
from tests.contract.test_local_fleet import make_fleet
fleet = make_fleet(Path(sys.argv[1]), orphan_timeout=float(sys.argv[2]))
print(fleet.entry().url, flush=True)
fleet.deploy("green", "llm:2.0.0", {})
fleet.lock.acquire("run 1")
fleet.journal.append({"step": "deploy"})
print("deployed", flush=True)
sys.stdin.read()
"""


def started_by_another(folder: Path, orphan_timeout: float) -> tuple[str, subprocess.Popen[str]]:
    """Return the address of a fleet that another process has begun, and that process."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), str(orphan_timeout)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert process.stdout.readline() == "deployed\n"
    return url, process


def kill(process: subprocess.Popen[str]) -> None:
    """End it as a machine would that runs out of memory."""
    process.kill()
    process.communicate()


def test_a_fleet_outlives_a_killed_owner_and_another_process_finishes(
    tmp_path: Path, make: Make
) -> None:
    url, owner = started_by_another(tmp_path / "fleet", 1.0)
    kill(owner)
    fleet = make()
    assert fleet.journal.read() == [{"step": "deploy"}]
    with pytest.raises(LockedError) as caught:
        fleet.lock.acquire("run 2")
    said = "run 1 holds the lock of this fleet, and ended without finishing its release"
    assert str(caught.value) == said
    assert fleet.lock.steal("run 2") == "run 1"
    assert fleet.entry().url == url
    assert fleet.image(GREEN) == "llm:2.0.0"
    complete(fleet, GREEN)
    fleet.switch(BLUE, GREEN)
    wait_until(lambda: version(url) == "2.0.0")
    time.sleep(1.5)  # longer than orphan_timeout: there is an owner again
    assert version(url) == "2.0.0"
    fleet.lock.release()


def test_an_orphaned_fleet_ends_with_all_that_it_runs(tmp_path: Path) -> None:
    _, owner = started_by_another(tmp_path / "fleet", 0.3)
    pids = all_pids(tmp_path / "fleet")
    kill(owner)
    wait_until(lambda: not any(map(runs, pids)), 10)
    assert list_fleets(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_fleet_that_ended(fleet: LocalFleet, number: signal.Signals) -> None:
    url = fleet.entry().url
    pids = all_pids(fleet._layout.folder)
    assert len(pids) == 4
    assert all(map(runs, pids))
    (found,) = list_fleets(fleet._layout.folder)
    os.kill(found.pid, number)
    wait_until(lambda: not any(map(runs, pids)), 10)
    assert stop_fleet(fleet._layout.folder, 1)
    with pytest.raises(
        PlatformError, match=r"^the supervisor of the fleet in .* has ended; its log"
    ):
        fleet.color()
    with pytest.raises(httpx.TransportError):
        version(url)


def test_a_fleet_begins_anew_in_the_folder_of_an_ended_one(make: Make) -> None:
    first = make()
    first.entry()
    first.deploy(GREEN, NEW, {})
    before = first.snapshot()
    assert stop_fleet(first._layout.folder, 20)
    second = make()
    assert (second.color(), second.image(BLUE), second.image(GREEN)) == (BLUE, "stable", None)
    assert second.differences(before) == [f"green is absent, not 2 replicas of {NEW}"]
    second.restore_replicas(before)
    complete(second, GREEN)
    assert second.differences(before) == []


def test_what_a_person_gets(fleet: LocalFleet) -> None:
    fleet.entry()
    fleet.deploy(GREEN, NEW, {"LLM_FAULTS": "the-secret"})
    wait_until(lambda: any(pod.restarts for pod in fleet.pods(GREEN)))
    rollback, end = fleet.commands(fleet.snapshot())
    assert rollback == "llmdeploy rollback --env local"
    (found,) = list_fleets(fleet._layout.folder)
    assert end == f"kill {found.pid}  # ends the fleet: Envoy and all replicas"
    texts: Mapping[str, str] = fleet.evidence([GREEN])
    assert set(texts) == {
        "status.json",
        "supervisor.log",
        "envoy.log",
        "envoy-clusters.txt",
        "envoy-routes.json",
        "replica-llm-green-2-1.log",
        "replica-llm-green-2-2.log",
    }
    assert "unknown fault '***'" in texts["replica-llm-green-2-1.log"]
    assert "--- restart 1 ---" in texts["replica-llm-green-2-1.log"]
    assert not any("the-secret" in text for text in texts.values())
    assert "blue::127.0.0.1:" in texts["envoy-clusters.txt"]
    assert stop_fleet(fleet._layout.folder, 20)
    assert fleet.evidence([GREEN])["envoy-clusters.txt"].startswith("(not available: Envoy's")
