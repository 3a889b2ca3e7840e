"""What an assertion is: how the user wrote it, how it looks at an answer, what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.ports import Answer, Embedded, Message


class NotEvaluable(NotMeasuredError):  # noqa: N818 - a state of the assertion, like its base's name
    """The assertion could not be judged: neither a pass nor a fail, with or without ``not-``."""


class BadValue(ValueError):  # noqa: N818 - never leaves this package
    """What the user wrote for an assertion cannot work; the text says why."""


class Grading(Protocol):
    """Asks a judging model and an embeddings endpoint, from the thread that judges an answer.

    Every request counts against the run's budget, and is replayed in a run that replays.
    """

    @property
    def votes(self) -> int:
        """How often a judge is asked about one answer; an odd number."""
        ...

    @property
    def judge(self) -> str:
        """The judging model's name, for the report."""
        ...

    def chat(
        self,
        messages: Sequence[Message],
        parameters: Mapping[str, Any] | None = None,
        *,
        vote: int = 0,
    ) -> Answer:
        """Return the judge's answer; `parameters` are added to the judge's own.

        The same question with another `vote` is asked anew. Raises NotMeasuredError.
        """
        ...

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Return a vector for each text; raise NotMeasuredError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionContext:
    """What an assertion can look at besides the answer's text."""

    answer: Answer
    case_id: str
    vars: Mapping[str, Any]
    messages: Sequence[Message]
    """The conversation that was sent."""
    output: Any = None
    """What a transform made of the answer, where it is no text; `answer.text` is its JSON then."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The request's sampling parameters, such as tools."""
    grading: Grading | None = None
    """Whom model-graded assertions ask; None where nobody can be asked."""
    value: Any = None
    """The assertion's own value; filled in by `evaluate`."""
    threshold: float | None = None
    """The assertion's own threshold; filled in by `evaluate`."""


@dataclass(frozen=True, slots=True)
class AssertionResult:
    """What one assertion said about one answer."""

    type: str
    """With ``not-`` where the assertion was negated."""
    passed: bool
    score: float
    """0 to 1."""
    reason: str
    weight: float = 1.0
    """Share in the sample's score; set from the assertion, whatever a user's function says."""
    metric: str | None = None
    """Name under which scores are averaged over a gate."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What a reader may want to see beside the reason: a judge's model, prompt hash and votes."""
    parts: Sequence[AssertionResult] = ()
    """The results of a set's own assertions."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check saw, before ``not-`` is applied."""

    holds: bool | None
    """None fails with and without ``not-``: the question makes no sense for this answer."""
    came: str
    """What came, as the end of the sentence that `Check.expectation` begins."""
    score: float | None = None
    """0 to 1; None stands for 1 when it holds and 0 when it doesn't."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """See AssertionResult."""


@dataclass(frozen=True, slots=True)
class Check:
    """An assertion whose value has been validated and compiled."""

    expectation: str
    """Infinitive after "expected the answer", such as ``to contain "Paris"``."""
    judge: Callable[[AssertionContext], Finding]


@dataclass(frozen=True, slots=True)
class Transform:
    """Makes another value of an answer before it is judged; see transforms.py."""

    written: str
    """As the user wrote it."""
    change: Callable[[Any, AssertionContext], Any] = field(repr=False, compare=False)
    """Return the new value of the given one, which is text or a value of JSON."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote an assertion or a transform, and what its templates are filled with.

    Code that is named in ``llmdeploy.yaml`` is the project's own. A file of cases may come from
    anywhere, so that code in it, or code that a template takes from it, has to be allowed.
    """

    variables: Mapping[str, Any] | None = None
    """Variables of the case; None: templates stay as they are written."""
    code: bool = True
    """Whether what is written may name code."""
    filled_code: bool = True
    """Whether what templates take from the variables may name code."""
    allowed_by: str = "allow_code"
    """The key that allows code, for messages."""

    def refuse_code(self, *, filled: bool) -> None:
        """Raise BadValue where code may not be named here; `filled`: templates had a part in it."""
        if not (self.code and (self.filled_code or not filled)):
            raise BadValue(
                "code that a case file names runs only where the gate allows it: set"
                f" {self.allowed_by}: true, if you trust whoever writes that file"
            )


class AssertionType(Protocol):
    """A family of assertions: turns what the user wrote into a check."""

    def __call__(self, value: Any, threshold: float | None) -> Check:
        """Return the check; raise BadValue for what could never work."""
        ...


@dataclass(frozen=True, slots=True)
class AssertionSpec:
    """One assertion as the user wrote it, validated."""

    type: str
    """Without ``not-``."""
    value: Any
    threshold: float | None
    weight: float
    negated: bool
    source: str
    """Where it was written, as ``file:line``."""
    check: Check = field(repr=False, compare=False)
    metric: str | None = None
    transform: Transform | None = None
    """What is done to the answer before this assertion alone looks at it."""

    @property
    def name(self) -> str:
        """The type as it is written, with ``not-`` where negated."""
        return f"not-{self.type}" if self.negated else self.type


@dataclass(frozen=True, slots=True)
class AssertionSet:
    """Assertions that count as one of their parent: assert-set."""

    assertions: tuple[AssertionSpec | AssertionSet, ...]
    threshold: float | None
    """Weighted score that suffices; None: all must pass."""
    weight: float
    metric: str | None
    source: str
    """Where it was written, as ``file:line``."""


def without_threshold(prepare: Callable[[Any], Check]) -> AssertionType:
    """Return the assertion type of a check that has no threshold."""

    def checked(value: Any, threshold: float | None) -> Check:
        if threshold is not None:
            raise BadValue("it has no threshold")
        return prepare(value)

    return checked
