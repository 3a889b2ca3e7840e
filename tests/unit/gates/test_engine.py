"""The engine: how much is in flight, when it stops asking, and what becomes of surprises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.errors import NotMeasuredError, UnreachableError
from pytest_llmdeploy.gates.assertions import AssertionContext, AssertionRegistry
from pytest_llmdeploy.gates.engine import GateEngine
from pytest_llmdeploy.gates.progress import REFUSALS_IN_A_ROW
from pytest_llmdeploy.gates.suite import Clients, Suite, build_suite
from pytest_llmdeploy.ports import Answer, Message


class Model:
    """A model whose answers are a function of the question; counts what is in flight."""

    def __init__(self, answer: Callable[[str], str], pause: float = 0.01) -> None:
        self._answer = answer
        self._pause = pause
        self.asked: list[str] = []
        self.in_flight = self.peak = 0
        self.closed = False

    async def ask(
        self, messages: Sequence[Message], parameters: Mapping[str, Any], timeout: float
    ) -> Answer:
        question = str(messages[-1]["content"])
        self.asked.append(question)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.sleep(self._pause)
            return Answer(self._answer(question), "stop", 1, 1, self._pause, "m")
        finally:
            self.in_flight -= 1

    async def aclose(self) -> None:
        self.closed = True


def suite(
    model: Model, root: Path, registry: AssertionRegistry | None = None, **keys: Any
) -> Suite:
    """Return a suite of 20 questions "q0" … "q19" whose answers must contain a "q"."""
    config = {
        "cases": [{"id": f"c{n}", "prompt": f"q{n}"} for n in range(20)],
        "assert": ["contains: q"],
        **keys,
    }
    return build_suite(
        key="k",
        name="s",
        config=SuiteConfig.model_validate(config),
        root=root,
        where=lambda *_: ("f", 1),
        registry=registry or AssertionRegistry(),
        timeout=5,
        clients=Clients(lambda: model),
        redact=lambda value: value,
    )


@contextmanager
def engine(root: Path) -> Iterator[GateEngine]:
    """Return an engine that is closed at the end."""
    made = GateEngine(root / "r.sqlite", root / "p.pulse", workers=1)
    try:
        yield made
    finally:
        made.close(lambda: False)


def test_concurrency_is_bounded_and_used(tmp_path: Path) -> None:
    model = Model(lambda question: question)
    with engine(tmp_path) as asking:
        made = suite(model, tmp_path, concurrency=4)
        asking.want(made, list(made.cases))
        results = asking.results("k")
    assert {result["verdict"] for result in results.values()} == {"PASS"}
    assert list(results) == [f"c{n}" for n in range(20)]
    assert model.peak == 4
    assert model.closed


def test_repeats_count_as_requests_in_flight(tmp_path: Path) -> None:
    model = Model(lambda question: question)
    with engine(tmp_path) as asking:
        made = suite(model, tmp_path, concurrency=3, repeats=5)
        asking.want(made, ["c7"])
        result = asking.result("k", "c7")
    assert len(result["samples"]) == 5
    assert model.asked == ["q7"] * 5
    assert model.peak == 3


def test_only_wanted_cases_are_asked(tmp_path: Path) -> None:
    model = Model(lambda question: question)
    with engine(tmp_path) as asking:
        made = suite(model, tmp_path)
        asking.want(made, ["c3", "c1"])
        assert asking.result("k", "c1")["verdict"] == "PASS"
        assert asking.result("k", "c3")["verdict"] == "PASS"
    assert sorted(model.asked) == ["q1", "q3"]


def test_a_result_can_be_had_twice(tmp_path: Path) -> None:
    model = Model(lambda question: question)
    with engine(tmp_path) as asking:
        made = suite(model, tmp_path)
        asking.want(made, ["c1"])
        assert asking.result("k", "c1") == asking.result("k", "c1")
    assert model.asked == ["q1"]


def test_after_refusals_in_a_row_the_rest_is_not_asked(tmp_path: Path) -> None:
    def refuse(_: str) -> str:
        raise UnreachableError("HTTP 401: no such key")

    model = Model(refuse)
    with engine(tmp_path) as asking:
        made = suite(model, tmp_path, concurrency=1)
        asking.want(made, list(made.cases))
        results = asking.results("k")
    assert len(model.asked) == REFUSALS_IN_A_ROW
    assert {result["verdict"] for result in results.values()} == {"ERROR"}
    expected = "not asked, because 5 requests were refused alike: HTTP 401: no such key"
    assert results["c19"]["reason"] == expected


def test_single_failures_do_not_stop_the_rest(tmp_path: Path) -> None:
    def sometimes(question: str) -> str:
        if question.endswith("3"):
            raise NotMeasuredError("HTTP 503")
        return question

    model = Model(sometimes)
    with engine(tmp_path) as asking:
        made = suite(model, tmp_path)
        asking.want(made, list(made.cases))
        results = asking.results("k")
    errors = [case_id for case_id, result in results.items() if result["verdict"] == "ERROR"]
    assert errors == ["c3", "c13"]
    assert len(model.asked) == 20


def test_a_surprise_is_an_error_of_its_case_with_its_traceback(tmp_path: Path) -> None:
    def surprise(question: str) -> str:
        if question == "q2":
            raise RuntimeError("what is this")
        return question

    with engine(tmp_path) as asking:
        made = suite(Model(surprise), tmp_path)
        asking.want(made, list(made.cases))
        results = asking.results("k")
    assert results["c2"]["verdict"] == "ERROR"
    assert results["c2"]["reason"] == "unexpected RuntimeError: what is this"
    assert "in surprise" in results["c2"]["samples"][0]["error"]
    assert results["c3"]["verdict"] == "PASS"


def test_a_client_that_cannot_be_made_surfaces_in_the_item(tmp_path: Path) -> None:
    def broken() -> Model:
        raise NotMeasuredError("no such service")

    with engine(tmp_path) as asking:
        made = replace(suite(Model(str), tmp_path), clients=Clients(broken))
        asking.want(made, list(made.cases))
        with pytest.raises(NotMeasuredError, match="no such service"):
            asking.result("k", "c0")


def test_closing_cancels_what_is_in_flight(tmp_path: Path) -> None:
    model = Model(lambda question: question, pause=60)
    with engine(tmp_path) as asking:
        made = suite(model, tmp_path, concurrency=2)
        asking.want(made, list(made.cases))

        class EnoughError(Exception):
            """Stands for Ctrl-C while an item waits."""

        def interrupt(_: object) -> None:
            if model.in_flight == 2:
                raise EnoughError

        with pytest.raises(EnoughError):
            asking.result("k", "c0", interrupt)
    assert model.in_flight == 0
    assert len(model.asked) == 2
    assert model.closed


def test_a_service_that_never_answers_is_given_up(tmp_path: Path) -> None:
    def hang(_: str) -> str:
        raise NotMeasuredError("no answer within 60 s")

    model = Model(hang)
    with engine(tmp_path) as asking:
        made = suite(model, tmp_path, concurrency=8)
        asking.want(made, list(made.cases))
        results = asking.results("k")
    assert len(model.asked) < 20
    assert results["c19"]["reason"] == (
        "not asked, because the first 8 requests all failed: no answer within 60 s"
    )


@pytest.mark.timeout(30)
@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
def test_a_function_that_cancels_or_interrupts_stops_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def interrupted(output: str, context: AssertionContext) -> bool:
        if output == "q1":
            raise error
        return True

    registry = AssertionRegistry()
    registry.register("mine", interrupted)
    with engine(tmp_path) as asking:
        made = suite(Model(lambda question: question), tmp_path, registry, **{"assert": ["mine"]})
        asking.want(made, list(made.cases))
        results = asking.results("k")
    line = interrupted.__code__.co_firstlineno + 2
    assert results["c1"]["verdict"] == "ERROR"
    assert results["c1"]["reason"] == f"mine raised {error.__name__}:  ({__file__}:{line})"
    assert results["c2"]["verdict"] == "PASS"


def test_a_run_that_ends_while_a_client_is_being_closed_lets_it_be_closed(tmp_path: Path) -> None:
    class SlowToClose(Model):
        async def aclose(self) -> None:
            await asyncio.sleep(0.1)
            await super().aclose()

    model = SlowToClose(lambda question: question)
    with engine(tmp_path) as asking:
        made = suite(model, tmp_path)
        asking.want(made, ["c1"])
        asking.result("k", "c1")
    assert model.closed
