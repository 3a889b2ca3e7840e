"""Templates of the hosted service: ``{{ item.name }}`` and ``{{ sample.output_text }}``.

Values are looked up, never computed. Texts stand as they are, everything else as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_llmdeploy.untrusted import one_line

_SLOT = re.compile(r"\{\{([^{}]*)\}\}")
_STEP = re.compile(r"\.([^.\[\]\s]+)|\[(\d{1,9})\]|\[\"([^\"\]]*)\"\]|\['([^'\]]*)'\]")
_ROOT = re.compile(r"[A-Za-z_]\w*")
NAMESPACES = ("item", "sample")


class BadTemplateError(ValueError):
    """The template itself, or the item it is filled from, is at fault; the text says why."""


class NotInSampleError(ValueError):
    """The model's answer does not have what the template asks for."""


def paths(template: str) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Yield each slot's namespace and steps; raise BadTemplateError."""
    for slot in _SLOT.finditer(template):
        yield parse_path(slot[1].strip())


def parse_path(written: str) -> tuple[str, tuple[str | int, ...]]:
    """Return the namespace and the steps of a path such as ``item.a[0].b``."""
    root = _ROOT.match(written)
    if root is None or root[0] not in NAMESPACES:
        raise BadTemplateError(
            f"{{{{{one_line(written)}}}}} names neither item nor sample: a template knows no other"
        )
    steps: list[str | int] = []
    position = root.end()
    while position < len(written):
        step = _STEP.match(written, position)
        if step is None:
            raise BadTemplateError(
                f"{{{{{one_line(written)}}}}} is no path: write it as item.name or item.list[0]"
            )
        steps.append(int(step[2]) if step[2] else next(part for part in step.groups() if part))
        position = step.end()
    return root[0], tuple(steps)


def look_up(path: tuple[str, tuple[str | int, ...]], values: Mapping[str, Any]) -> Any:
    """Return the value of a path; raise BadTemplateError or NotInSampleError."""
    namespace, steps = path
    value: Any = values.get(namespace)
    for number, step in enumerate(steps):
        if isinstance(value, dict) and str(step) in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            shown = ".".join(map(str, (namespace, *steps[: number + 1])))
            if namespace == "sample":
                raise NotInSampleError(f"the answer has no {one_line(shown)}")
            raise BadTemplateError(f"there is no {one_line(shown)}")
    return value


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Return the template with its values; raise BadTemplateError or NotInSampleError."""
    return _SLOT.sub(lambda slot: as_text(look_up(parse_path(slot[1].strip()), values)), template)


def as_text(value: Any) -> str:
    """Return a value as it stands in a text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def uses_sample(template: str) -> bool:
    """Say whether the model's answer can change what becomes of the template."""
    try:
        return any(namespace == "sample" for namespace, _ in paths(template))
    except BadTemplateError:
        return True


def check(template: str, item: Mapping[str, Any]) -> None:
    """Raise BadTemplateError where the template can never be filled for this item."""
    for path in paths(template):
        if path[0] == "item":
            look_up(path, {"item": item})
