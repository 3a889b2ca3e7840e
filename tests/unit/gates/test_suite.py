"""A suite: ids that may be shown, and answers judged within a deadline."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import AssertionContext, AssertionRegistry
from pytest_llmdeploy.gates.suite import Clients, Sample, Suite, build_suite
from pytest_llmdeploy.redaction import Redactor
from tests.unit.gates.helpers import answer, where


def suite(cases: Any, registry: AssertionRegistry | None = None, timeout: float = 20) -> Suite:
    def no_model() -> Any:
        raise AssertionError("nothing is asked here")

    return build_suite(
        key="k",
        name="s",
        config=SuiteConfig.model_validate({"prompt": "x", "cases": cases}),
        root=Path(),
        where=where,
        registry=registry or AssertionRegistry(),
        timeout=timeout,
        clients=Clients(no_model),
        redact=Redactor(["staging-key"]).deep,
    )


async def judged(made: Suite, times: int = 1) -> list[Sample]:
    (case,) = made.cases.values()
    return await asyncio.gather(*(made.sample(case, [], answer("x"), None) for _ in range(times)))


def test_an_id_that_holds_a_secret_is_refused_for_every_case() -> None:
    cases = [
        {"id": "with staging-key", "assert": "equals: x"},
        {"id": "without", "assert": "equals: staging-key"},
    ]
    with pytest.raises(ConfigError) as caught:
        suite(cases)
    assert str(caught.value) == (
        "llmdeploy.yaml:4: id: holds the value of a variable, which would show in every report;"
        " name the case otherwise"
    )
    assert list(suite(cases[1:]).cases) == ["without"]


def test_assertions_that_never_return_are_given_up() -> None:
    release = threading.Event()

    def stuck(output: str, context: AssertionContext) -> bool:
        return release.wait()

    registry = AssertionRegistry()
    registry.register("stuck", stuck)
    made = suite([{"assert": "stuck"}], registry, timeout=0.2)
    samples = asyncio.run(judged(made, times=20))
    assert {str(sample.score) for sample in samples} == {"the assertions took longer than 0.2 s"}
    assert {sample.record["error"] for sample in samples} == {
        "the assertions took longer than 0.2 s"
    }
    # They end after their loop was closed: pytest fails the test for what a thread raises then.
    release.set()
    for thread in threading.enumerate():
        if thread.name == "llmdeploy-work":
            thread.join(10)
            assert not thread.is_alive()


def test_only_so_many_answers_are_judged_at_once() -> None:
    running = threading.Semaphore(4)

    def one_of_few(output: str, context: AssertionContext) -> bool:
        assert running.acquire(blocking=False)
        threading.Event().wait(0.02)
        running.release()
        return True

    registry = AssertionRegistry()
    registry.register("few", one_of_few)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pytest_llmdeploy.gates.suite.JUDGED_AT_ONCE", 4)
        made = suite([{"assert": "few"}], registry, timeout=5)
        samples = asyncio.run(judged(made, times=40))
    assert all(sample.record["passed"] for sample in samples)


def test_work_that_never_returns_does_not_keep_the_process() -> None:
    code = (
        "import threading; from pytest_llmdeploy.threads import in_daemon_thread;"
        "started = threading.Event();"
        "in_daemon_thread(lambda: started.set() or threading.Event().wait());"
        "started.wait(); print('over')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert (done.stdout, done.stderr) == ("over\n", "")
