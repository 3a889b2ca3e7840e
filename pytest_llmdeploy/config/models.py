"""The shape of ``llmdeploy.yaml``: one frozen model per section, documented field by field.

The field docstrings become the descriptions of the JSON Schema that editors show.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.config.gates import BudgetConfig, PriceConfig, SuiteConfig
from pytest_llmdeploy.config.load import LoadConfig, LoadLimits
from pytest_llmdeploy.config.release import (
    BlueGreenConfig,
    ImageConfig,
    KindConfig,
    RollbackConfig,
    split_command,
)
from pytest_llmdeploy.config.section import HeaderName, HeaderValue, Name, Seconds, Section

STAGES = ("health", "smoke", "gates", "load", "blue_green", "canary", "rollback", "monitor")
"""Every stage of a release, in the order in which a run performs them; each is a marker."""
READING_STAGES = frozenset({"health", "smoke", "gates"})
"""The stages that only read from a service, and so may run against a protected environment."""


def _unique_names(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two checks are named '{name}': a name is a test's name")
        seen.add(name)


class ServiceConfig(Section):
    """The LLM service under test, as its users see it."""

    name: Name = "llm-service"
    """Name of the service in reports."""
    model: str | None = None
    """Model name sent with each request; without it the first one that /v1/models lists."""
    base_path: str = Field(default="/v1", pattern=r"^(/[^/?#\s]+)*$")
    """Path in front of the OpenAI-compatible routes, such as /v1 or /openai/v1."""
    api_key: HeaderValue | None = None
    """Bearer token; write ${VARIABLE}, never the key itself."""
    headers: dict[HeaderName, HeaderValue] = {}
    """Further request headers, sent with every request."""
    version_header: str | None = None
    """Response header that names the version which answered, such as x-llm-version."""
    timeout: Seconds = 60.0
    """Seconds until one request is given up; checks have their own."""
    verify_tls: bool = True
    """Verify the server's certificate; false is for throwaway clusters only."""
    ca_file: str | None = None
    """PEM file of the authority that signed the server's certificate, relative to this file."""

    def request_headers(self) -> dict[str, str]:
        """Return the headers of every request, the key among them."""
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {**key, **self.headers}

    def ca_path(self, root: Path) -> Path | None:
        """Return where `ca_file` is, below the file's directory `root`."""
        return root / self.ca_file if self.ca_file else None


class ReferenceConfig(Section):
    """The reference LLM service that this package ships, for trying out and rehearsals."""

    engine: Literal["smollm2", "scripted"] = "smollm2"
    """smollm2: a real 135M model through llama.cpp; scripted: fixed answers at a paced rate."""
    version: str = "1.0.0"
    """Version that the service reports in its x-llm-version header."""
    parallel: int = Field(default=4, ge=1, le=64)
    """Requests that the real engine decodes at once."""
    faults: tuple[str, ...] = ()
    """Planted faults, such as error-500=0.02; see docs/reference-service.md."""


