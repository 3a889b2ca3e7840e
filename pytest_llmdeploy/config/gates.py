"""The gates of the file: what is asked, who judges it, and what decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pytest_llmdeploy.config.section import HeaderName, HeaderValue, Rate, Seconds, Section
from pytest_llmdeploy.config.sentences import shown

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Confidence = Annotated[float, Field(gt=0.5, lt=1, allow_inf_nan=False)]
Rule = Literal["point", "wilson", "exact", "bayes"]


class ModelEndpoint(Section):
    """Another model endpoint than the environment's service."""

    base_url: str = Field(pattern=r"^https?://\S+$")
    """Base URL of its OpenAI-compatible API, with /v1 where it has one."""
    model: str
    """Model name."""
    api_key: HeaderValue | None = None
    """Bearer token; write ${VARIABLE}."""
    headers: dict[HeaderName, HeaderValue] = {}
    """Further request headers."""


class JudgeConfig(Section):
    """Who judges answers for model-graded assertions, and how often."""

    endpoint: ModelEndpoint | None = None
    """The judging model; left out: the environment's service judges itself, which is told."""
    parameters: dict[str, Any] = {"temperature": 0}
    """Sampling parameters of the judge's requests."""
    votes: int = Field(default=1, ge=1, le=99)
    """How often the judge is asked; the majority decides, so an odd number."""
    timeout: Seconds = 60.0
    """Seconds until one request to the judge is given up."""

    @model_validator(mode="after")
    def _no_tie(self) -> JudgeConfig:
        if self.votes % 2 == 0:
            raise ValueError(f"votes: {self.votes} can end in a tie; take an odd number")
        return self


class EmbeddingsConfig(Section):
    """Where the vectors of the assertion `similar` come from: an endpoint, or this machine."""

    endpoint: ModelEndpoint | None = None
    """An OpenAI-compatible embeddings endpoint."""
    local: str | None = None
    """Folder or name of a model2vec model that runs here (needs the extra embeddings)."""

    @model_validator(mode="after")
    def _one_source(self) -> EmbeddingsConfig:
        if (self.endpoint is None) == (self.local is None):
            raise ValueError("give one of endpoint and local")
        return self


class DecisionConfig(Section):
    """What is asked of the cases together before a gate passes."""

    rule: Rule | None = None
    """point compares the rate itself; the others ask for confidence. See docs/statistics.md."""
    confidence: Confidence = 0.95
    """One-sided confidence of wilson and exact, posterior probability of bayes."""
    cluster_by: str | None = None
    """Variable that cases of one document, template or conversation share: they count together."""
    estimate: Literal["pass_rate", "pass_at_k", "pass_hat_k"] = "pass_rate"
    """What a case counts: passed or not; any of k answers right; all of k answers right."""
    k: int = Field(default=1, ge=1, le=1000)
    """The k of pass_at_k and pass_hat_k; needs at least as many repeats."""
    stop_early: bool = False
    """Stop asking once no further answer could change the verdict."""


class TagGate(Section):
    """A gate within the gate: the cases with one tag."""

    min_pass_rate: Share = 1.0
    """Weighted share of these cases that must pass."""
    rule: Rule | None = None
    """The rule for these cases; left out: that of the gate's decision, else by their number."""


class BaselineConfig(Section):
    """How much worse than a baseline the gate may be, where a run is given one."""

    max_regression: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.02
    """Largest loss of the pass rate on the same cases, as a share: 0.02 are two points."""
    confidence: Confidence = 0.95
    """One-sided confidence with which the loss must be shown to be smaller."""


class OpenAIEvalsConfig(Section):
    """An eval of OpenAI: an export of the hosted service, or the registry of openai/evals."""

    path: str
    """The export (JSON or JSONL), or a YAML file of an openai/evals registry."""
    name: str | None = None
    """Which eval of the file, where it holds several."""
    samples: str | None = None
    """JSONL of the samples, where the eval does not name them or names a file elsewhere."""


