"""An API server as small as these tests need it: objects in a dict, JSON patches, lost answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit

from pytest_llmdeploy.platforms.kubernetes.api import Api
from pytest_llmdeploy.platforms.kubernetes.transport import Answer, NoAnswerError

LOST = "lost"
"""The request is done, and its answer does not arrive."""


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float, /) -> None:
        self.time += seconds


class Server:
    """A Transport. `trouble` is what happens to the next requests, one entry each."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.trouble: list[Answer | NoAnswerError | str | None] = []
        self.before: Callable[[str], None] = lambda _: None
        """Called with the method before each request: another writer."""
        self.clock = Clock()
        self._version = 0

    def api(self) -> Api:
        return Api(self, clock=self.clock)

    def put(self, path: str, item: dict[str, Any]) -> None:
        self._version += 1
        item = deepcopy(item)
        item.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        self.objects[path] = item

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        path = urlsplit(path).path
        self.before(method)
        self.requests.append((method, path))
        trouble = self.trouble.pop(0) if self.trouble else None
        if isinstance(trouble, Answer):
            return trouble
        if isinstance(trouble, NoAnswerError):
            raise trouble
        answer = self._do(method, path, json.loads(body) if body else None)
        if trouble == LOST:
            raise NoAnswerError("read timed out", sent=True)
        return answer

    def open_channel(self, path: str) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def _do(self, method: str, path: str, body: Any) -> Answer:
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return status(409, "AlreadyExists", f"{path} already exists")
            self.put(path, body)
            return answer(201, self.objects[path])
        if path not in self.objects:
            return status(404, "NotFound", f"{path} not found")
        present = self.objects[path]
        if method == "DELETE":
            del self.objects[path]
            return status(200, "", "")
        if method == "PUT":
            if body["metadata"].get("resourceVersion") != present["metadata"]["resourceVersion"]:
                return status(409, "Conflict", "the object has been modified")
            self.put(path, body)
        if method == "PATCH":
            changed = deepcopy(present)
            for operation in body:
                parts = operation["path"].strip("/").split("/")
                *parents, last = (part.replace("~1", "/") for part in parts)
                place = changed
                for key in parents:
                    place = place[key]
                if operation["op"] == "test" and place.get(last) != operation["value"]:
                    return status(422, "Invalid", "the server rejected our request: test failed")
                if operation["op"] == "remove":
                    del place[last]
                else:
                    place[last] = operation["value"]
            self.put(path, changed)
        return answer(200, self.objects[path])


def answer(code: int, value: Any, **headers: str) -> Answer:
    return Answer(code, json.dumps(value).encode(), headers)


def status(code: int, reason: str, message: str, **more: Any) -> Answer:
    return answer(code, {"kind": "Status", "reason": reason, "message": message, **more})
