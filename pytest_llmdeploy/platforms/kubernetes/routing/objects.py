"""Writes the objects of a route: never over somebody else's change, and seen to be there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.kubernetes.api import FIELD_MANAGER, Api, Object
from pytest_llmdeploy.platforms.kubernetes.refusals import (
    RefusedError,
    TakenError,
    UnclearError,
    named,
)
from pytest_llmdeploy.platforms.kubernetes.routing.rules import missing_part
from pytest_llmdeploy.waiting import Clock

MADE_BY = "app.kubernetes.io/managed-by"
"""Label of the objects that we made, and remove again."""
ATTEMPTS = 10
PAUSE = 0.5
_MAY_BE_A_CONFLICT = frozenset({409, 422})
"""What a failed test of a JSON patch is answered with, among other things."""

Spec = Mapping[str, Any]
Change = Callable[[Spec], Spec]
"""Returns the spec as it is to be; may raise."""
Part = Callable[[Spec], object]
"""Returns what of a spec is ours."""


def is_made(item: Object) -> bool:
    """Return whether we made an object."""
    return (item["metadata"].get("labels") or {}).get(MADE_BY) == FIELD_MANAGER


class Objects:
    """The objects of one release's routes; remembers what it wrote.

    `check_lock` raises where the release is not ours any more.
    """

    def __init__(self, api: Api, check_lock: Callable[[], None], clock: Clock = time) -> None:
        self.api = api
        self._check_lock = check_lock
        self._clock = clock
        self._left: dict[str, object] = {}
        """What is ours of each object, as we left it."""

    def get(self, path: str) -> Object | None:
        """Return an object; None where there is none."""
        return self.api.get(path)

    def make(self, path: str, body: Object) -> bool:
        """Create an object as ours, unless there is one of that name; return whether it was."""
        self._check_lock()
        collection = path.rpartition("/")[0]
        for _ in range(ATTEMPTS):
            if self.api.get(path) is not None:
                return False
            try:
                self.api.create(collection, _labelled(body))
            except UnclearError:
                self._clock.sleep(PAUSE)
                continue
            except TakenError as error:
                if error.reason != "AlreadyExists":
                    raise
                continue
            return True
        raise PlatformError(f"the API server does not tell whether {named(path)} was made")

    def remove(self, path: str) -> bool:
        """Delete an object that we made; return whether there was one. Others' stay."""
        present = self.api.get(path)
        if present is None or not is_made(present):
            return False
        self._check_lock()
        self.api.delete(path)
        self._left.pop(path, None)
        return True

    def rehearse(self, path: str, change: Change, body: Object | None = None) -> None:
        """Ask the server whether it would take a change, or `body` where there is no object yet.

        Raises RefusedError, for fields that the cluster does not know as well.
        """
        present = self.api.get(path)
        if present is not None:
            wanted = change(present["spec"])
            self.api.patch(path, [_replace(wanted)], repeat=True, dry_run=True)
        elif body is not None:
            collection = path.rpartition("/")[0]
            self.api.create(collection, _labelled(body), dry_run=True)

    def change(
        self, path: str, change: Change, part: Part, field: str, *, force: bool = False
    ) -> bool:
        """Change the spec of an object; return whether there was anything to change.

        `part` is what of the spec is ours, `field` the spec's key that holds it. Raises
        ConflictError where somebody else changed that part since we wrote it, or while we do;
        with `force` it is written over. Raises PlatformError where the server took less than it
        was sent.
        """
        self._check_lock()
        seen: object = None
        unclear: UnclearError | None = None
        for attempt in range(ATTEMPTS):
            present = self.api.get(path)
            if present is None:
                raise ConflictError(f"{named(path)} is gone: somebody else deleted it")
            spec = present["spec"]
            wanted = change(spec)
            if not force:
                self._require_ours(path, present, part, wanted, field)
                if attempt and part(spec) not in (seen, part(wanted)):
                    raise _conflict(path, present, field, "is being changed by somebody else")
                seen = part(spec)
            if wanted == spec:
                self._left[path] = part(spec)
                return attempt > 0
            operations = [{"op": "test", "path": "/spec", "value": spec}, _replace(wanted)]
            try:
                self.api.patch(path, operations, repeat=False)
            except UnclearError as error:
                unclear = error
                self._clock.sleep(PAUSE)
                continue
            except (RefusedError, TakenError) as error:
                if isinstance(error, RefusedError) and error.status not in _MAY_BE_A_CONFLICT:
                    raise
                now = self.api.get(path)
                if now is not None and now["spec"] == spec:
                    raise  # refused for another reason than the test
                continue
            self._check_taken(path, wanted, part, field, force=force)
            return True
        if unclear is not None:
            raise PlatformError(
                f"{named(path)} was not changed in {ATTEMPTS} attempts; the last: {unclear}"
            ) from unclear
        raise ConflictError(f"{named(path)} is written by somebody else all the time")

    def _require_ours(
        self, path: str, present: Object, part: Part, wanted: Spec, field: str
    ) -> None:
        if path not in self._left:
            return
        now = part(present["spec"])
        if now not in (self._left[path], part(wanted)):
            raise _conflict(path, present, field, "is not as this release left it")

    def _check_taken(self, path: str, wanted: Spec, part: Part, field: str, *, force: bool) -> None:
        present = self.api.get(path)
        if present is None:
            raise ConflictError(f"{named(path)} is gone: somebody else deleted it")
        lacking = missing_part(wanted, present["spec"])
        if lacking is not None and not force and writer(present, field) is not None:
            raise _conflict(path, present, field, f"was changed at once ({lacking})")
        if lacking is not None:
            raise PlatformError(
                f"{named(path)}: the API server took our change and kept something else at "
                f"spec.{lacking}: the cluster does not know that field, or a webhook changed it"
            )
        self._left[path] = part(present["spec"])


def _labelled(body: Object) -> Object:
    metadata = body["metadata"]
    labels = {**(metadata.get("labels") or {}), MADE_BY: FIELD_MANAGER}
    return {**body, "metadata": {**metadata, "labels": labels}}


def _replace(spec: Spec) -> Mapping[str, Any]:
    return {"op": "replace", "path": "/spec", "value": spec}


def writer(item: Object, field: str) -> str | None:
    """Return which field manager besides us wrote ``spec.FIELD`` last; None where none did."""
    found = [
        (str(entry.get("time") or ""), str(entry.get("manager")))
        for entry in item["metadata"].get("managedFields") or []
        if entry.get("manager") != FIELD_MANAGER
        and f"f:{field}" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    if not found:
        return None
    at, manager = max(found)
    return f"{manager} ({at})" if at else manager


def _conflict(path: str, present: Object, field: str, what: str) -> ConflictError:
    who = writer(present, field)
    by = f"; {who} wrote it last" if who else ""
    return ConflictError(
        f"{named(path)}: spec.{field} {what}{by}. Two writers would undo each other's work: take "
        "the object out of the other one's hands while a release is under way; nothing was changed"
    )