class EnvironmentConfig(Section):
    """One place where the service runs, and what differs there from the base sections."""

    platform: Literal["local", "kind", "kubernetes"] = "local"
    """Where the service runs: this machine, a kind cluster, or a Kubernetes cluster that exists."""
    url: str | None = Field(default=None, pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")
    """Address at which the service already answers; with it nothing is started."""
    command: Annotated[tuple[str, ...] | None, BeforeValidator(split_command)] = Field(
        default=None, min_length=1
    )
    """Command that starts the service on this machine; {port} is replaced by a free port."""
    reference: ReferenceConfig | None = None
    """Start the reference service instead of a command."""
    variables: dict[str, str] = {}
    """Further environment variables for the started process."""
    ready_path: str = Field(default="/ready", pattern=r"^/\S*$")
    """Path that answers 200 once the started service can serve."""
    ready_timeout: Seconds = 60.0
    """Seconds until a started service must be ready."""
    stop_timeout: Seconds = 10.0
    """Seconds that a stopped service has to finish what it is answering before it is killed."""
    protected: bool = False
    """Refuse changes unless -m names the stage, an image is given and the context matches."""
    context: str | None = None
    """Name of the kubeconfig context; a protected cluster is changed through no other one."""
    namespace: str = Field(default="default", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Kubernetes namespace of the service."""
    service: dict[str, Any] = {}
    """Values of the base section 'service' that differ here."""
    health: dict[str, Any] = {}
    """Values of the base section 'health' that differ here."""
    smoke: dict[str, Any] = {}
    """Values of the base section 'smoke' that differ here."""
    gates: dict[str, Any] = {}
    """Values of the base section 'gates' that differ here."""
    load: dict[str, Any] = {}
    """Values of the base section 'load' that differ here."""
    load_hosts: tuple[str, ...] = ()
    """Hosts besides this machine that load may be put on, such as llm.staging.example."""
    load_limits: LoadLimits | None = None
    """The most that one load run may cost; a protected environment takes no load without it."""
    stable_image: str = "stable"
    """Image that runs before a release, where the environment is made for the run."""
    images: dict[str, ImageConfig] = {}
    """What images are on this machine (`platform: local`), by reference."""
    kind: KindConfig | None = None
    """The cluster to provision (`platform: kind`)."""
    blue_green: dict[str, Any] = {}
    """Values of the base section 'blue_green' that differ here."""
    canary: dict[str, Any] = {}
    """Values of the base section 'canary' that differ here."""
    rollback: dict[str, Any] = {}
    """Values of the base section 'rollback' that differ here."""
    policy: dict[str, Any] = {}
    """Values of the base section 'policy' that differ here."""

    @model_validator(mode="after")
    def _one_way_to_the_service(self) -> EnvironmentConfig:
        ways = [key for key in ("url", "command", "reference") if getattr(self, key) is not None]
        if len(ways) > 1:
            raise ValueError(f"give one of url, command and reference, not {' and '.join(ways)}")
        if self.platform != "local" and {"command", "reference"} & set(ways):
            raise ValueError(f"{ways[0]} starts a process here: it needs platform: local")
        if self.platform == "local" and not ways:
            raise ValueError(
                "give the service's address (url:), a command that starts it (command:) "
                "or the reference service (reference: {})"
            )
        if self.kind is not None and self.platform != "kind":
            raise ValueError("kind: describes a cluster to provision: it needs platform: kind")
        if self.kind is not None and self.url is not None:
            raise ValueError("give url or kind: at an address nothing is provisioned")
        if self.images and self.platform != "local":
            raise ValueError("images: names commands of this machine: it needs platform: local")
        if self.platform == "kubernetes" and self.protected and self.context is None:
            raise ValueError("a protected cluster needs context: the kubeconfig context's name")
        return self


class HttpCheck(Section):
    """One request and what its answer must be."""

    name: Name
    """Name of the check; it becomes the test's name."""
    path: str = Field(pattern=r"^/\S*$")
    """Path below the service's address."""
    method: Literal["GET", "HEAD", "POST"] = "GET"
    """HTTP method."""
    body: Any = None
    """JSON body of a POST."""
    status: int = Field(default=200, ge=100, le=599)
    """Expected status code."""
    fields: dict[str, Any] = Field(default={}, alias="json")
    """Fields that the JSON answer must have with these values; a dotted name reaches inside."""
    contains: str | None = None
    """Text that the answer must contain."""
    timeout: Seconds = 5.0
    """Deadline of the whole check in seconds."""


class HealthConfig(Section):
    """Is it up? Each check is one test."""

    checks: tuple[HttpCheck, ...] = (
        HttpCheck(name="health", path="/health"),
        HttpCheck(name="ready", path="/ready"),
    )
    """Requests to make; default: GET /health and GET /ready answer 200."""

    @model_validator(mode="after")
    def _each_name_once(self) -> HealthConfig:
        _unique_names(check.name for check in self.checks)
        return self


SMOKE_KINDS = ("models", "completion", "stream", "bad-request", "version-header", "tls", "http")


class SmokeCheck(Section):
    """One property of an OpenAI-compatible service; a bare name is a check with defaults."""

    kind: Literal["models", "completion", "stream", "bad-request", "version-header", "tls", "http"]
    """What to check; http is a request of your own (see 'request')."""
    name: Name | None = None
    """Name of the check, when its kind does not name it well enough."""
    prompt: str = "Say hello in one short sentence."
    """Question for completion and stream."""
    max_tokens: int = Field(default=16, ge=1)
    """Longest answer for completion and stream, in tokens."""
    timeout: Seconds = 30.0
    """Deadline of the whole check in seconds."""
    first_token_timeout: Seconds = 15.0
    """Deadline of a stream's first token in seconds."""
    request: HttpCheck | None = None
    """The request of kind: http."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _request_for_http(self) -> SmokeCheck:
        if (self.kind == "http") != (self.request is not None):
            raise ValueError("'request' belongs to kind: http, and kind: http needs it")
        return self

    @property
    def title(self) -> str:
        """The name of the check's test."""
        return self.name or (self.request.name if self.request else self.kind)


class SmokeConfig(Section):
    """Does it work at all? Each check is one test."""

    checks: tuple[SmokeCheck, ...] | None = None
    """Checks to make; default: all that apply to the service's address and version_header."""

    @model_validator(mode="after")
    def _each_name_once(self) -> SmokeConfig:
        _unique_names(check.title for check in self.checks or ())
        return self


class PolicyConfig(Section):
    """How verdicts turn into test outcomes."""

    inconclusive: Literal["fail", "skip"] = "fail"
    """Outcome of an INCONCLUSIVE test; a skip still makes the run's exit code 11."""


class FileConfig(Section):
    """Describes the service, its environments and the stages of its release."""

    service: ServiceConfig = ServiceConfig()
    """The LLM service under test."""
    environments: dict[Name, EnvironmentConfig] = Field(min_length=1)
    """Where the service runs, by name; --env chooses one (default: local)."""
    health: HealthConfig = HealthConfig()
    """Health checks; left out: the default ones; checks: [] runs none."""
    smoke: SmokeConfig = SmokeConfig()
    """Smoke checks; left out: the default ones; checks: [] runs none."""
    gates: dict[Name, SuiteConfig] = {}
    """Quality gates by name, or a list of them, each with a name or that of its suite's file."""
    prices: dict[str, PriceConfig] = {}
    """What tokens cost, by model name."""
    budget: BudgetConfig = BudgetConfig()
    """What the gates of one run may spend."""
    load: dict[Name, LoadConfig] = {}
    """Load runs by name."""
    blue_green: BlueGreenConfig | None = None
    """Release by switching between two versions that are both up; left out: none is performed."""
    canary: CanaryConfig | None = None
    """Release by a growing share of the traffic; left out: none is performed."""
    rollback: RollbackConfig = RollbackConfig()
    """Drills of the way back."""
    policy: PolicyConfig = PolicyConfig()
    """How verdicts turn into test outcomes."""
