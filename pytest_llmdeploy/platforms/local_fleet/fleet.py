"""`LocalFleet`: the `Fleet` port, by telling the supervisor what is wanted and reading what is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.config.models import EnvironmentConfig, ServiceConfig
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.liveness import is_alive
from pytest_llmdeploy.platforms.local_fleet import capacity, evidence, images, snapshots, views
from pytest_llmdeploy.platforms.local_fleet.client import Client, Start
from pytest_llmdeploy.platforms.local_fleet.desired import Desired, Template
from pytest_llmdeploy.platforms.local_fleet.entry import served
from pytest_llmdeploy.platforms.local_fleet.journal import FileJournal
from pytest_llmdeploy.platforms.local_fleet.launching import required_envoy
from pytest_llmdeploy.platforms.local_fleet.layout import Layout
from pytest_llmdeploy.platforms.local_fleet.lock import ReleaseLock
from pytest_llmdeploy.platforms.local_fleet.router import LocalRouter
from pytest_llmdeploy.platforms.local_fleet.routing import EnvoyAdmin
from pytest_llmdeploy.platforms.local_fleet.spec import SupervisorSpec
from pytest_llmdeploy.ports import (
    BLUE,
    COLORS,
    Endpoint,
    Finding,
    Pod,
    Rollout,
    Service,
    Snapshot,
)
from pytest_llmdeploy.redaction import Redactor

ORPHAN_TIMEOUT = 600.0
FIRST_BACK_OFF = 1.0


class LocalFleet:
    """Versions side by side as processes of this machine.

    The first use starts the supervisor with the stable image as blue, or joins the one that runs
    for `folder`, the fleet's own folder. A fleet that ended is begun anew, not resumed.
    """

    def __init__(
        self,
        *,
        name: str,
        environment: EnvironmentConfig,
        environment_name: str,
        service: ServiceConfig,
        config: BlueGreenConfig,
        root: Path,
        folder: Path,
        owner: int,
        redact: Redactor,
        orphan_timeout: float = ORPHAN_TIMEOUT,
        first_back_off: float = FIRST_BACK_OFF,
    ) -> None:
        """`owner` is the process without which the fleet ends, `orphan_timeout` seconds later."""
        self._name = name
        self._environment = environment
        self._environment_name = environment_name
        self._service = service
        self._config = config
        self._redact = redact
        self._layout = Layout(folder.absolute())
        self._admin = EnvoyAdmin()
        spec = partial(
            SupervisorSpec,
            name=name,
            folder=str(self._layout.folder),
            directory=str(root),
            envoy=required_envoy(),
            orphan_timeout=orphan_timeout,
            stop_timeout=environment.stop_timeout,
            first_back_off=first_back_off,
            secrets=list(redact.secrets),
        )
        start = Start(
            spec=spec,
            stable=partial(self._template, BLUE, environment.stable_image),
            replicas=config.replicas,
            ready_timeout=environment.ready_timeout,
            stop_timeout=environment.stop_timeout,
        )
        self._client = Client(self._layout, start, self._admin, owner, redact)
        self._left: dict[str, int] = {}
        """Generation of each colour as this object last left it."""
        self.journal = FileJournal(self._layout.journal)
        self.lock = ReleaseLock(self._layout.release)

    # The fleet as a whole

    def entry(self) -> Service:
        """Return the service behind Envoy; raise PlatformError when no version is ready in time."""
        status = self._client.status()
        return served(status, self._environment, self._service, self._layout)

    def close(self) -> None:
        """Release connections."""
        self.lock.close()
        self._admin.close()

    def _change(self, change: Callable[[Desired], Desired]) -> Desired:
        self.lock.check()
        return self._client.change(change)

    def _template(
        self, color: str, image: str, variables: Mapping[str, str] | None = None
    ) -> Template:
        return images.template(
            color,
            image,
            variables or {},
            environment_name=self._environment_name,
            environment=self._environment,
            config=self._config,
        )

    # Colours

    def preflight(self, color: str, image: str) -> Sequence[Finding]:
        """Return whether the image can be run, and whether there is room."""
        return capacity.findings(
            self._template(color, image), self._client.status(), self._config.replicas
        )

    def color(self) -> str | None:
        """Return the selected colour."""
        return self._client.desired().selector

    def image(self, color: str) -> str | None:
        """Return the image of a colour; None where it is absent."""
        template = self._client.desired().template(color)
        return None if template is None else template.image

    def deploy(self, color: str, image: str, variables: Mapping[str, str]) -> None:
        """Want `replicas` of `image`; one that cannot be run is told by `rollout`."""
        template = self._template(color, image, variables)

        def change(desired: Desired) -> Desired:
            self._check_untouched(color, desired)
            return desired.with_template(color, template, self._config.replicas)

        self._remember(color, self._change(change))

    def scale(self, color: str, replicas: int) -> None:
        """Want another number of replicas."""

        def change(desired: Desired) -> Desired:
            self._check_untouched(color, desired)
            wanted = desired.colors.get(color)
            if wanted is None:
                raise PlatformError(f"{color} cannot be scaled: nothing is deployed there")
            return desired.with_color(color, replace(wanted, replicas=replicas))

        self._remember(color, self._change(change))

    def delete(self, color: str) -> None:
        """Want no replicas, and forget the image."""

        def change(desired: Desired) -> Desired:
            self._check_untouched(color, desired)
            return desired.with_color(color, None)

        self._remember(color, self._change(change))

    def _check_untouched(self, color: str, desired: Desired) -> None:
        wanted = desired.colors.get(color)
        found = wanted.generation if wanted else 0
        if color in self._left and self._left[color] != found:
            template = desired.template(color)
            now = f"it runs {template.image}" if template else "it is deleted"
            raise ConflictError(f"somebody else has changed {color}: {now}")

    def _remember(self, color: str, desired: Desired) -> None:
        wanted = desired.colors.get(color)
        self._left[color] = wanted.generation if wanted else 0

    def rollout(self, color: str) -> Rollout:
        """Return how far a colour has come."""
        return views.rollout(color, *self._client.state())

    def pods(self, color: str) -> Sequence[Pod]:
        """Return a colour's replicas."""
        return views.pods(color, *self._client.state())

    @contextmanager
    def direct(self, pod: str) -> Iterator[str]:
        """Yield the address of a replica's own port."""
        for replica in self._client.status().replicas:
            if replica.name == pod and replica.port is not None:
                yield f"http://{replica.address}"
                return
        raise PlatformError(f"no process of replica '{pod}' runs")

    # Traffic

    def switch(self, old: str | None, new: str) -> None:
        """Select `new`; raise ConflictError where another colour than `old` is selected.

        While a router splits the traffic, that decides; see `router`.
        """

        def change(desired: Desired) -> Desired:
            if desired.selector != old:
                raise ConflictError(
                    f"the traffic goes to {desired.selector}, not to {old}: somebody else switched"
                )
            return replace(desired, selector=new).settled()

        self._change(change)

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the addresses to which Envoy sends requests, as Envoy itself tells.

        While a router splits the traffic, they are those of the selected colour.
        """
        desired, status = self._client.state()
        if desired.split is None:
            return self._admin.endpoints(status)
        return self._admin.endpoints(status, desired.selector) if desired.selector else []

    def router(self, config: CanaryConfig) -> LocalRouter:
        """Return what splits the traffic of this fleet; it ends with the fleet."""
        return LocalRouter(
            config.router,
            self._client,
            self._admin,
            change=self._change,
            service=self._name,
            environment_name=self._environment_name,
        )

    def reach(self, namespace: str, service: str, port: int) -> AbstractContextManager[str]:
        """Raise PlatformError: beside a local fleet there is nothing."""
        raise PlatformError(
            f"{namespace}/{service}:{port} is a Service of a cluster, and this environment is "
            "local: give the address (url) instead"
        )

    def stats_addresses(self) -> Sequence[str]:
        """Return where Envoy's admin interface answers."""
        return [f"http://127.0.0.1:{self._client.status().admin_port}"]

    # The way back

    def snapshot(self) -> Snapshot:
        """Return the present state; what others changed until now is none of a release's."""
        self._left.clear()
        return snapshots.take(*self._client.state())

    def restore_traffic(self, snapshot: Snapshot) -> None:
        """Select the snapshot's colour, whatever is selected."""
        self._change(lambda desired: snapshots.with_traffic(desired, snapshot))

    def restore_replicas(self, snapshot: Snapshot) -> None:
        """Want the snapshot's replicas, whoever changed them since."""
        desired = self._change(
            lambda desired: snapshots.with_replicas(desired, snapshot, self._template)
        )
        for color in COLORS:
            self._remember(color, desired)

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return in words how the present state differs."""
        return snapshots.differences(*self._client.state(), snapshot)

    def commands(self, snapshot: Snapshot) -> Sequence[str]:  # noqa: ARG002 - the port's
        """Return what a person can type: finish the rollback, or end everything."""
        commands = [f"llmdeploy rollback --env {self._environment_name}"]
        if is_alive(self._layout.pulse):
            pid = self._layout.pulse.read_text(encoding="utf-8")
            commands.append(f"kill {pid}  # ends the fleet: Envoy and all replicas")
        return commands

    def evidence(self, colors: Sequence[str]) -> Mapping[str, str]:
        """Return logs of replicas, supervisor and Envoy, and what Envoy knows."""
        return evidence.gather(self._layout, colors, self._admin, self._redact)
