"""JavaScript, run by V8 in processes of their own: no files, no network, no modules, a deadline.

Sources come from the project, and run only where its user allows it; what they are given, answers
among it, is data. An evaluation has an isolate of its own: nothing is left for the next one. A
process is one thread's at a time, and is replaced when it had to be ended.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import math
import queue
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates.assertions.spec import NotEvaluable
from pytest_llmdeploy.untrusted import one_line

DEADLINE = 5.0
"""Seconds that one evaluation may take."""
MEMORY = 256 << 20
"""Bytes of V8's heap that it may fill."""
MOST_RETURNED = 10_000_000
"""Characters of JSON that it may return."""
PROCESS_MEMORY = 1 << 30
"""Bytes that its process may have in all, buffers outside of the heap among them."""

Form = Literal["body", "module", "auto"]


class UndefinedType:
    """What JavaScript calls undefined, which JSON cannot say."""

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED: Final = UndefinedType()
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_OF_NODE = re.compile(
    r"(require|process|fetch|Buffer|URL|URLSearchParams|TextEncoder|TextDecoder|structuredClone|"
    r"setInterval|setImmediate|queueMicrotask|atob|btoa|crypto|performance|WebAssembly|"
    r"__dirname|__filename|global) is not defined"
)
_EXPORT = re.compile(
    r"^[ \t]*export[ \t]+(?:(?P<default>default)\b[ \t]*|"
    r"(?P<declared>(?:async[ \t]+)?function[ \t]*\*?|class|const|let|var)[ \t]+(?P<name>[\w$]+))",
    re.MULTILINE,
)
_EXPORTED = re.compile(r"^[ \t]*export[ \t]*\{([^}]*)\}[ \t]*;?[ \t]*$", re.MULTILINE)
_IMPORT = re.compile(r"^[ \t]*import\b(?![ \t]*\()|\bimport[ \t]*\(", re.MULTILINE)


class JavaScriptError(Exception):
    """The code threw an error, or is no JavaScript; the text is its message."""


def check_installed() -> None:
    """Raise MissingExtraError where V8 is not installed."""
    if importlib.util.find_spec("py_mini_racer") is None:
        raise MissingExtraError("JavaScript", "javascript", "py_mini_racer")


def run(
    source: str,
    arguments: Mapping[str, Any],
    *,
    body: bool | Literal["auto"] = "auto",
    deadline: float = DEADLINE,
) -> Any:
    """Return what an expression, or the body of a function, makes of the named arguments.

    `arguments` and the result are JSON; a promise is awaited; NaN and the infinities come back as
    floats. With "auto" what is no expression is a body, and a function is called. Raises
    JavaScriptError for what the code throws and for a result that is no value, MissingExtraError,
    and NotEvaluable for what takes too long or too much memory, and for what needs more than the
    language.
    """
    form: Form = "auto"
    if body is True:
        form = "body"
    elif body is False:
        source, form = f"return ({source}\n)", "body"
    value = evaluate(source, arguments, form=form, deadline=deadline)
    if value is UNDEFINED:
        raise JavaScriptError("the code returned nothing: an expression, or a return, is missing")
    return value


def evaluate(
    source: str,
    arguments: Mapping[str, Any],
    *,
    form: Form = "auto",
    function: str | None = None,
    lenient: bool = False,
    deadline: float = DEADLINE,
) -> Any:
    """Return the same, or UNDEFINED; a "module" is a file, whose function gets the arguments.

    `function` names one that the module exports; without it, and where `lenient` also without
    such a one, its default export or the one that it consists of is called.
    """
    if form == "module":
        source = _as_script(source)
    elif form == "auto":
        source = source.strip().rstrip(";")
    sent = {
        "source": source,
        "names": list(arguments),
        "values": dict(arguments),
        "form": form,
        "call": function,
        "lenient": lenient,
    }
    told = _POOL.ask(
        {"run": sent, "deadline": deadline, "memory": MEMORY, "most": MOST_RETURNED}, deadline
    )
    return _value(told)


def _as_script(source: str) -> str:
    """Return a module's text as the body of a function; raise NotEvaluable for imports."""
    if _IMPORT.search(source):
        raise NotEvaluable(_no_modules("import"))
    named: list[tuple[str, str]] = []

    def declared(found: re.Match[str]) -> str:
        if found["default"]:
            return "module.exports.default = "
        named.append((found["name"], found["name"]))
        return f"{found['declared']} {found['name']}"

    def listed(found: re.Match[str]) -> str:
        for one in filter(None, map(str.strip, found[1].split(","))):
            name, _, other = one.partition(" as ")
            named.append((name.strip(), other.strip() or name.strip()))
        return ""

    text = _EXPORT.sub(declared, _EXPORTED.sub(listed, source))
    tail = "".join(f"\nmodule.exports[{json.dumps(to)}] = {name};" for name, to in named)
    return f"{text}\n{tail}"


