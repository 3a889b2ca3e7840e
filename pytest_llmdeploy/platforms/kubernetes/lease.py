"""A Lease keeps two releases of one service apart, wherever they run."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from pytest_llmdeploy.errors import ConflictError, LockedError, PlatformError
from pytest_llmdeploy.liveness import process_lives
from pytest_llmdeploy.platforms.kubernetes.api import Api, Object
from pytest_llmdeploy.platforms.kubernetes.names import Names
from pytest_llmdeploy.platforms.kubernetes.refusals import TakenError, UnclearError

DURATION = 60
"""Seconds without a renewal after which a lease is stale."""
RENEW_INTERVAL = 10.0
ATTEMPTS = 5
_GROUP = "coordination.k8s.io/v1"


class LeaseLock:
    """A ports.Lock. A stale lease is not taken silently: an interrupted release is behind it."""

    def __init__(
        self,
        api: Api,
        names: Names,
        *,
        duration: int = DURATION,
        renew_interval: float = RENEW_INTERVAL,
    ) -> None:
        self._api = api
        self._names = names
        self._duration = duration
        self._renew_interval = renew_interval
        self._path = names.group(_GROUP, "leases", names.own_name())
        self._holder: str | None = None
        self._ended = threading.Event()
        self._renewing: threading.Thread | None = None
        self._taken_by: str | None = None

    def acquire(self, holder: str) -> None:
        """Take it and keep it alive; raise LockedError that names the holder."""
        if self._holder is not None:
            return

        def check(present: Object) -> None:
            if (other := _holder(present)) not in {None, holder}:
                raise self._locked(present, str(other))

        self._take(holder, check)

    def steal(self, holder: str) -> str | None:
        """Take it whoever holds it; return who did."""
        former: list[str | None] = [None]

        def note(present: Object) -> None:
            former[0] = _holder(present)

        self._stop_renewing()
        self._take(holder, note)
        return former[0]

    def release(self) -> None:
        """Give it back; nothing where it is not held."""
        holder = self._holder
        self._stop_renewing()
        self._holder = None
        if holder is None:
            return
        for _ in range(ATTEMPTS):
            present = self._api.get(self._path)
            if present is None or _holder(present) != holder:
                return
            spec = {**present["spec"]}
            spec.pop("holderIdentity")
            try:
                self._api.replace(self._path, {**present, "spec": spec})
            except (UnclearError, TakenError):
                continue
            return

    def close(self) -> None:
        """Keep it alive no longer; where it is still held, it goes stale."""
        self._stop_renewing()

    def check(self) -> None:
        """Raise ConflictError where somebody took it from us: hands off what they now change."""
        if self._taken_by is not None:
            raise ConflictError(
                f"{self._taken_by} has taken over the release of {self._names.service}: "
                "this one changes nothing any more"
            )

    def _take(self, holder: str, check: Callable[[Object], None]) -> None:
        for _ in range(ATTEMPTS):
            present = self._api.get(self._path)
            try:
                if present is None:
                    self._api.create(self._names.group(_GROUP, "leases"), self._new(holder))
                else:
                    if _holder(present) != holder or self._holder is None:
                        check(present)
                    self._api.replace(self._path, self._held(present, holder))
            except (UnclearError, TakenError):
                continue  # look who has it now
            self._holder, self._taken_by = holder, None
            self._start_renewing()
            return
        raise PlatformError(f"Lease {self._names.own_name()} could not be written")

    def _new(self, holder: str) -> Object:
        return {
            "apiVersion": _GROUP,
            "kind": "Lease",
            "metadata": {"name": self._names.own_name()},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": self._duration,
                "acquireTime": self._now(),
                "renewTime": self._now(),
                "leaseTransitions": 0,
            },
        }

    def _held(self, present: Object, holder: str) -> Object:
        spec: dict[str, Any] = dict(present.get("spec") or {})
        new = spec.get("holderIdentity") != holder
        spec |= {
            "holderIdentity": holder,
            "leaseDurationSeconds": self._duration,
            "renewTime": self._now(),
        }
        if new:
            spec["acquireTime"] = self._now()
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        return {**present, "spec": spec}

    def _now(self) -> str:
        return self._api.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _locked(self, present: Object, holder: str) -> LockedError:
        name, namespace = self._names.service, self._names.namespace
        renewed = _time(present["spec"].get("renewTime"))
        age = (self._api.now() - renewed).total_seconds() if renewed else math.inf
        duration = int(present["spec"].get("leaseDurationSeconds") or self._duration)
        seen = f"renewed {max(0.0, age):.0f} s ago" if renewed else "never renewed"
        lease = f"Lease {self._names.own_name()} in namespace {namespace}, {seen}"
        if age < duration and not _has_ended(holder):
            return LockedError(f"{holder} is releasing {name} ({lease})", holder, alive=True)
        text = (
            f"{holder} began to release {name} and did not finish ({lease}): "
            "'llmdeploy rollback' takes it over and finishes or undoes that release"
        )
        return LockedError(text, holder, alive=False)

    def _start_renewing(self) -> None:
        self._ended = threading.Event()
        self._renewing = threading.Thread(
            target=self._renew, args=(self._ended,), name="llmdeploy-lease", daemon=True
        )
        self._renewing.start()

    def _stop_renewing(self) -> None:
        self._ended.set()
        if self._renewing is not None and self._renewing is not threading.current_thread():
            self._renewing.join(self._renew_interval)
        self._renewing = None

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._renew_interval):
            try:
                present = self._api.get(self._path)
                if ended.is_set():
                    return
                if present is None or _holder(present) != self._holder:
                    self._taken_by = (present and _holder(present)) or "somebody"
                    return
                self._api.replace(self._path, self._held(present, str(self._holder)))
            except PlatformError:
                continue  # the next round tells whether it is still ours


def _holder(lease: Object) -> str | None:
    return (lease.get("spec") or {}).get("holderIdentity") or None


def _has_ended(holder: str) -> bool:
    """Return whether a holder, ``user@host:pid``, was a process of this machine that is gone."""
    where, _, pid = holder.rpartition(":")
    here = where.rpartition("@")[2] == socket.gethostname()
    return here and pid.isdecimal() and not process_lives(int(pid))


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
