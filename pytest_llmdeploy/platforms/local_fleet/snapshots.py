"""The state to which a rollback returns, as builtins without secrets. Pure.

Replicas' settings can hold keys, and a snapshot is written into journals; so it names their
generation, whose template the fleet keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pytest_llmdeploy.platforms.local_fleet.desired import Desired, Template, Wanted
from pytest_llmdeploy.platforms.local_fleet.status import FleetStatus
from pytest_llmdeploy.platforms.local_fleet.views import rollout
from pytest_llmdeploy.ports import COLORS, Snapshot


def take(desired: Desired, status: FleetStatus) -> dict[str, Any]:
    """Return the present state."""
    colors: dict[str, dict[str, Any] | None] = dict.fromkeys(COLORS)
    for color, wanted in desired.colors.items():
        colors[color] = {
            "image": desired.templates[wanted.generation].image,
            "generation": wanted.generation,
            "replicas": wanted.replicas,
            # Those beyond the wanted ones are about to go, and nothing to come back to.
            "ready": min(rollout(color, desired, status).ready, wanted.replicas),
        }
    return {"fleet": desired.fleet, "selector": desired.selector, "colors": colors}


def with_traffic(desired: Desired, snapshot: Snapshot) -> Desired:
    """Return a state whose traffic goes where the snapshot says."""
    return replace(desired, selector=snapshot["selector"]).settled()


def with_replicas(
    desired: Desired, snapshot: Snapshot, template: Callable[[str, str], Template]
) -> Desired:
    """Return a state with the snapshot's replicas.

    `template(color, image)` makes up for a generation that this life of the fleet does not know.
    """
    for color in COLORS:
        entry = snapshot["colors"][color]
        if entry is None:
            desired = desired.with_color(color, None)
        elif snapshot["fleet"] == desired.fleet and entry["generation"] in desired.templates:
            wanted = Wanted(entry["generation"], entry["replicas"])
            desired = desired.with_color(color, wanted)
        else:
            made = template(color, entry["image"])
            desired = desired.with_template(color, made, entry["replicas"])
    return desired


def differences(desired: Desired, status: FleetStatus, snapshot: Snapshot) -> list[str]:
    """Return in words how the state differs from the snapshot."""
    now = take(desired, status)
    found = []
    if now["selector"] != snapshot["selector"]:
        found.append(f"traffic goes to {now['selector']}, not {snapshot['selector']}")
    for color in COLORS:
        found += _differences(color, now, snapshot)
    return found


def _differences(color: str, now: Snapshot, then: Snapshot) -> list[str]:
    is_, was = now["colors"][color], then["colors"][color]
    if is_ is None or was is None:
        if is_ is was:
            return []
        return [f"{color} is {_shown(is_)}, not {_shown(was)}"]
    found = [
        f"{color} has {key} {is_[key]}, not {was[key]}"
        for key in ("image", "replicas")
        if is_[key] != was[key]
    ]
    same_life = now["fleet"] == then["fleet"]
    if not found and same_life and is_["generation"] != was["generation"]:
        found.append(f"{color} has other settings: generation {is_['generation']}")
    if not found and is_["ready"] < was["ready"]:
        found.append(f"{color} has {is_['ready']} of {was['ready']} replicas ready")
    return found


def _shown(entry: dict[str, Any] | None) -> str:
    return "absent" if entry is None else f"{entry['replicas']} replicas of {entry['image']}"
