"""Which fleet an environment has: replicas here, in a kind cluster, or in a cluster that exists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConfigError, NotMeasuredError, Problem

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.ports import Fleet


def make_fleet(loaded: LoadedConfig, output: Path, owner: int, run_id: str) -> Fleet:
    """Return the environment's fleet; nothing is started yet.

    `output` is the run's folder, in which what belongs to the run alone has its state. Raises
    MissingExtraError, and ConfigError for an environment that can have no releases.
    """
    platform = loaded.environment.platform
    if platform == "local":
        return _local(loaded, output, owner)
    raise NotMeasuredError("not yet")


def fleet_folder(output: Path) -> Path:
    """Return where the local fleets of a run have their state."""
    return output / "fleets"


def blue_green_config(loaded: LoadedConfig) -> BlueGreenConfig:
    """Return the section; its defaults where the file has none."""
    return loaded.blue_green or BlueGreenConfig()


def _local(loaded: LoadedConfig, output: Path, owner: int) -> Fleet:
    from pytest_llmdeploy.platforms.local_fleet.fleet import LocalFleet

    environment = loaded.environment
    if environment.reference is None and environment.command is None:
        place, line = loaded.where("environments", loaded.environment_name)
        raise ConfigError(
            [
                Problem(
                    place,
                    line,
                    f"environments.{loaded.environment_name}",
                    "releases on this machine need reference: or command:, "
                    "which start the replicas; url: names what runs elsewhere",
                )
            ]
        )
    return LocalFleet(
        name=loaded.environment_name,
        environment=environment,
        environment_name=loaded.environment_name,
        service=loaded.service,
        config=blue_green_config(loaded),
        root=loaded.root,
        folder=fleet_folder(output) / loaded.environment_name,
        owner=owner,
        redact=loaded.redactor,
    )
