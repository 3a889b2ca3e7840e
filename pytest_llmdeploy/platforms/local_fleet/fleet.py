"""`LocalFleet`: the `Fleet` port, by telling the supervisor what is wanted and reading what is."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from pytest_llmdeploy.config.models import EnvironmentConfig, ServiceConfig
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.liveness import is_alive
from pytest_llmdeploy.platforms.local_fleet import capacity, evidence, images, snapshots, views
from pytest_llmdeploy.platforms.local_fleet.desired import Desired, DesiredFile, Template
from pytest_llmdeploy.platforms.local_fleet.entry import served
from pytest_llmdeploy.platforms.local_fleet.journal import FileJournal
from pytest_llmdeploy.platforms.local_fleet.launching import (
    launch,
    read_status,
    required_envoy,
    stop_fleet,
)
from pytest_llmdeploy.platforms.local_fleet.layout import Layout
from pytest_llmdeploy.platforms.local_fleet.lock import ReleaseLock
from pytest_llmdeploy.platforms.local_fleet.routing import EnvoyAdmin
from pytest_llmdeploy.platforms.local_fleet.spec import SupervisorSpec
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
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
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

ORPHAN_TIMEOUT = 600.0
FIRST_BACK_OFF = 1.0
LOCK_MARGIN = 60.0
"""Seconds beyond ready_timeout after which waiting for another process's start is given up."""
STOP_MARGIN = 10.0


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
        self._root = root
        self._owner = owner
        self._redact = redact
        self._orphan_timeout = orphan_timeout
        self._first_back_off = first_back_off
        self._layout = Layout(folder.absolute())
        self._file = DesiredFile(self._layout.desired)
        self._admin = EnvoyAdmin()
        self._joined: str | None = None
        """Id of the fleet that this object uses."""
        self._left: dict[str, int] = {}
        """Generation of each colour as this object last left it."""
        self.journal = FileJournal(self._layout.journal)
        self.lock = ReleaseLock(self._layout.release)

    # The fleet as a whole

    def entry(self) -> Service:
        """Return the service behind Envoy; raise PlatformError when no version is ready in time."""
        status = self._status()
        return served(status, self._environment, self._service, self._layout)

    def close(self) -> None:
        """Release connections."""
        self._admin.close()

    def _status(self) -> FleetStatus:
        """Return what the supervisor last published; start it when this is the first use."""
        if self._joined is None:
            self._join()
        status = read_status(self._layout)
        if not is_alive(self._layout.pulse) or status is None or status.fleet != self._joined:
            raise PlatformError(
                f"the supervisor of the fleet in {self._layout.folder} has ended; "
                f"its log: {self._layout.log}"
            )
        return status

    def _join(self) -> None:
        self._layout.prepare()
        timeout = self._environment.ready_timeout + LOCK_MARGIN
        with FileLock(self._layout.starting, timeout=timeout):
            if is_alive(self._layout.pulse):
                desired = self._file.change(self._with_owner)
                self._joined = desired.fleet
                self._await_traffic()
            else:
                self._start()

    def _with_owner(self, desired: Desired) -> Desired:
        return replace(desired, owners=tuple({**dict.fromkeys(desired.owners), self._owner: None}))

    def _start(self) -> None:
        fleet = secrets.token_hex(8)
        desired = Desired(fleet=fleet, version=1, selector=BLUE, owners=(self._owner,))
        stable = self._template(BLUE, self._environment.stable_image)
        self._file.create(desired.with_template(BLUE, stable, self._config.replicas))
        launch(
            SupervisorSpec(
                fleet=fleet,
                name=self._name,
                folder=str(self._layout.folder),
                directory=str(self._root),
                envoy=required_envoy(),
                orphan_timeout=self._orphan_timeout,
                stop_timeout=self._environment.stop_timeout,
                first_back_off=self._first_back_off,
                secrets=list(self._redact.secrets),
            )
        )
        self._joined = fleet
        try:
            self._await_complete(BLUE)
        except BaseException:  # Ctrl-C too: nothing half started may be left running
            self._joined = None
            stop_fleet(self._layout.folder, self._environment.stop_timeout + STOP_MARGIN)
            raise

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

    def _await_complete(self, color: str) -> None:
        """Wait until a colour's replicas are ready and Envoy knows them; raise PlatformError."""

        def complete() -> bool:
            rollout = self.rollout(color)
            if rollout.failure is not None:
                raise PlatformError(rollout.failure)
            return rollout.complete and len(self.endpoints()) >= rollout.desired

        self._await(complete, f"the replicas of {color}")

    def _await_traffic(self) -> None:
        """Wait until somebody answers users; of a joined fleet more is not asked."""
        if self.color() is not None:
            self._await(lambda: any(self.endpoints()), "a replica")

    def _await(self, condition: Callable[[], bool], whom: str) -> None:
        try:
            wait_until(
                condition,
                what=f"{whom} should be ready",
                timeout=self._environment.ready_timeout,
                setting="ready_timeout",
            )
        except (PlatformError, WaitTimeoutError) as error:
            text = f"{error}\n{evidence.last_words(self._layout)}"
            raise PlatformError(self._redact(text)) from error

    def _desired(self) -> Desired:
        self._status()
        desired = self._file.read()
        assert desired is not None
        return desired

    def _change(self, change: Callable[[Desired], Desired]) -> Desired:
        self._status()
        return self._file.change(change)

    # Colours

    def preflight(self, color: str, image: str) -> Sequence[Finding]:
        """Return whether the image can be run, and whether there is room."""
        return capacity.findings(
            self._template(color, image), self._status(), self._config.replicas
        )

    def color(self) -> str | None:
        """Return the selected colour."""
        return self._desired().selector

    def image(self, color: str) -> str | None:
        """Return the image of a colour; None where it is absent."""
        template = self._desired().template(color)
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
        return views.rollout(color, self._desired(), self._status())

    def pods(self, color: str) -> Sequence[Pod]:
        """Return a colour's replicas."""
        return views.pods(color, self._desired(), self._status())

    @contextmanager
    def direct(self, pod: str) -> Iterator[str]:
        """Yield the address of a replica's own port."""
        for replica in self._status().replicas:
            if replica.name == pod and replica.port is not None:
                yield f"http://{replica.address}"
                return
        raise PlatformError(f"no process of replica '{pod}' runs")

    # Traffic

    def switch(self, old: str | None, new: str) -> None:
        """Select `new`; raise ConflictError where another colour than `old` is selected."""

        def change(desired: Desired) -> Desired:
            if desired.selector != old:
                raise ConflictError(
                    f"the traffic goes to {desired.selector}, not to {old}: somebody else switched"
                )
            return replace(desired, selector=new)

        self._change(change)

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the addresses to which Envoy sends requests, as Envoy itself tells."""
        status = self._status()
        weights = self._admin.weights(status.admin_port)
        hosts = self._admin.hosts(status.admin_port)
        owners = {each.address: each for each in status.replicas if each.port is not None}
        found = []
        for color in weights:
            for address, ready in hosts.get(color, {}).items():
                replica = owners.get(address)
                name, own = (replica.name, replica.color) if replica else (address, None)
                found.append(Endpoint(name, own, ready))
        return found

    # The way back

    def snapshot(self) -> Snapshot:
        """Return the present state."""
        return snapshots.take(self._desired(), self._status())

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
        return snapshots.differences(self._desired(), self._status(), snapshot)

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
