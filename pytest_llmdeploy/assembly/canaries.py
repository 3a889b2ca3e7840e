"""Plugs a canary together: what splits the traffic, where figures come from, who may approve."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmdeploy.assembly.fleets import blue_green_config, service_name
from pytest_llmdeploy.config.canary import (
    CanaryConfig,
    PhaseConfig,
    PrometheusConfig,
    one_shift,
)
from pytest_llmdeploy.config.quantities import quantity
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.ports import RequestOutcome, RoutableFleet, Router
from pytest_llmdeploy.release.canary.looks import NO_DATA, NOT_MEASURED
from pytest_llmdeploy.release.canary.state import CanaryState, Figures
from pytest_llmdeploy.release.canary.steering import APPROVE_VARIABLE
from pytest_llmdeploy.release.drills import DRILL_DURATION, DRILL_MAX_DURATION, Drill
from pytest_llmdeploy.release.routed import RoutedFleet
from pytest_llmdeploy.release.state import Release

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.run import Run

NO_PORT = 9
"""Of this machine; nobody listens on it (it is discard's, of RFC 863)."""
OTHER_WEIGHT = 37
ALL = 100
CONTROL = "control"
"""Folder in a canary's records of the files by which people steer it."""
Ask = Callable[["LoadedConfig", str, str, int | None], Mapping[str, Any]]
"""Asks a gate's first cases at an address; returns the results by case."""


def canary_config(loaded: LoadedConfig, run: Run | None = None) -> CanaryConfig:
    """Return the section, its defaults where the file has none, with the one shift of the run."""
    config = loaded.canary or CanaryConfig()
    if run is None or run.weight is None:
        return config
    return one_shift(config, run.weight, run.duration)


def canary_image(loaded: LoadedConfig, run: Run) -> str | None:
    """Return the image that a canary releases; raise ConfigError for one that the file may not."""
    image = canary_config(loaded).image
    if image is not None and loaded.environment.protected:
        place, line = loaded.where("canary", "image")
        text = "is for rehearsals: a protected environment is given --llmdeploy-image"
        raise ConfigError([Problem(place, line, "canary.image", text)])
    return image or run.image


def routed_fleet(
    loaded: LoadedConfig,
    fleet: RoutableFleet,
    through: Callable[[Router], Router] = lambda router: router,
) -> RoutedFleet:
    """Return the fleet together with what splits its traffic; `through` may spoil that."""
    return RoutedFleet(fleet, through(fleet.router(canary_config(loaded))))


def canary_state(
    loaded: LoadedConfig,
    fleet: RoutedFleet,
    platform: RoutableFleet,
    folder: Path,
    *,
    config: CanaryConfig,
    one_shift: bool = False,
    ask: Ask | None = None,
) -> CanaryState:
    """Return what a canary works with; its records go below `folder`."""
    compare = None
    if ask is not None and config.quality is not None:
        compare = partial(_compare_answers, loaded, platform, config, ask)
    return CanaryState(
        config=config,
        router=fleet.router,
        make_figures=partial(make_figures, loaded, platform, config),
        folder=folder,
        control=folder / CONTROL,
        approved=lambda: os.environ.get(APPROVE_VARIABLE, ""),
        compare_answers=compare,
        one_shift=one_shift,
    )


def make_figures(
    loaded: LoadedConfig,
    fleet: RoutableFleet,
    config: CanaryConfig,
    drain: Callable[[], Sequence[RequestOutcome]],
) -> Figures:
    """Return the sources of figures that the file names; raise MissingExtraError."""
    from pytest_llmdeploy.metrics import Limits, make_sources
    from pytest_llmdeploy.metrics.client import ClientSource

    def forward(text: str) -> AbstractContextManager[str]:
        namespace, _, service = text.partition("/")
        name, _, port = service.partition(":")
        return fleet.reach(namespace, name, int(port))

    limits = blue_green_config(loaded).limits
    cores, memory = float(quantity(limits.cpu)), float(quantity(limits.memory))
    sources = make_sources(
        config.metrics,
        drain=drain,
        reach=fleet.direct,
        forward=forward,
        addresses=fleet.stats_addresses,
        limits=Limits(cores, memory),
        namespace=loaded.environment.namespace,
        service=service_name(loaded),
        directory=loaded.root,
        look_interval=config.look_interval,
    )
    own = [source for source in sources if isinstance(source, ClientSource)]
    return Figures(sources, own[0] if own else ClientSource(drain))


def _compare_answers(  # noqa: PLR0917 - all but the last two are bound beforehand
    loaded: LoadedConfig,
    fleet: RoutableFleet,
    config: CanaryConfig,
    ask: Ask,
    stable: str,
    canary: str,
) -> Mapping[str, Any]:
    """Ask the gate's cases of a replica of each version, and pair the results."""
    quality = config.quality
    assert quality is not None
    results = []
    for pod in (stable, canary):
        with fleet.direct(pod) as url:
            results.append(ask(loaded, quality.gate, url, quality.cases))
    pairs = {case: (one, results[1][case]) for case, one in results[0].items()}
    if not pairs:
        return {"missing": NO_DATA, "why": f"gate {quality.gate} has no case to ask"}
    answers = [each for pair in pairs.values() for each in pair]
    broken = [each for each in answers if each["verdict"] not in ("PASS", "FAIL")]
    if broken:
        why = f"{len(broken)} of {len(answers)} answers could not be judged, such as: "
        return {"missing": NOT_MEASURED, "why": why + str(broken[0].get("reason", "?"))}
    counts = {"both": 0, "only_stable": 0, "only_canary": 0, "neither": 0}
    names = {(True, True): "both", (True, False): "only_stable", (False, True): "only_canary"}
    differing = []
    for case, (one, other) in pairs.items():
        passed = one["verdict"] == "PASS", other["verdict"] == "PASS"
        counts[names.get(passed, "neither")] += 1
        if passed[0] != passed[1]:
            differing.append(case)
    return {**counts, "differing": differing[:20]}


def check_canary(loaded: LoadedConfig) -> None:
    """Raise ConfigError where the section asks for what this file cannot show."""
    config = loaded.canary
    if config is None:
        return
    below = [phase.weight for phase in config.phases if phase.weight < ALL]
    prove_from, most = config.compare.prove_from, max(below, default=ALL)
    if prove_from is not None and prove_from > most:
        raise _problem(
            loaded,
            ("compare", "prove_from"),
            f"no phase from {prove_from} % on has two versions to compare, so nothing would be "
            f"proven: the largest weight below 100 is {most}",
        )
    if config.quality is None:
        return
    gate, place = config.quality.gate, ("quality", "gate")
    if gate not in loaded.gates:
        names = ", ".join(loaded.gates) or "none"
        raise _problem(loaded, place, f"no gate '{gate}'; the file has: {names}")
    if loaded.gates[gate].endpoint is not None:
        raise _problem(
            loaded,
            place,
            f"gate '{gate}' has an endpoint of its own, so neither version would be asked: name "
            "one without",
        )


def _problem(loaded: LoadedConfig, keys: tuple[str, ...], text: str) -> ConfigError:
    place, line = loaded.where("canary", *keys)
    return ConfigError([Problem(place, line, ".".join(("canary", *keys)), text)])


def drill_config(config: CanaryConfig, drill: Drill) -> CanaryConfig:
    """Return the section as a drill uses it: one short phase, and where wanted no Prometheus."""
    first = config.phases[0]
    phase = PhaseConfig(
        weight=first.weight,
        duration=min(first.duration, DRILL_DURATION),
        max_duration=min(first.longest, DRILL_MAX_DURATION),
    )
    # What fails now and then must not do so before it has traffic.
    calm = config.warm_up.model_copy(update={"requests": 0})
    update: dict[str, Any] = {"phases": (phase,), "quality": None, "warm_up": calm}
    if drill.metrics_down:
        nobody = PrometheusConfig(url=f"http://127.0.0.1:{NO_PORT}", timeout=1.0)
        metrics = {"prometheus": nobody, "sources": ("prometheus",)}
        update["metrics"] = config.metrics.model_copy(update=metrics)
    return config.model_copy(update=update)


def edit_route(somebody: Router, release: Release) -> None:
    """Change the weights once, as somebody else does, when the first phase is under way."""
    canary = release.canary
    if canary is None or release.old is None or not canary.shifts:
        return
    shift = canary.shifts[-1]
    if shift.converged is not None and somebody.read().weights.get(release.new) == shift.made:
        somebody.set_weight(release.old, release.new, OTHER_WEIGHT)
