"""What a cluster can tell of a failed step, as texts to keep; secrets are hidden in them."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.platforms.kubernetes.api import Api, Object
from pytest_llmdeploy.platforms.kubernetes.endpoints import SERVICE_LABEL
from pytest_llmdeploy.platforms.kubernetes.names import Names, selector_text
from pytest_llmdeploy.platforms.kubernetes.pods import container_statuses, name
from pytest_llmdeploy.redaction import HIDDEN, Redactor

LOG_LINES = 500
_KEY_NAMES = re.compile(r"(?i)key|token|secret|passw|credential|auth|dsn|database_url|conn")
"""Names of variables whose values are hidden, known as secrets or not."""
_NOT_SHOWN = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation that repeats the manifest, with its variables, as one text."""


def collect(api: Api, names: Names, colors: Sequence[str], redact: Redactor) -> dict[str, str]:
    """Return file name to text. What cannot be read says so in its file."""
    found: dict[str, str] = {}
    for file, read in _sources(api, names, colors):
        try:
            text = read()
        except Exception as error:  # noqa: BLE001 - evidence never hides the failure it is about
            text = f"(could not be read: {type(error).__name__}: {error})\n"
        found[file] = redact(text or "(it is empty)\n")
    return found


def _sources(
    api: Api, names: Names, colors: Sequence[str]
) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "events.txt", lambda: _events(api, names)
    yield "service.yaml", lambda: _yaml([api.get(names.service_path())])
    slices = names.group("discovery.k8s.io/v1", "endpointslices")
    of_service = f"{SERVICE_LABEL}={names.service}"
    yield "endpointslices.yaml", lambda: _yaml(api.items(slices, labelSelector=of_service))
    for color in colors:
        labels = selector_text(names.labels(color))
        replica_sets, pods = names.group("apps/v1", "replicasets"), names.core("pods")
        yield f"deployment-{color}.yaml", _of_one(api, names.deployment(color))
        yield f"replicasets-{color}.yaml", _of_list(api, replica_sets, labels)
        yield f"pods-{color}.yaml", _of_list(api, pods, labels)
        with contextlib.suppress(Exception):  # the file of the pods says so already
            for pod in api.items(pods, labelSelector=labels):
                yield from _logs(api, names, pod)


def _of_one(api: Api, path: str) -> Callable[[], str]:
    return lambda: _yaml([api.get(path)])


def _of_list(api: Api, path: str, labels: str) -> Callable[[], str]:
    return lambda: _yaml(api.items(path, labelSelector=labels))


def _logs(api: Api, names: Names, pod: Object) -> Iterator[tuple[str, Callable[[], str]]]:
    path = f"{names.core('pods', name(pod))}/log"
    for status in container_statuses(pod):
        container = str(status["name"])
        file = f"log-{name(pod)}-{container}"

        def read(container: str = container, previous: str = "false") -> str:
            lines = str(LOG_LINES)
            asked = {"container": container, "previous": previous, "tailLines": lines}
            return api.text(path, timestamps="true", **asked) or ""

        yield f"{file}.txt", read
        if status.get("restartCount"):
            yield f"{file}-previous.txt", lambda read=read: read(previous="true")  # type: ignore[misc]


def _events(api: Api, names: Names) -> str:
    ours = [
        event
        for event in api.items(names.core("events"))
        if str((event.get("involvedObject") or {}).get("name", "")).startswith(names.service)
    ]
    ours.sort(key=_event_time)
    return "".join(f"{_event_line(event)}\n" for event in ours) or "(no events)\n"


def _event_time(event: Object) -> str:
    times = (event.get("lastTimestamp"), event.get("eventTime"))
    return str(next(filter(None, times), event["metadata"].get("creationTimestamp")))


def _event_line(event: Object) -> str:
    about = event.get("involvedObject") or {}
    count = event.get("count") or 1
    times = f" (x{count})" if count > 1 else ""
    return (
        f"{_event_time(event)} {event.get('type')} {about.get('kind')}/{about.get('name')} "
        f"{event.get('reason')}{times}: {event.get('message')}"
    )


def _yaml(items: Sequence[Object | None]) -> str:
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    writer.width = 10_000
    text = io.StringIO()
    for item in items:
        if item is not None:
            text.write("---\n")
            writer.dump(_shown(item), text)
    return text.getvalue() or "(there is none)\n"


def _shown(item: Any) -> Any:
    """Return a copy without what nobody reads and without what nobody may read."""
    if isinstance(item, Mapping):
        if "value" in item and _KEY_NAMES.search(str(item.get("name", ""))):
            item = {**item, "value": HIDDEN}
        return {
            key: _shown(value)
            for key, value in item.items()
            if key not in {"managedFields", _NOT_SHOWN}
        }
    if isinstance(item, list):
        return [_shown(part) for part in item]
    return item
