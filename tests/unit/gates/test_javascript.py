from __future__ import annotations

import importlib.util
import math
import os
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates import javascript
from pytest_llmdeploy.gates.assertions import NotEvaluable
from pytest_llmdeploy.gates.javascript import UNDEFINED, JavaScriptError, evaluate, run

pytest.importorskip("py_mini_racer")

MEMORY = "the code took too much memory, more than 256 MB: let it keep less of what it makes"
SLOW = (
    "the code took longer than 0.5 s: look for a loop without an end or a pattern that backtracks"
)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("output.length > 2", True),
        ("  output + '!' ;\n", "word!"),
        ("const a = output.length;\nreturn a + 1", 5),
        ("if (output) { return 'yes' }", "yes"),
        ("(() => { return [1, null, {a: 'é'}] })()", [1, None, {"a": "é"}]),
        ("{a: 1}", {"a": 1}),
        ("(output, context) => output + context.n", "word3"),
        ("null", None),
        ("-0", 0),
        ("2 ** 53 - 1", 2**53 - 1),
        ("1e300", 1e300),
        ("Infinity", math.inf),
        ("'\\ud83d'", "?"),
        ("'\\0'", "\0"),
        ("Promise.resolve(output)", "word"),
        ("new Promise(done => setTimeout(() => done(7), 1))", 7),
        ("[typeof process, typeof fetch, typeof WebAssembly]", ["undefined"] * 3),
    ],
)
def test_values(source: str, value: Any) -> None:
    returned = run(source, {"output": "word", "context": {"n": 3}})
    assert returned == value
    assert type(returned) is type(value)


def test_what_is_a_body_and_what_an_expression_can_be_said() -> None:
    assert run("return output", {"output": 1}, body=True) == 1
    assert run("output", {"output": 1}, body=False) == 1
    assert math.isnan(run("0 / 0", {}))
    assert evaluate("undefined", {}) is UNDEFINED
    with pytest.raises(JavaScriptError, match="SyntaxError"):
        run("return 1", {}, body=False)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda one: one != 0)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_arguments_and_results_are_exact(value: Any) -> None:
    assert run("output", {"output": value}) == value


def test_a_key_called_proto_is_a_key() -> None:
    given = {"__proto__": {"admin": True}, "constructor": 1}
    assert run("[output, output.admin === undefined]", {"output": given}) == [given, True]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("throw new TypeError('bad\\n' + output)", "TypeError: bad x"),
        ("throw 'text'", "text"),
        ("missing.name", "ReferenceError: missing is not defined"),
        ("Promise.reject(new Error('late'))", "Error: late"),
        ("(", "SyntaxError: Unexpected token '}'"),
        ("1n", "the code returned a bigint, which is no JSON"),
        (
            "undefined",
            "the code returned nothing: an expression, or a return, is missing",
        ),
        ("(() => { const f = () => f() + 1; return f() })()",
         "RangeError: Maximum call stack size exceeded"),
    ],
)  # fmt: skip
def test_what_the_code_does_wrong(source: str, message: str) -> None:
    with pytest.raises(JavaScriptError) as caught:
        run(source, {"output": "x"})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("(() => { while (true) {} })()", SLOW),
        ("/(a+)+$/.test(output)", SLOW),
        ("new Promise(() => {})", SLOW),
        ("Atomics.wait(new Int32Array(new SharedArrayBuffer(8)), 0, 0)", SLOW),
        ("'a'.repeat(2 ** 28).split('a').length", MEMORY),
        ("new ArrayBuffer(2 ** 33)", MEMORY),
        ("'a'.repeat(1.1e7)", "the code returned more than 10000000 characters"),
        ("process.env", "process is not available to JavaScript here, which has the language only"),
        ("fetch(output)", "fetch is not available to JavaScript here, which has the language only"),
        (
            "require('fs')",
            "require is not available to JavaScript here, which has the language only",
        ),
    ],
)
def test_what_cannot_be_judged(source: str, message: str) -> None:
    with pytest.raises(NotEvaluable) as caught:
        run(source, {"output": "a" * 40 + "b"}, deadline=0.5 if message == SLOW else 20)
    assert str(caught.value) == message
    assert run("output + 1", {"output": 1}) == 2


def test_memory_that_fills_up_slowly_is_bounded() -> None:
    with pytest.raises(NotEvaluable) as caught:
        run("const a = [];\nwhile (true) a.push(new Array(1000).fill(1));", {}, deadline=20)
    assert str(caught.value) == MEMORY


def test_nothing_is_left_for_the_next_evaluation() -> None:
    run("globalThis.left = output; Array.prototype.left = 1; JSON.stringify = 1; return 1",
        {"output": "secret"}, body=True)  # fmt: skip
    assert run("[typeof left, [].left === undefined]", {}) == ["undefined", True]


def test_a_process_that_ended_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = javascript._Pool()
    monkeypatch.setattr(javascript, "_POOL", pool)
    run("1", {})
    worker = pool._idle.get_nowait()
    pool._idle.put(worker)
    os.kill(worker.process.pid, signal.SIGKILL)
    with pytest.raises(NotEvaluable):
        run("1", {})
    assert run("1 + 1", {}) == 2
    pool.close()


def test_threads_get_their_own_answers() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: run("output * 2", {"output": one}), range(60)))
    assert found == [one * 2 for one in range(60)]


MODULES: list[tuple[str, str | None, Any]] = [
    ("module.exports = (o, c) => o + c", None, "ab"),
    ("exports.one = (o) => o;", "one", "a"),
    ("export default function (o) { return o; }", None, "a"),
    ("const limit = 1;\nexport const one = async (o) => o + limit;", "one", "a1"),
    ("function f(o, c) { return c; }\nexport { f as one };", "one", "b"),
]


@pytest.mark.parametrize(("source", "function", "value"), MODULES)
def test_modules(source: str, function: str | None, value: Any) -> None:
    given: Mapping[str, Any] = {"output": "a", "context": "b"}
    assert evaluate(source, given, form="module", function=function) == value


@pytest.mark.parametrize(
    ("source", "function", "message"),
    [
        ("import fs from 'fs';\nexport default () => 1", None,
         "import: modules are not available to JavaScript here; put all of it into one file"),
        ("const fs = require('fs');", None,
         'require("fs"): modules are not available to JavaScript here; '
         "put all of it into one file"),
        ("const f = 1;", None,
         "the file exports no function: use module.exports or export default"),
        ("module.exports = () => 1", "other",
         "the file exports no function 'other': use module.exports or export default"),
    ],
)  # fmt: skip
def test_modules_that_cannot_be_run(source: str, function: str | None, message: str) -> None:
    with pytest.raises(NotEvaluable) as caught:
        evaluate(source, {}, form="module", function=function)
    assert str(caught.value) == message


def test_without_v8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(javascript, "_POOL", javascript._Pool())
    with pytest.raises(MissingExtraError) as caught:
        run("1", {})
    assert str(caught.value) == (
        "JavaScript needs the package 'py_mini_racer', which is not installed: "
        "pip install 'pytest-llmdeploy[javascript]'"
    )
