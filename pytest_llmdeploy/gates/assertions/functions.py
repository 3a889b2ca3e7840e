"""Assertions that are a user's own Python function: ``function(output, context)``."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.sentences import shown
from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionResult,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
)
from pytest_llmdeploy.gates.wording import quote
from pytest_llmdeploy.untrusted import one_line

UserFunction = Callable[[str, AssertionContext], Any]
"""Returns bool, a score from 0 to 1, {pass, score, reason} or an AssertionResult."""
DEFAULT_THRESHOLD = 0.5
"""A bare score must reach this, unless the assertion has a threshold of its own."""


def named(label: str, function: UserFunction) -> AssertionType:
    """Return the assertion type of a registered function."""
    refuse_async(label, function)

    def prepare(value: Any, threshold: float | None) -> Check:  # noqa: ARG001 - in the context
        return _check(label, function, threshold)

    return prepare


def python(root: Path | None) -> AssertionType:
    """Return the type whose value names a function.

    A module that stands below `root` is taken from there or not at all.
    """

    def prepare(value: Any, threshold: float | None) -> Check:
        function = imported(value, root)
        refuse_async(value, function)
        return _check(value, function, threshold)

    return prepare


def imported(value: Any, root: Path | None) -> UserFunction:
    """Return the function that ``package.module:function`` names; raise BadValue.

    A module that stands below `root` is taken from there or not at all.
    """
    module_name, _, path = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not module_name or not path:
        raise BadValue("the value must name a function, as in 'python: package.module:function'")
    first = module_name.partition(".")[0]
    try:
        function: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        _refuse_namesake(first, root)
        raise BadValue(f"{error}; pytest's 'pythonpath' says where modules are found") from error
    except Exception as error:
        raise BadValue(f"importing {module_name} raised {type(error).__name__}: {error}") from error
    _refuse_namesake(first, root)
    try:
        for part in path.split("."):
            function = getattr(function, part)
    except AttributeError as error:
        raise BadValue(str(error)) from error
    if not callable(function):
        raise BadValue(f"{value} is not a function")
    return function  # type: ignore[no-any-return]


def _refuse_namesake(name: str, root: Path | None) -> None:
    """Raise BadValue when the module `name` is another one than that below `root`.

    Python keeps one module of a name: the one of another project of this run, an installed one.
    """
    module = sys.modules.get(name)
    if root is None or module is None:
        return
    file = getattr(module, "__file__", None)
    taken = [file] if file else list(getattr(module, "__path__", ()))
    own = [place for place in (root / name, root / f"{name}.py") if place.exists()]
    if any(Path(one).resolve().is_relative_to(place.resolve()) for one in taken for place in own):
        return
    for place in own:
        # A folder without Python in it, such as one of cases, is no module.
        if place.is_file() or any(place.rglob("*.py")):
            there = f"from {display_path(Path(taken[0]))}" if taken else "from Python itself"
            raise BadValue(
                f"the module {name!r} came {there}, not from {display_path(place)}: "
                "Python keeps one module of a name, so give yours another one"
            )


def refuse_async(label: str, function: UserFunction, what: str = "an assertion") -> None:
    """Raise BadValue for a function whose call would return a coroutine."""
    if inspect.iscoroutinefunction(function):
        raise BadValue(f"{label} is async; {what} is a plain function")


def check_threshold(threshold: float | None) -> None:
    """Raise BadValue for a threshold that no score could reach, or every score does."""
    if threshold is not None and not 0 < threshold <= 1:
        raise BadValue(f"threshold is {threshold:g}, it must be above 0 and at most 1")


def _check(label: str, function: UserFunction, threshold: float | None) -> Check:
    check_threshold(threshold)

    def judge(context: AssertionContext) -> Finding:
        try:
            returned = function(context.answer.text, context)
        except BaseException as error:  # pytest.skip() and sys.exit() are no verdicts
            # Nor is KeyboardInterrupt Ctrl-C: that reaches the main thread, and this is another.
            place = place_of(function, error)
            raise NotEvaluable(
                f"{label} raised {type(error).__name__}: {one_line(str(error))} ({place})"
            ) from error
        return finding_of(label, returned, threshold, context)

    return Check(f"to satisfy {label}", judge)


def place_of(function: UserFunction, error: BaseException) -> str:
    """Return file:line of the innermost frame in the function's own file."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = getattr(inspect.unwrap(function), "__code__", None)
    mine = [frame for frame in frames if own and frame.filename == own.co_filename] or frames
    return f"{mine[-1].filename}:{mine[-1].lineno}" if mine else "no place known"


def finding_of(
    label: str, returned: object, threshold: float | None, context: AssertionContext
) -> Finding:
    """Return what a user's code found, by what it returned; raise NotEvaluable."""
    said = f"got {quote(context.answer.text)}"
    if isinstance(returned, AssertionResult):
        returned = {"pass": returned.passed, "score": returned.score, "reason": returned.reason}
    if isinstance(returned, bool):
        return Finding(returned, said)
    if isinstance(returned, int | float):
        limit = DEFAULT_THRESHOLD if threshold is None else threshold
        score = _score(label, returned)
        return Finding(
            score >= limit, f"its score is {score:g} at a threshold of {limit:g}; {said}", score
        )
    if not isinstance(returned, dict):
        got = "None" if returned is None else type(returned).__name__
        raise NotEvaluable(
            f"{label} returned {got}; it must return True or False, a score from 0 to 1,"
            " {'pass', 'score', 'reason'} or an AssertionResult"
        )
    return _finding_of_mapping(label, returned, threshold, said)


def _finding_of_mapping(
    label: str, returned: dict[Any, Any], threshold: float | None, said: str
) -> Finding:
    passed, score = returned.get("pass"), returned.get("score")
    unknown = set(returned) - {"pass", "score", "reason"}
    if unknown or (passed is None and score is None) or not isinstance(passed, bool | None):
        raise NotEvaluable(
            f"{label} returned {quote(repr(returned))}; 'pass' (True or False) or 'score'"
            " must be there, 'reason' may, and nothing else"
        )
    if score is not None:
        score = _score(label, score)
        limit = DEFAULT_THRESHOLD if threshold is None and passed is None else threshold
        passed = passed is not False and (limit is None or score >= limit)
    reason = returned.get("reason")
    return Finding(
        passed, f"{label} said: {one_line(str(reason))}; {said}" if reason else said, score
    )


def _score(label: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotEvaluable(f"{label} returned {one_line(shown(value))} as its score")
    if not 0 <= value <= 1:
        raise NotEvaluable(
            f"{label} returned the score {shown(value)}; it must lie between 0 and 1"
        )
    return float(value)


TYPES: Mapping[str, AssertionType] = {"python": python(None)}