def _case_list(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


class SuiteConfig(Section):
    """One gate: cases, how to ask them, and how good the answers must be."""

    cases: Annotated[tuple[str | dict[str, Any], ...], BeforeValidator(_case_list)] = Field(
        default=(), min_length=1
    )
    """Case files (JSON, JSONL, CSV, YAML; globs too; relative to this file) or cases in place."""
    promptfoo: str | None = None
    """A promptfoo config instead of cases, run as it is."""
    openai_evals: OpenAIEvalsConfig | None = None
    """An OpenAI eval instead of cases."""
    prompt: str | dict[str, str] | tuple[dict[str, Any], ...] | None = None
    """Jinja2 template, list of messages, or {file: path}; a case's own prompt wins."""
    system: str | None = None
    """System message (a Jinja2 template too) put in front of a text prompt."""
    checks: tuple[str | dict[str, Any], ...] = Field(default=(), alias="assert")
    """Assertions for every case, before the case's own."""
    transform: str | None = None
    """What is done to every answer before it is judged; see docs/assertions.md."""
    parameters: dict[str, Any] = {}
    """Sampling parameters of the request, such as temperature, max_tokens, seed, tools."""
    endpoint: ModelEndpoint | None = None
    """Ask this model instead of the environment's service."""
    judge: JudgeConfig = JudgeConfig()
    """Who judges model-graded assertions."""
    embeddings: EmbeddingsConfig | None = None
    """Where `similar` gets its vectors; left out: the service's embeddings endpoint."""
    repeats: int = Field(default=1, ge=1, le=1000)
    """How often each case is asked; a case's own number wins."""
    k_of_n: int | None = Field(default=None, ge=1, le=1000)
    """So many of a case's answers must pass; left out: all of them."""
    min_pass_rate: Share = 1.0
    """Weighted share of the cases that must pass for the gate to pass."""
    decision: DecisionConfig = DecisionConfig()
    """By which rule the rate is judged."""
    must_pass: tuple[str, ...] = ()
    """Tags of which no case may fail."""
    tags: dict[str, TagGate] = {}
    """Gates of their own for the cases with a tag."""
    baseline: BaselineConfig = BaselineConfig()
    """How the gate is held against --llmdeploy-baseline."""
    max_error_rate: Rate = 0.0
    """Share of the cases that may stay unanswered (timeouts, 5xx) before the gate is an ERROR."""
    concurrency: int = Field(default=20, ge=1, le=1000)
    """Most requests in flight at once, over all test processes; halved when the service refuses."""
    retries: int = Field(default=3, ge=0, le=20)
    """Further attempts after 5xx and broken connections."""
    throttled_timeout: Seconds = 300.0
    """Seconds for which a request is asked again while the service refuses it with 429."""
    timeout: Seconds | None = None
    """Seconds until one request is given up; default: service.timeout."""
    allow_code: bool = False
    """Let case files and imported suites name code of this project to run (python, javascript)."""

    @model_validator(mode="after")
    def _one_source(self) -> SuiteConfig:
        given = [key for key in ("cases", "promptfoo", "openai_evals") if getattr(self, key)]
        if len(given) != 1:
            ways = "give one of cases, promptfoo and openai_evals"
            raise ValueError(f"{ways}, not {' and '.join(given)}" if given else ways)
        if given != ["cases"] and (self.prompt or self.system or self.checks or self.transform):
            raise ValueError(
                f"{given[0]} brings its own prompts and assertions: prompt, system, assert and "
                "transform belong to cases"
            )
        return self

    @model_validator(mode="after")
    def _enough_answers(self) -> SuiteConfig:
        if self.k_of_n is not None and self.k_of_n > self.repeats:
            raise ValueError(f"k_of_n: {self.k_of_n} of {self.repeats} answers can never pass")
        if self.decision.estimate != "pass_rate" and self.decision.k > self.repeats:
            raise ValueError(
                f"{self.decision.estimate} of k = {self.decision.k} needs as many repeats, "
                f"not {self.repeats}"
            )
        if self.decision.stop_early and self.decision.cluster_by:
            raise ValueError("stop_early cannot foresee what cluster_by will make of the rest")
        return self


class PriceConfig(Section):
    """What a model's tokens cost, in dollars per million."""

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Tokens of the prompt."""
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Tokens of the answer."""


class BudgetConfig(Section):
    """The most that the gates of one run may spend, over all test processes; judges included."""

    dollars: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """By the prices of the file; a model without one is an ERROR then."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers together."""
    requests: int | None = Field(default=None, ge=1)
    """Requests, attempts that failed among them."""
    seconds: Seconds | None = None
    """Time since the run's first request."""


def gate_names(gates: Sequence[object]) -> list[str]:
    """Return a name for each gate of a list, which tools write: its `name`, or its suite's file.

    Raises ValueError with a sentence for the user.
    """
    names: list[str] = []
    for number, gate in enumerate(gates, start=1):
        if not isinstance(gate, dict):
            raise ValueError(f"gate {number} of the list: expected a mapping, got {shown(gate)}")
        name = str(gate.get("name") or _name_of(gate) or f"gate-{number}")
        if name in names:
            raise ValueError(f"two gates are named '{name}': give one a name: of its own")
        names.append(name)
    return names


def _name_of(gate: Mapping[str, Any]) -> str:
    """Return a name for an imported suite: its file's, or its folder's where all are called so."""
    source = gate.get("promptfoo") or gate.get("openai_evals")
    path = PurePosixPath(str(source.get("path", "") if isinstance(source, dict) else source or ""))
    common = path.stem.startswith("promptfooconfig") and path.parent.name
    name = "".join(
        char if char.isascii() and char.isalnum() else "-" for char in common or path.stem
    )
    return name.strip("-")[:64]
