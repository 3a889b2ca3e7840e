"""The Service's selector: where it leads, who wrote it, and how it is changed safely."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.kubernetes import manifests, snapshot
from pytest_llmdeploy.platforms.kubernetes.api import Api, Object
from pytest_llmdeploy.platforms.kubernetes.names import COLOR, Names
from pytest_llmdeploy.platforms.kubernetes.refusals import RefusedError, TakenError, UnclearError
from pytest_llmdeploy.ports import COLORS
from pytest_llmdeploy.waiting import Clock

ATTEMPTS = 10
PAUSE = 0.5
OPEN = "llmdeploy/stable"
"""Annotation of a Service that selects both colours for the time of a canary: the stable one."""
_OPEN_AT = f"/metadata/annotations/{OPEN.replace('/', '~1')}"

Ready = Callable[[str, Mapping[str, str]], None]
"""Colour and selector; raises PlatformError where too few ready pods have these labels."""


class Traffic:
    """Where the Service of one name leads."""

    def __init__(
        self,
        api: Api,
        names: Names,
        config: BlueGreenConfig,
        node_port: int | None,
        clock: Clock = time,
    ) -> None:
        self._api = api
        self._names = names
        self._config = config
        self._node_port = node_port
        self._clock = clock

    def service(self) -> Object | None:
        """Return the Service; None where there is none."""
        return self._api.get(self._names.service_path())

    def color(self) -> str | None:
        """Return the colour that the selector names; None where it names none of ours.

        While both are selected by `open`, it is the stable one.
        """
        return _color(self.service())

    def is_open(self) -> bool:
        """Return whether the Service selects both colours because `open` let it."""
        return _is_open(self.service())

    def leads_to(self, color: str) -> bool:
        """Return whether the Service selects a colour's pods, alone or with the other's."""
        found = snapshot.selector(self.service())
        return bool(found) and found.get(COLOR, color) == color

    def open(self, old: str) -> None:
        """Let the Service lead to both colours if it leads to `old`, or to both by us already.

        An annotation tells other processes which colour is the stable one.
        """
        for _ in range(ATTEMPTS):
            service = self.service()
            if service is not None and _is_open(service) and _color(service) == old:
                return
            if service is None or _color(service) != old:
                raise self._conflict(service, old)
            at = f"/spec/selector/{COLOR}"
            operations: list[Mapping[str, Any]] = [
                {"op": "test", "path": at, "value": old},
                {"op": "remove", "path": at},
                _mark(service, old),
            ]
            try:
                self._api.patch(self._names.service_path(), operations, repeat=False)
            except UnclearError:
                self._clock.sleep(PAUSE)
                continue
            except (TakenError, RefusedError) as error:
                self._refuse(error, service, old)
            return
        raise PlatformError(
            f"the API server does not tell whether Service {self._names.service} leads to both"
        )

    def switch(self, old: str | None, new: str, ready: Ready) -> None:
        """Let the Service lead to `new` if it leads to `old`; raise ConflictError otherwise.

        To lead to both colours counts as leading to `old`, where that is by our `open`. The test
        and the change are one request. Where its answer is lost, the Service tells whether it was
        done.
        """
        for _ in range(ATTEMPTS):
            service = self.service()
            present = _color(service)
            is_open = _is_open(service)
            if present == new and not is_open:
                return  # done by an attempt whose answer was lost, or before
            if present != old and not is_open:
                raise self._conflict(service, old)
            if service is None:
                ready(new, self._names.labels(new))
            else:
                ready(new, {**snapshot.selector(service), COLOR: new})
            try:
                self._write(service, None if is_open else old, new)
            except UnclearError:
                self._clock.sleep(PAUSE)
                continue
            except (TakenError, RefusedError) as error:
                self._refuse(error, service, old)
            return
        raise PlatformError(
            f"the API server does not tell whether Service {self._names.service} was switched"
        )

    def _write(self, service: Object | None, old: str | None, new: str) -> None:
        path = self._names.service_path()
        if service is None:
            body = manifests.service(self._names, new, self._config, self._node_port)
            self._api.create(self._names.core("services"), body)
            return
        at = f"/spec/selector/{COLOR}"
        operations: list[Mapping[str, Any]]
        if old is None:
            whole = snapshot.selector(service)
            test = {"op": "test", "path": "/spec/selector", "value": whole}
            operations = [test, {"op": "add", "path": at, "value": new}, *_unmark(service)]
        else:
            test = {"op": "test", "path": at, "value": old}
            operations = [test, {"op": "replace", "path": at, "value": new}]
        self._api.patch(path, operations, repeat=False)

    def restore(self, former: Mapping[str, Any] | None) -> None:
        """Bring the Service's selector back to a snapshot's, whoever changed or removed it."""
        path = self._names.service_path()
        for attempt in range(ATTEMPTS):
            present = self.service()
            if former is None:
                if present is not None:
                    self._api.delete(path)
                return
            wanted = snapshot.selector(former)
            if present is not None:
                if snapshot.selector(present) != wanted:
                    operation = {"op": "add", "path": "/spec/selector", "value": wanted}
                    self._api.patch(path, [operation], repeat=True)
                    if unmark := _unmark(present):
                        self._api.patch(path, unmark, repeat=False)
                return
            body = snapshot.recreated(former, "Service", self._names.service)
            if attempt:  # its former address may be somebody else's by now
                body = snapshot.recreated(
                    former, "Service", self._names.service, keep_address=False
                )
            try:
                self._api.create(self._names.core("services"), body)
            except (UnclearError, TakenError, RefusedError):
                if attempt == ATTEMPTS - 1:
                    raise
                self._clock.sleep(PAUSE)

    def _refuse(self, error: PlatformError, tested: Object | None, old: str | None) -> NoReturn:
        """Raise ConflictError where what was tested has changed since, and `error` otherwise."""
        now = self.service()
        if snapshot.selector(now) == snapshot.selector(tested):
            raise error  # refused for another reason than the test
        raise self._conflict(now, old) from error

    def _conflict(self, service: Object | None, old: str | None) -> ConflictError:
        name, expected = self._names.service, old or "no colour"
        if service is None:
            return ConflictError(f"Service {name} is gone; it led to {expected}")
        shown = snapshot.selector(service).get(COLOR, "no colour")
        who = writer(service.get("metadata", {}).get("managedFields") or [])
        by = f", as {who} wrote it last" if who else ""
        return ConflictError(
            f"Service {name} leads to {shown}{by}, not to {expected}: "
            "somebody else switches it; nothing was changed"
        )


def _color(service: Object | None) -> str | None:
    found = snapshot.selector(service).get(COLOR) or marked(service)
    return found if found in COLORS else None


def marked(service: Object | None) -> str | None:
    """Return the stable colour of a Service that leads to both by us; None for all others."""
    found = snapshot.selector(service)
    if service is None or not found or COLOR in found:
        return None
    mark = (service["metadata"].get("annotations") or {}).get(OPEN)
    return str(mark) if mark in COLORS else None


def _is_open(service: Object | None) -> bool:
    return marked(service) is not None


def _mark(service: Object, color: str) -> Mapping[str, Any]:
    if service["metadata"].get("annotations"):
        return {"op": "add", "path": _OPEN_AT, "value": color}
    return {"op": "add", "path": "/metadata/annotations", "value": {OPEN: color}}


def _unmark(service: Object) -> list[Mapping[str, Any]]:
    present = service.get("metadata", {}).get("annotations") or {}
    return [{"op": "remove", "path": _OPEN_AT}] if OPEN in present else []


def writer(managed_fields: Sequence[Mapping[str, Any]]) -> str | None:
    """Return which field manager wrote a Service's selector last; None where that is not told."""
    found = [
        (str(entry.get("time") or ""), f"{entry.get('manager')} ({entry.get('time')})")
        for entry in managed_fields
        if "f:selector" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return max(found)[1] if found else None
