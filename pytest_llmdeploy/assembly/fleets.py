"""Which fleet an environment has: replicas here, in a kind cluster, or in a cluster that exists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmdeploy.config.release import BlueGreenConfig, KindConfig
from pytest_llmdeploy.errors import ConfigError, MissingExtraError, PlatformError, Problem
from pytest_llmdeploy.liveness import process_lives

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.platforms.kind.cluster import Cluster
    from pytest_llmdeploy.platforms.local_fleet.launching import FleetInfo
    from pytest_llmdeploy.ports import RoutableFleet
    from pytest_llmdeploy.run import Run

FLEET = "local fleet"
CLUSTER = "kind cluster"
ORPHAN_TIMEOUT = 600.0
"""Seconds for which a local fleet waits for somebody who ends an interrupted release."""
KEPT = 7 * 24 * 3600.0
STOP_TIMEOUT = 60.0
"""Seconds to wait for a fleet to end."""


def make_fleet(
    loaded: LoadedConfig, output: Path, owner: int, run_id: str, *, keep: bool = False
) -> RoutableFleet:
    """Return the environment's fleet; nothing is started yet.

    `output` is the run's folder, in which what belongs to the run alone has its state. What runs on
    this machine outlives the process `owner` for `KEPT` seconds where `keep` says so. Raises
    MissingExtraError, and ConfigError for an environment that can have no releases.
    """
    platform = loaded.environment.platform
    if platform == "local":
        return _local(loaded, output, owner, KEPT if keep else ORPHAN_TIMEOUT)
    if platform == "kind" and loaded.environment.url is None:
        return _kind(loaded, output, owner, run_id)
    return _kubernetes(loaded)


def ends_with_run(loaded: LoadedConfig) -> bool:
    """Return whether what a release changes is made for the run, and ends with it."""
    environment = loaded.environment
    if environment.platform == "kind" and environment.url is None:
        return environment.kind is None or environment.kind.cluster is None
    return environment.platform == "local"


def cluster_folder(output: Path) -> Path:
    """Return where the kind cluster of a run has its state, and its kubeconfig."""
    return output / "cluster"


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
    """`FLEET` or `CLUSTER`."""
    name: str
    """Folder of the fleet, or name of the cluster."""
    in_use: bool
    """The run that started it is still at work, or it is kept on purpose."""


def run_cluster(run: Run, loaded: LoadedConfig | None, root: Path) -> Cluster:
    """Return the run's kind cluster, made where it is not yet.

    `loaded` may describe it; without a file it is as kind makes it. Raises NotBegunError, in CI
    PlatformError, where there is no Docker or kind.
    """
    try:
        from pytest_llmdeploy.platforms.kind.cluster import KindCluster
    except ModuleNotFoundError as error:
        raise MissingExtraError("kind_cluster", "kubernetes", error.name or "") from None
    sweep_clusters()
    described = loaded.environment.kind if loaded is not None else None
    return KindCluster(
        run_id=run.id,
        config=described or KindConfig(),
        root=loaded.root if loaded is not None else root,
        folder=cluster_folder(run.prepare()),
        owner=run.owner,
    ).ensure()


def leftovers(root: Path) -> list[Leftover]:
    """Return what runs have left: fleets with folders below `root`, and kind clusters."""
    return [*_local_leftovers(root), *_kind_leftovers()]


def _local_leftovers(root: Path) -> list[Leftover]:
    from pytest_llmdeploy.platforms.local_fleet.launching import list_fleets

    return [Leftover(FLEET, str(info.folder), _is_used(info)) for info in list_fleets(root)]


def _kind_leftovers() -> list[Leftover]:
    from pytest_llmdeploy.platforms.kind.programs import ProgramError, unavailable
    from pytest_llmdeploy.platforms.kind.sweeping import list_clusters

    if unavailable() is not None:
        return []
    try:
        return [Leftover(CLUSTER, each.name, each.state != "orphan") for each in list_clusters()]
    except ProgramError:
        return []


def end_leftover(leftover: Leftover) -> str | None:
    """End it; return what is wrong where that fails."""
    if leftover.kind == FLEET:
        from pytest_llmdeploy.platforms.local_fleet.launching import stop_fleet

        ended = stop_fleet(Path(leftover.name), STOP_TIMEOUT)
        return None if ended else f"has not ended within {STOP_TIMEOUT:g} s"
    from pytest_llmdeploy.platforms.kind.cluster import delete
    from pytest_llmdeploy.platforms.kind.programs import ProgramError

    try:
        delete(leftover.name)
    except ProgramError as error:
        return f"could not be deleted: {error}"
    return None


def end_fleets(output: Path, run_id: str, *, keep: bool) -> list[str]:
    """End what the run provisioned, or say that it is kept; only for the run's controller."""
    found = _local_leftovers(fleet_folder(output)) if fleet_folder(output).is_dir() else []
    if cluster_folder(output).is_dir():
        from pytest_llmdeploy.platforms.kind.sweeping import keep_of_run, name_of_run

        name = name_of_run(run_id)
        if name is not None:
            found.append(Leftover(CLUSTER, name, in_use=True))
            if keep:
                keep_of_run(run_id)
    if keep:
        return [f"kept, as asked: {each.kind} {each.name}" for each in found]
    return [f"{each.kind} {each.name} {said}" for each in found if (said := end_leftover(each))]


