"""A client's side of a fleet: start its supervisor or join it, read its state, ask for another."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.liveness import is_alive
from pytest_llmdeploy.platforms.local_fleet.desired import Desired, DesiredFile, Template
from pytest_llmdeploy.platforms.local_fleet.evidence import last_words
from pytest_llmdeploy.platforms.local_fleet.files import locked
from pytest_llmdeploy.platforms.local_fleet.launching import launch, read_status, stop_fleet
from pytest_llmdeploy.platforms.local_fleet.layout import Layout
from pytest_llmdeploy.platforms.local_fleet.routing import EnvoyAdmin
from pytest_llmdeploy.platforms.local_fleet.spec import SupervisorSpec
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
from pytest_llmdeploy.platforms.local_fleet.views import rollout
from pytest_llmdeploy.ports import BLUE
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.waiting import WaitTimeoutError, wait_until

LOCK_MARGIN = 60.0
"""Seconds beyond ready_timeout after which waiting for another process's start is given up."""
STOP_MARGIN = 10.0


@dataclass(frozen=True, slots=True)
class Start:
    """How a fleet begins that does not run yet."""

    spec: Callable[[str], SupervisorSpec]
    """Makes the supervisor's spec for a new fleet id."""
    stable: Callable[[], Template]
    """Makes the template of the version that runs first, as blue."""
    replicas: int
    ready_timeout: float
    stop_timeout: float


class Client:
    """Starts or joins the fleet on first use; raises PlatformError once that has ended."""

    def __init__(
        self, layout: Layout, start: Start, admin: EnvoyAdmin, owner: int, redact: Redactor
    ) -> None:
        self._layout = layout
        self._start_of = start
        self._admin = admin
        self._owner = owner
        self._redact = redact
        self._file = DesiredFile(layout.desired)
        self._joined: str | None = None
        """Id of the fleet that this object uses."""

    def status(self) -> FleetStatus:
        """Return what the supervisor last published."""
        if self._joined is None:
            self._join()
        status = read_status(self._layout)
        if not is_alive(self._layout.pulse) or status is None or status.fleet != self._joined:
            raise PlatformError(
                f"the supervisor of the fleet in {self._layout.folder} has ended; "
                f"its log: {self._layout.log}"
            )
        return status

    def desired(self) -> Desired:
        """Return what is wanted."""
        return self.state()[0]

    def state(self) -> tuple[Desired, FleetStatus]:
        """Return what is wanted, and what is; the second is never newer than the first."""
        status = self.status()
        desired = self._file.read()
        assert desired is not None
        return desired, status

    def change(self, change: Callable[[Desired], Desired]) -> Desired:
        """Want what `change` makes of what is wanted; what it raises leaves all as it is."""
        self.status()
        return self._file.change(change)

    def _join(self) -> None:
        self._layout.prepare()
        timeout = self._start_of.ready_timeout + LOCK_MARGIN
        with locked(self._layout.starting, timeout):
            if is_alive(self._layout.pulse):
                self._joined = self._file.change(self._with_owner).fleet
            else:
                self._start()

    def _with_owner(self, desired: Desired) -> Desired:
        return replace(desired, owners=tuple({**dict.fromkeys(desired.owners), self._owner: None}))

    def _start(self) -> None:
        fleet = secrets.token_hex(8)
        desired = Desired(fleet=fleet, version=1, selector=BLUE, owners=(self._owner,))
        spec = self._start_of.spec(fleet)
        stable = self._start_of.stable()
        self._layout.forget()
        self._file.create(desired.with_template(BLUE, stable, self._start_of.replicas))
        launch(spec)
        self._joined = fleet
        try:
            self._await_stable()
        except BaseException:  # Ctrl-C too: nothing half started may be left running
            self._joined = None
            stop_fleet(self._layout.folder, self._start_of.stop_timeout + STOP_MARGIN)
            raise

    def _await_stable(self) -> None:
        """Wait until the first version is ready and Envoy knows it; raise PlatformError."""
        told = ""

        def complete() -> bool:
            nonlocal told
            desired, status = self.state()
            blue = rollout(BLUE, desired, status)
            told = blue.waiting_for
            if blue.failure is not None:
                raise PlatformError(f"the stable version cannot be started: {blue.failure}")
            return blue.complete and len(self._admin.endpoints(status)) >= blue.desired

        try:
            wait_until(
                complete,
                what="the replicas of the stable version should be ready",
                timeout=self._start_of.ready_timeout,
                setting="ready_timeout",
            )
        except WaitTimeoutError as error:
            raise self._failure(f"{error}; last: {told}") from error
        except PlatformError as error:
            raise self._failure(str(error)) from error

    def _failure(self, what: str) -> PlatformError:
        return PlatformError(self._redact(f"{what}\n{last_words(self._layout)}"))
