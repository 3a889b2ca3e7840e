"""What a release takes and loses, beside a plain kubectl script on the same cluster.

``python bench/release.py [--env local,kind] [--runs 3]``

The environments are those of scenarios/blue_green; kind needs Docker and kind. The kubectl script
does what many pipelines do: apply the new Deployment, wait for `rollout status`, patch the
Service's selector, delete the old Deployment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import table

from pytest_llmdeploy import environment
from pytest_llmdeploy.assembly.release_parts import release_traffic
from pytest_llmdeploy.assembly.releases import Releases
from pytest_llmdeploy.config.loader import LoadedConfig
from pytest_llmdeploy.ports import other_color
from pytest_llmdeploy.release.record import ReleaseResult
from pytest_llmdeploy.release.zero_loss import Losses, Moments, count_losses

SCENARIO = Path(__file__).resolve().parent.parent / "scenarios" / "blue_green" / "llmdeploy.yaml"
HEAD = [
    *("way", "seconds", "endpoints s", "first new s", "last old s", "requests", "lost"),
    "longest gap ms",
]


@dataclass(frozen=True, slots=True)
class Place:
    """An environment that is up."""

    releases: Releases
    loaded: LoadedConfig
    folder: Path


@contextmanager
def place(name: str) -> Iterator[Place]:
    """Provision an environment of the scenario, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "run")
        with environment(SCENARIO, name, output=output, say=print) as blue_green:
            _ = blue_green.service
            yield Place(blue_green._releases, blue_green._loaded, Path(folder))


def ours(result: ReleaseResult) -> list[object]:
    """Return the row of a release."""
    converged = next(step for step in result.steps if step.name == "converged")
    detail = {"endpoints": None, "first": None, **converged.detail}
    traffic = result.traffic
    return [
        f"{result.duration:.1f}",
        _number(detail["endpoints"]),
        _number(detail["first"]),
        _number(traffic["last_old"]),
        traffic["n"],
        traffic["lost"],
        f"{traffic['longest_gap'] * 1000:.0f}",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def kubectl(at: Place, number: int) -> list[object]:
    """Release with a plain script under the same traffic; return its row."""
    fleet: Any = at.releases.fleet(at.loaded)
    base = fleet._kubectl
    old = fleet.color()
    new = other_color(old)
    former = fleet.image(old).rpartition(":")[2]
    version = "1.0.0" if former == "2.0.0" else "2.0.0"
    image = f"llm-service:{version}"
    manifest = fleet._manifest(new, image, {})
    manifest["spec"]["template"]["spec"]["containers"][0].pop("lifecycle", None)

    def run(*arguments: str, text: str | None = None) -> None:
        subprocess.run([*base, *arguments], input=text, text=True, check=True, capture_output=True)

    traffic = release_traffic(at.loaded, at.folder / f"kubectl-{number}", fleet.entry().url)
    assert traffic is not None
    running = traffic.start()
    time.sleep(2.0)
    begun = time.monotonic()
    run("apply", "-f", "-", text=json.dumps(manifest))
    run("rollout", "status", f"deployment/{manifest['metadata']['name']}", "--timeout=120s")
    switched = time.monotonic()
    selector = json.dumps({"spec": {"selector": {"color": new}}})
    run("patch", "service", manifest["metadata"]["labels"]["app"], "-p", selector)
    run("delete", "deployment", manifest["metadata"]["name"].replace(new, str(old)), "--wait=false")
    ended = time.monotonic()
    time.sleep(8.0)
    ledger = running.finish()
    moments = Moments(deploy=begun - ledger.zero, switch=switched - ledger.zero)
    losses = count_losses(ledger.records(), moments, former, version)
    return _row(losses, ended - begun)


def _row(losses: Losses, took: float) -> list[object]:
    return [
        f"{took:.1f}",
        "-",
        _number(losses.first_new),
        _number(losses.last_old),
        losses.n,
        losses.lost,
        f"{losses.longest_gap * 1000:.0f}",
    ]


def drill(at: Place, name: str) -> list[object]:
    """Return what a drill's rollback took."""
    detail: Mapping[str, Any] = at.releases.drill(at.loaded, name).detail
    back = detail["release"]["rollback"]
    return [
        name,
        _number(back["time_to_detect"]),
        _number(back["time_to_safe"]),
        back["requests_exposed"],
        detail["release"]["traffic"]["n"],
        detail["release"]["traffic"]["lost"],
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", default="local,kind")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for name in options.env.split(","):
        rows: list[list[object]] = []
        with place(name) as at:
            for number in range(options.runs):
                image = f"llm-service:{2 - number % 2}.0.0"
                result = at.releases.deploy(at.loaded, image)
                assert result.success, result.error
                rows.append([f"pytest-llmdeploy, {name}", *ours(result)])
            drills = [[name, *drill(at, each)] for each in ("crashes", "errors-after-switch")]
            if name == "kind":
                rows += (
                    ["kubectl script", *kubectl(at, number + options.runs)]
                    for number in range(options.runs)
                )
        print(f"\n{name}\n")
        table(HEAD, rows)
        print("\nfaults after the switch: seconds from it until seen, and until safe\n")
        head = ["environment", "drill", "seen s", "safe s", "exposed", "requests", "lost"]
        table(head, drills)


if __name__ == "__main__":
    main()