def sweep_clusters() -> None:
    """Delete the kind clusters of runs that are over."""
    from pytest_llmdeploy.platforms.kind.sweeping import sweep

    sweep()


def _is_used(info: FleetInfo) -> bool:
    from pytest_llmdeploy.platforms.local_fleet.files import read_json
    from pytest_llmdeploy.platforms.local_fleet.layout import Layout

    desired = read_json(Layout(info.folder).desired) or {}
    return any(process_lives(pid) for pid in desired.get("owners", ()))


def service_name(loaded: LoadedConfig) -> str:
    """Return the name of the Service, and the first part of its Deployments' names."""
    return blue_green_config(loaded).name or loaded.service.name


def _local(loaded: LoadedConfig, output: Path, owner: int, orphan_timeout: float) -> RoutableFleet:
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
        orphan_timeout=orphan_timeout,
    )


def _kind(loaded: LoadedConfig, output: Path, owner: int, run_id: str) -> RoutableFleet:
    try:
        from pytest_llmdeploy.platforms.kind.fleet import KindFleet
    except ModuleNotFoundError as error:
        raise MissingExtraError("platform: kind", "kubernetes", error.name or "") from None
    return KindFleet(
        run_id=run_id,
        name=service_name(loaded),
        environment=loaded.environment,
        environment_name=loaded.environment_name,
        config=blue_green_config(loaded),
        service=loaded.service,
        root=loaded.root,
        folder=cluster_folder(output),
        owner=owner,
        redact=loaded.redactor,
    )


def _kubernetes(loaded: LoadedConfig) -> RoutableFleet:
    from pytest_llmdeploy.platforms.kubeconfig import read_kubeconfig

    try:
        from pytest_llmdeploy.platforms.kubernetes.fleet import KubernetesFleet
    except ModuleNotFoundError as error:
        raise MissingExtraError("platform: kubernetes", "kubernetes", error.name or "") from None
    environment = loaded.environment
    kubeconfig = read_kubeconfig()
    context = environment.context or kubeconfig.current
    if context not in kubeconfig.contexts:
        wanted = f"the context '{context}'" if context else "a current context"
        raise PlatformError(
            f"the environment '{loaded.environment_name}' needs {wanted} of the kubeconfig; "
            f"it has: {', '.join(kubeconfig.contexts) or 'none'} ($KUBECONFIG, or ~/.kube/config)"
        )
    return KubernetesFleet(
        kubeconfig=kubeconfig.files,
        context=context,
        namespace=environment.namespace,
        name=service_name(loaded),
        environment=loaded.environment_name,
        config=blue_green_config(loaded),
        service=loaded.service,
        root=loaded.root,
        redact=loaded.redactor,
        url=environment.url,
    )
