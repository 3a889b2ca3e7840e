"""The sections ``blue_green`` and ``rollback``, and what environments say about replicas."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pytest_llmdeploy.config.load import ClientsConfig, NotNegative, PerSecond, PromptsConfig
from pytest_llmdeploy.config.section import Seconds, Section

Drill = Literal[
    "never-ready",
    "wrong-health",
    "smoke-fails",
    "image-missing",
    "crashes",
    "errors-after-switch",
    "canary-errors",
    "canary-route-edited",
    "canary-metrics-down",
]
"""A release of the reference service that must fail: a test of the way back."""
Path = Annotated[str, Field(pattern=r"^/\S*$")]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Port = Annotated[int, Field(ge=1, le=65535)]


def split_command(value: object) -> object:
    """Return a command given as one text as its words."""
    return shlex.split(value) if isinstance(value, str) else value


class ProbeConfig(Section):
    """How a replica is probed."""

    path: Path
    """Path that answers 200 when all is well."""
    delay: NotNegative
    """Seconds after its start until a replica is first probed."""
    period: Seconds
    """Seconds between two probes."""
    timeout: Seconds = 1.0
    """Seconds that one probe may take."""
    failures: int = Field(default=3, ge=1)
    """Failed probes in a row until the replica counts as not ready, or is restarted."""


class ResourcesConfig(Section):
    """What a replica asks for and may use, as Kubernetes quantities."""

    memory: Quantity
    """Memory, such as 1Gi."""
    cpu: Quantity
    """Processor time, such as 500m."""


class ImageConfig(Section):
    """What an image's name stands for where replicas are processes of this machine."""

    command: Annotated[tuple[str, ...] | None, BeforeValidator(split_command)] = Field(
        default=None, min_length=1
    )
    """Command that starts a replica; {port} is replaced. Default: the environment's own."""
    variables: dict[str, str] = {}
    """Further environment variables of its replicas."""


