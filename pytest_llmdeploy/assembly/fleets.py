"""Which fleet an environment has: replicas here, in a kind cluster, or in a cluster that exists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConfigError, NotMeasuredError, Problem
from pytest_llmdeploy.liveness import process_lives

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.platforms.local_fleet.launching import FleetInfo
    from pytest_llmdeploy.ports import Fleet

STOP_TIMEOUT = 60.0
"""Seconds to wait for a fleet to end."""


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


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that runs on this machine because a run of ours started it."""

    kind: str
    """``fleet`` or ``kind cluster``."""
    name: str
    """Folder of the fleet, or name of the cluster."""
    in_use: bool
    """The run that started it is still at work."""


def leftovers(root: Path) -> list[Leftover]:
    """Return what runs with output folders below `root` have left."""
    from pytest_llmdeploy.platforms.local_fleet.launching import list_fleets

    return [Leftover("fleet", str(info.folder), _is_used(info)) for info in list_fleets(root)]


def end_leftover(leftover: Leftover) -> str | None:
    """End it; return what is wrong where that fails."""
    from pytest_llmdeploy.platforms.local_fleet.launching import stop_fleet

    if stop_fleet(Path(leftover.name), STOP_TIMEOUT):
        return None
    return f"has not ended within {STOP_TIMEOUT:g} s"


def end_fleets(output: Path, *, keep: bool) -> list[str]:
    """End what the run of the folder `output` provisioned, or say that it is kept."""
    found = leftovers(fleet_folder(output)) if fleet_folder(output).is_dir() else []
    if keep:
        return [f"kept, as asked: {each.kind} {each.name}" for each in found]
    return [f"{each.kind} {each.name}: {said}" for each in found if (said := end_leftover(each))]


def _is_used(info: FleetInfo) -> bool:
    from pytest_llmdeploy.platforms.local_fleet.files import read_json
    from pytest_llmdeploy.platforms.local_fleet.layout import Layout

    desired = read_json(Layout(info.folder).desired) or {}
    return any(process_lives(pid) for pid in desired.get("owners", ()))


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
