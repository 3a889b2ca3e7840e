"""What an image is where replicas are processes: a command and its environment variables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.config.models import EnvironmentConfig
from pytest_llmdeploy.config.release import BlueGreenConfig, ImageConfig, ProbeConfig
from pytest_llmdeploy.platforms.local_fleet.desired import Probe, Template
from pytest_llmdeploy.platforms.processes import REFERENCE_COMMAND, reference_variables

NO_REGISTRY = ".invalid"
"""Ending of host names that never exist (RFC 2606): no image of such a registry is to be had."""
REFERENCE_END_MARGIN = 2.0
"""Seconds that the reference service needs to go after it has cut what is still open."""


def template(
    color: str,
    image: str,
    variables: Mapping[str, str],
    *,
    environment_name: str,
    environment: EnvironmentConfig,
    config: BlueGreenConfig,
) -> Template:
    """Return how a replica of `image` is run, or why it cannot be: `error`.

    Of variables set twice the later wins: the environment's, the reference service's, the
    stage's, the image's, those of this release, ENVIRONMENT and COLOR.
    """
    own = environment.images.get(image, ImageConfig())
    command, error = _command(image, environment_name, environment)
    grace = config.termination_grace_period - config.pre_stop
    merged = {"PYTHONUNBUFFERED": "1", **environment.variables}
    if environment.reference is not None:
        merged |= reference_variables(environment.reference)
        merged["LLM_VERSION"] = _version(image, environment)
        merged["LLM_GRACE"] = f"{max(0.0, grace - REFERENCE_END_MARGIN):g}"
    merged |= {**config.variables, **own.variables, **variables}
    merged |= {"ENVIRONMENT": environment_name, "COLOR": color}
    return Template(
        image=image,
        command=command,
        variables=merged,
        readiness=_probe(config.readiness),
        liveness=_probe(config.liveness),
        pre_stop=config.pre_stop,
        grace=grace,
        error=error,
    )


def _command(
    image: str, environment_name: str, environment: EnvironmentConfig
) -> tuple[tuple[str, ...], str | None]:
    """Return the command, or an empty one and why there is none."""
    if image.partition("/")[0].endswith(NO_REGISTRY):
        return (), f"image '{image}' cannot be had: {NO_REGISTRY} names no registry"
    named = environment.images.get(image)
    if named is not None and named.command is not None:
        return named.command, None
    if environment.reference is not None:
        return REFERENCE_COMMAND, None
    if named is None and image != environment.stable_image:
        known = ", ".join(environment.images) or "there are none"
        return (), f"image '{image}' is not among environments.{environment_name}.images: {known}"
    if environment.command is None:
        where = f"environments.{environment_name}"
        return (), f"image '{image}' has no command: give {where}.images.{image}.command"
    return environment.command, None


def _version(image: str, environment: EnvironmentConfig) -> str:
    default: Any = EnvironmentConfig.model_fields["stable_image"].default
    if image == environment.stable_image == default and environment.reference is not None:
        return environment.reference.version
    # The colon of a registry's port comes before the last slash.
    name, colon, tag = image.rpartition("/")[2].rpartition(":")
    return tag if colon and name and tag else image


def _probe(config: ProbeConfig) -> Probe:
    return Probe(config.path, config.delay, config.period, config.timeout, config.failures)