def _whole(digits: str) -> float:
    """Return a number without a point: beyond 2**53 its digits are those of a rounded double."""
    number = float(digits)
    return int(number) if abs(number) <= 1 << 53 else number


def _no_modules(what: str) -> str:
    return f"{what}: modules are not available to JavaScript here; put all of it into one file"


def _value(told: Mapping[str, Any]) -> Any:
    if "error" in told:
        name, message = str(told["name"]), one_line(str(told["error"]))
        if name == "ModulesNotAvailable":
            raise NotEvaluable(_no_modules(message))
        if name == "NoFunctionExported":
            what = f"exports no function '{message}'" if message else "exports no function"
            raise NotEvaluable(f"the file {what}: use module.exports or export default")
        if name == "ReferenceError" and (found := _OF_NODE.match(message)):
            raise NotEvaluable(
                f"{found[1]} is not available to JavaScript here, which has the language only"
            )
        if (name, message) == ("RangeError", "Array buffer allocation failed"):
            raise NotEvaluable(_MEMORY)
        raise JavaScriptError(f"{name}: {message}" if name else message)
    if told["kind"] == "number" and "special" in told:
        return _SPECIAL[told["special"]]
    if "special" in told:
        if told["kind"] == "undefined":
            return UNDEFINED
        raise JavaScriptError(f"the code returned a {told['kind']}, which is no JSON")
    try:
        # Half a character cannot be written to any file or socket.
        text = json.dumps(json.loads(told["json"], parse_int=_whole), ensure_ascii=False)
        return json.loads(text.encode("utf-8", "replace"), parse_int=_whole)
    except RecursionError as error:
        raise NotEvaluable("the code returned a value that is nested too deeply") from error


@dataclass(frozen=True, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]

    def ask(self, line: bytes) -> bytes:
        """Return the answer to a line; empty where the process ended instead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
            return self.process.stdout.readline()
        except BrokenPipeError:
            return b""

    def end(self) -> int:
        """End the process; return how it ended."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        return self.process.wait()


class _Pool:
    """Processes that wait for work; as many as threads ask at once."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()

    def ask(self, request: Mapping[str, Any], deadline: float) -> Mapping[str, Any]:
        """Return what V8 told; raise NotEvaluable, MissingExtraError or JavaScriptError."""
        try:
            line = json.dumps(request).encode() + b"\n"
        except RecursionError as error:
            raise NotEvaluable("what the code is given is nested too deeply") from error
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = self._started()
        kept = False
        try:
            answer = worker.ask(line)
            kept = bool(answer)
        finally:
            if kept:
                self._idle.put(worker)
            else:
                ended = _ended(worker)
        if not answer:
            if ended == -signal.SIGALRM:
                raise NotEvaluable(
                    f"the code took longer than {deadline:g} s: look for a loop without an end or "
                    "a pattern that backtracks"
                )
            raise NotEvaluable(_MEMORY)
        return _told(json.loads(answer))

    def close(self) -> None:
        """End the processes that wait."""
        while True:
            try:
                self._idle.get_nowait().end()
            except queue.Empty:
                return

    @staticmethod
    def _started() -> _Worker:
        check_installed()
        program = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
        return _Worker(
            subprocess.Popen(
                [*program, str(PROCESS_MEMORY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
            )
        )


_MEMORY = (
    f"the code took too much memory, more than {MEMORY >> 20} MB: let it keep less of what it makes"
)


def _ended(worker: _Worker) -> int:
    # A process that closed its end is ending by itself: how, is what is asked for.
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.process.wait(2.0)
    return worker.end()


def _told(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if "told" in answer:
        told: Mapping[str, Any] = json.loads(answer["told"])
        return told
    if "long" in answer:
        raise NotEvaluable(f"the code returned more than {MOST_RETURNED} characters")
    if "memory" in answer or answer["broken"] == "JSOOMException":
        raise NotEvaluable(_MEMORY)
    raise JavaScriptError(one_line(f"{answer['broken']}: {answer['why']}"))


_POOL = _Pool()
atexit.register(_POOL.close)