class TrafficConfig(Section):
    """The requests that prove that a switch loses none."""

    rate: PerSecond | None = None
    """Arrivals per second; default: as many as `max_loss` needs within `watch_duration`."""
    max_loss: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """Share of lost requests that the run must be able to rule out: 0 lost of 3/max_loss do."""
    max_tokens: int = Field(default=16, ge=1)
    """Longest answer, in tokens."""
    long_stream_tokens: int = Field(default=64, ge=1)
    """Longest answer of the long-stream clients, in tokens."""
    streamed: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the requests that stream."""
    clients: ClientsConfig = ClientsConfig(keep_alive=4, new_connection=4, long_stream=1)
    """Kinds of clients."""
    prompts: PromptsConfig = PromptsConfig(words=10)
    """What is asked."""
    parameters: dict[str, Any] = {}
    """Further fields of the requests, such as temperature."""
    seed: int = Field(default=0, ge=0)
    """Same seed, same arrivals and same prompts."""
    timeout: Seconds = 30.0
    """Seconds after which a request counts as lost."""


class BlueGreenConfig(Section):
    """Deploys a version beside the running one, and switches to it."""

    name: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$")
    """Name of the Service, and of the Deployments NAME-blue, NAME-green; default: service.name."""
    manifest: str | None = None
    """Deployment of your own (YAML, relative to this file); our labels, image and variables are
    laid over it."""
    replicas: int = Field(default=3, ge=1, le=1000)
    """Replicas of the new version."""
    port: Port = 8000
    """Port on which the container serves."""
    service_port: Port = 80
    """Port of the Service, where it has to be created."""
    requests: ResourcesConfig = ResourcesConfig(memory="1Gi", cpu="500m")
    """What a replica asks for."""
    limits: ResourcesConfig = ResourcesConfig(memory="2Gi", cpu="1")
    """What a replica may use."""
    liveness: ProbeConfig = ProbeConfig(path="/health", delay=30.0, period=10.0)
    """When a replica is restarted."""
    readiness: ProbeConfig = ProbeConfig(path="/ready", delay=5.0, period=5.0)
    """When a replica may get traffic."""
    variables: dict[str, str] = {}
    """Further environment variables of the replicas, beside ENVIRONMENT and COLOR."""
    pre_stop: NotNegative = 5.0
    """Seconds that a replica which is to end goes on serving, while its address is withdrawn."""
    termination_grace_period: Seconds = 60.0
    """Seconds that it has in all to end."""
    rollout_timeout: Seconds = 300.0
    """Seconds until all replicas must be ready."""
    health_timeout: Seconds = 300.0
    """Seconds for the health checks of all new replicas together."""
    converge_timeout: Seconds = 60.0
    """Seconds after the switch until every new connection must be answered by the new version."""
    fresh_connections: int = Field(default=20, ge=1, le=1000)
    """New connections in a row that the new version must answer."""
    watch_duration: Seconds = 30.0
    """Seconds for which the new version is watched after the switch."""
    drain_duration: NotNegative = 30.0
    """Seconds that replicas without new traffic go on before they are removed."""
    rollback_timeout: Seconds = 120.0
    """Seconds until a rollback must have brought the former state back."""
    old: Literal["keep", "scale_down", "delete"] = "keep"
    """What becomes of the old version after a release that passed."""
    traffic: TrafficConfig = TrafficConfig()
    """The requests that prove that nothing is lost."""

    @model_validator(mode="after")
    def _ends_in_time(self) -> BlueGreenConfig:
        if self.termination_grace_period <= self.pre_stop:
            raise ValueError(
                "termination_grace_period must be longer than pre_stop: "
                "the rest is what open requests have to end"
            )
        return self


class RollbackConfig(Section):
    """Rehearses the way back: releases that must fail, and must leave everything as it was."""

    drills: tuple[Drill, ...] = ()
    """Drills to perform, on the reference service in an environment that is not protected."""


class BuildConfig(Section):
    """One image to build before a kind cluster uses it."""

    context: str
    """Folder of the build, relative to this file."""
    dockerfile: str = "Dockerfile"
    """Dockerfile, relative to the context."""
    arguments: dict[str, str] = {}
    """Build arguments."""


class HelmConfig(Section):
    """One Helm release in a kind cluster."""

    name: str
    """Name of the release."""
    chart: str
    """Chart: a reference, its name in `repo`, or a path relative to this file."""
    repo: str | None = Field(default=None, pattern=r"^(https?|oci|file)://\S+$")
    """Address of the repository that has the chart; not asked where `chart` is a path."""
    version: str | None = Field(default=None, pattern=r"^[0-9A-Za-z.+*~^<>=, -]+$")
    """Version of the chart; default: the newest. Not looked at where `chart` is a path."""
    namespace: str = "default"
    """Namespace; made where it is missing."""
    values: dict[str, Any] = {}
    """Values."""


class KindConfig(Section):
    """The cluster of an environment with `platform: kind`."""

    cluster: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$")
    """Use this cluster, made where it is missing, and keep it; default: one for the run alone."""
    image: str | None = None
    """Node image; default: $LLMDEPLOY_KIND_IMAGE, or kind's own."""
    config: str | None = None
    """kind's configuration file, relative to this file; the service's port is added to it."""
    gateway_port: Annotated[int, Field(ge=30000, le=32767)] | None = None
    """Node port of a gateway (`helm` or `manifests` install it) through which the service is
    reached, instead of a node port of its own; `manifests` have the route to it."""
    build: dict[str, BuildConfig] = {}
    """Images to build and load into the cluster, by name."""
    load: tuple[str, ...] = ()
    """Images to load into the cluster; what this machine has not, the cluster pulls."""
    helm: tuple[HelmConfig, ...] = ()
    """Helm releases to install, in order."""
    manifests: tuple[str, ...] = ()
    """Manifest files to apply, in order, relative to this file."""
    create_timeout: Seconds = 300.0
    """Seconds until the cluster must be up."""
    build_timeout: Seconds = 600.0
    """Seconds for each image."""
    helm_timeout: Seconds = 300.0
    """Seconds for each Helm release."""
