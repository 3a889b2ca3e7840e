"""Queries of the user's own: filled in, evaluated by the Prometheus, and asked for their age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmdeploy.errors import NoDataError, NotMeasuredError
from pytest_llmdeploy.metrics import templates
from pytest_llmdeploy.metrics.prometheus_api import Api
from pytest_llmdeploy.metrics.sampled import finite
from pytest_llmdeploy.ports import Reading, Subject

_AGES = "llmdeploy_selector"


def filled(query: str, subject: Subject, window: float, place: Mapping[str, str]) -> str:
    """Return a query with its placeholders filled; `place` has the namespace and the service.

    Raises NoDataError and NotMeasuredError where the version lacks what the query needs.
    """
    names = templates.names(query)
    if "version" in names and subject.version is None:
        raise NotMeasuredError(
            f"prometheus: {query}: the {subject.role} version does not say what it is called"
        )
    if "pods" in names and not subject.pods:
        raise NoDataError(f"prometheus: {query}: the {subject.role} version has no replicas")
    texts = {
        "version": subject.version or "",
        "color": subject.color,
        "role": subject.role,
        **place,
    }
    return templates.fill(query, templates.Values(texts, subject.pods, window))


def read(api: Api, query: str, until: float, stale_after: float) -> Reading:
    """Return a query's value at a time; raise NoDataError, NotMeasuredError."""
    shown = f"prometheus: {query}"
    found = api.query(query, until)
    if len(found) == 2 and not isinstance(found[0], Mapping):
        text = found[1]  # a scalar
    elif not found:
        raise NoDataError(f"{shown}: no series")
    elif len(found) > 1:
        raise NotMeasuredError(
            f"{shown}: {len(found)} series, which is ambiguous: name an aggregation, such as sum(…)"
        )
    elif "value" not in found[0]:
        raise NotMeasuredError(f"{shown}: a range of values: name a function, such as rate(…)")
    else:
        text = found[0]["value"][1]
    value = finite(_number(text, shown), shown)
    _check_age(api, query, until, stale_after)
    return Reading(value, shown)


def _check_age(api: Api, query: str, until: float, stale_after: float) -> None:
    """Raise NoDataError where the series of a query are not scraped any more.

    Whatever is computed has the time at which it is computed, so the selectors are asked.
    """
    selectors = templates.selectors(query)
    if not selectors:
        return
    ages = " or ".join(
        f'label_replace(max(timestamp({one})), "{_AGES}", "{number}", "", "")'
        for number, one in enumerate(selectors)
    )
    times = [_number(one["value"][1], f"prometheus: {ages}") for one in api.query(ages, until)]
    if not times:
        raise NoDataError(f"prometheus: {query}: stale: none of its series is scraped now")
    age = until - min(times)
    if age > stale_after:
        raise NoDataError(
            f"prometheus: {query}: stale: the latest sample is {age:.0f} s old, "
            f"more than two scrape intervals ({stale_after:g} s)"
        )


def _number(text: Any, query: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise NotMeasuredError(f"{query}: {text!r} is no number") from None
