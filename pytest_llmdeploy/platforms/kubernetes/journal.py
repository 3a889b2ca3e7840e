"""The journal of a release in a ConfigMap, so that another machine can finish the release."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.kubernetes.api import Api, Object
from pytest_llmdeploy.platforms.kubernetes.names import APP, Names
from pytest_llmdeploy.platforms.kubernetes.refusals import TakenError, UnclearError

KEY = "journal.jsonl"
LARGEST = 900 * 1024
"""Bytes; a ConfigMap holds 1 MiB."""
ATTEMPTS = 10


class ConfigMapJournal:
    """A ports.JournalStore: one JSON document a line, in the order in which they were added."""

    def __init__(self, api: Api, names: Names) -> None:
        self._api = api
        self._names = names
        self._path = names.core("configmaps", names.own_name())

    def read(self) -> list[dict[str, Any]]:
        """Return the entries of the latest release there; empty where there is none."""
        lines = _text(self._api.get(self._path)).splitlines()
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise PlatformError(
                f"ConfigMap {self._names.own_name()} holds no journal of ours: {error}; "
                "delete it where no release is under way"
            ) from error

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry, durably; raise PlatformError where that fails."""
        line = json.dumps(entry, ensure_ascii=False)
        # How often it stood there before tells, after an unclear answer, whether it was added.
        before: int | None = None

        def added(text: str) -> str | None:
            nonlocal before
            count = text.splitlines().count(line)
            before = count if before is None else before
            return None if count > before else f"{text}{line}\n"

        self._change(added)

    def clear(self) -> None:
        """Forget all entries."""
        self._change(lambda text: "" if text else None)

    def _change(self, change: Any) -> None:
        """Write what `change` makes of the present text, until it makes None of it."""
        for _ in range(ATTEMPTS):
            present = self._api.get(self._path)
            text = change(_text(present))
            if text is None:
                return
            if len(text.encode()) > LARGEST:
                raise PlatformError(
                    f"the journal in ConfigMap {self._names.own_name()} is full: "
                    "it holds more than one release can write"
                )
            try:
                if self._write(present, text):
                    return
            except (UnclearError, TakenError):
                continue  # read again what came of it
        raise ConflictError(
            f"ConfigMap {self._names.own_name()} is written by somebody else all the time"
        )

    def _write(self, present: Object | None, text: str) -> bool:
        if present is None:
            metadata = {"name": self._names.own_name(), "labels": {APP: self._names.service}}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
            self._api.create(self._names.core("configmaps"), {**body, "data": {KEY: text}})
            return True
        body = {**present, "data": {**(present.get("data") or {}), KEY: text}}
        self._api.replace(self._path, body)
        return True


def _text(config_map: Object | None) -> str:
    return str(((config_map or {}).get("data") or {}).get(KEY) or "")
