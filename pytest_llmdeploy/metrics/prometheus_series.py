"""Series as a Prometheus gives them: made into each target's scrapes, and refused twice. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pytest_llmdeploy.metrics.history import History, Key

Series = Mapping[str, Any]
"""Of the API: ``metric`` has labels, ``values`` pairs of a time and a text."""


def counted_twice(found: Sequence[Series], ups: Mapping[str, Sequence[Series]]) -> str | None:
    """Return why the same requests are in two series; None where they are not.

    Two jobs may scrape one replica at the same time, and two Prometheis may stand behind one
    address: adding up would make twice the requests, and more certainty than there is.
    """
    spans: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for series in found:
        labels = series["metric"]
        replica, target = labels.get("pod") or labels.get("instance", ""), target_of(labels)
        begin, end = series["values"][0][0], series["values"][-1][0]
        before = spans[replica].get(target, (begin, end))
        spans[replica][target] = (min(before[0], begin), max(before[1], end))
    for replica, by_target in spans.items():
        ordered = sorted(by_target.items(), key=lambda item: item[1])
        for (one, (_, end)), (other, (begin, _)) in pairwise(ordered):
            if replica and begin < end:
                jobs = " and ".join(f"'{name}'" for name in sorted((one, other)))
                return (
                    f"{replica} is scraped by two jobs, {jobs}, so that its "
                    "requests would count twice: let one of them do it"
                )
    for target, several in ups.items():
        labels = [series["metric"] for series in several]
        names = {name for one in labels for name in one}
        differing = sorted(name for name in names if len({one.get(name) for one in labels}) > 1)
        own = [one["metric"] for one in found if target_of(one["metric"]) == target]
        if len({tuple(one.get(name) for name in differing) for one in own}) > 1:
            return (
                f"'{target}' is there several times, by {', '.join(differing)}, so that its "
                "requests would count twice: give an address that leaves duplicates out"
            )
    return None


def scraped(ups: Sequence[Series]) -> list[float]:
    """Return the times at which a target was scraped, of its series ``up``."""
    return [at for series in ups for at, value in series["values"] if value == "1"]


def silent(pods: Sequence[str], found: Sequence[Series], since: float) -> list[str]:
    """Return the replicas of which no series has a sample since a time."""
    heard = {one["metric"].get("pod") for one in found if one["values"][-1][0] >= since}
    return [pod for pod in pods if pod not in heard]


def idle(pod: str, found: Sequence[Series], ups: Sequence[Series], since: float) -> bool:
    """Whether a replica was scraped since a time, and has just not counted anything yet.

    `ups` must tell it of the target that had its series; of all its targets, where none had.
    """
    own = {target_of(one["metric"]) for one in found if one["metric"].get("pod") == pod}
    successes = [
        scraped([one])
        for one in ups
        if one["metric"].get("pod") == pod and (not own or target_of(one["metric"]) in own)
    ]
    return bool(successes) and all(times and times[-1] >= since for times in successes)


def history_of(
    found: Sequence[Series], ups: Sequence[float], gauges: Sequence[str] = ()
) -> History:
    """Return one target's scrapes, from its series; `ups` are the times at which it was scraped.

    A series began at 0 where its first sample is one of a scrape, and the target had been scraped
    before. Where samples of a target come at times of their own, nobody knows, and its first
    sample is what it began with.
    """
    points: dict[Key, list[tuple[float, float]]] = {}
    for series in found:
        labels = dict(series["metric"])
        key = (labels.pop("__name__", ""), tuple(sorted(labels.items())))
        points[key] = [(at, float(value)) for at, value in series["values"]]
    scrapes = Counter(ups)
    for values in points.values():
        scrapes.update(at for at, _ in values)
    at_time: dict[float, dict[Key, float]] = {at: {} for at in sorted(scrapes)}
    earliest = min(at_time)
    for key, values in points.items():
        first, value = values[0]
        if first > earliest and scrapes[first] < 2 and math.isfinite(value):
            at_time[earliest][key] = value
        for at, value in values:
            at_time[at][key] = value
    history = History(gauges)
    for at, taken in at_time.items():
        history.add(at, taken)
    return history


def target_of(labels: Mapping[str, str]) -> str:
    """Return the name of the target that has a series."""
    return f"{labels.get('job', '')} {labels.get('instance', '')}".strip()
