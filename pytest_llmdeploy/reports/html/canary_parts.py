"""The page's sections about canaries: what decided, phase by phase, and what it looked like."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.reports.canary_record import Finding, Phase
from pytest_llmdeploy.reports.canary_words import (
    interval,
    limit,
    requests,
    value,
    what_decided,
)
from pytest_llmdeploy.reports.html.canary_advice import advice
from pytest_llmdeploy.reports.html.canary_charts import (
    clock_of,
    evidence_chart,
    timeline,
    versions_chart,
)
from pytest_llmdeploy.reports.html.canary_series import LOOKS, Series, read_series
from pytest_llmdeploy.reports.html.markup import Column, Html, badge, facts, join, table, tag
from pytest_llmdeploy.reports.html.numbers import NONE, seconds, share, short, whole
from pytest_llmdeploy.reports.html.release_parts import (
    Section,
    commands,
    section,
    steps_table,
    versions,
    way_back,
)
from pytest_llmdeploy.reports.html.release_result import Result, results

RECORDS = "records/canary"


def canaries(output: Path) -> list[Section]:
    """Return a section for each canary of the run, by the results in its folder."""
    return [
        section(
            f"canary-{number}", f"Canary: {path.parent.name}", result, partial(_parts, path.parent)
        )
        for number, (path, result) in enumerate(results(output / RECORDS), 1)
    ]


def _parts(folder: Path, result: Result) -> list[Html]:
    series = read_series(folder / LOOKS)
    config = _config(result)
    parts = [
        tag("p", tag("strong", "Recommendation: "), advice(result)),
        facts(_facts(result)),
        _phases(result),
        *_charts(result, series, config),
        *(_findings(phase, config) for phase in result.canary.phases),
        steps_table(result.steps),
        commands(result.rollback),
    ]
    if series.trouble is not None and result.canary.phases:
        parts.insert(1, tag("p", series.trouble, class_="note"))
    return parts


def _config(result: Result) -> CanaryConfig | None:
    try:
        return CanaryConfig.model_validate(result.canary.config)
    except ValidationError:
        return None


def _facts(result: Result) -> list[tuple[str, str]]:
    traffic = result.traffic
    pairs = versions(result)
    pairs += [
        ("Router", result.canary.router or NONE),
        ("Requests", whole(traffic.n)),
        ("Failed or lost", whole(traffic.lost)),
    ]
    return [*pairs, *way_back(result.rollback, "the first weight")]


def _charts(result: Result, series: Series, config: CanaryConfig | None) -> list[Html]:
    clock = clock_of(result, series)
    if clock is None:
        return []
    compared = config is not None and config.compare.error_rate is not None
    # Half of a comparison's alpha is the e-value's.
    threshold = 2 / config.alpha_each if config is not None and compared else None
    return [
        timeline(result, clock),
        versions_chart(series, clock),
        evidence_chart(series, clock, threshold),
    ]


def _phases(result: Result) -> Html:
    """Return a row for each phase that began."""
    phases = result.canary.phases
    if not phases:
        return tag("p", "No weight was watched: nothing of the new version was judged.")
    columns = (
        Column("Phase", "k"),
        Column("Verdict"),
        Column("Split that was met", "n"),
        Column("Watched", "n"),
        Column("Requests", "n"),
        Column("What decided", "w"),
    )
    rows = []
    for phase in phases:
        shift = next((each for each in result.canary.shifts if each.weight == phase.weight), None)
        met = NONE
        if shift is not None and shift.share is not None:
            met = f"{share(round(shift.share, 3))} of {whole(shift.connections)}"
        name = phase.name if phase.made == phase.weight else f"{phase.name} (made {phase.made} %)"
        cells = [met, seconds(phase.duration), requests(phase), what_decided(phase)]
        rows.append((name, badge(phase.verdict), *cells))
    return table(columns, rows, "Phases, in order; requests of the new and of the running version")


def _findings(phase: Phase, config: CanaryConfig | None) -> Html:
    """Return all that was found in a phase."""
    if not phase.findings:
        return Html()
    columns = (
        Column("Signal", "k"),
        Column("Rule", "k"),
        Column("Verdict"),
        Column("New", "n"),
        Column("Running", "n"),
        Column("Increase, between", "k"),
        Column("Limit", "n"),
        Column("Evidence", "n"),
        Column("Requests", "n"),
        Column("Over", "n"),
        Column("Source and query", "f"),
    )
    rows = [_row(each, phase, config) for each in phase.findings]
    reasons = [
        tag("p", badge(each.verdict), f" {each.signal} ({each.rule}): {each.reason}")
        for each in phase.findings
        if each.verdict != "PASS"
    ]
    return join([
        tag("h3", f"{phase.name} ", badge(phase.verdict)),
        *reasons,
        table(columns, rows, "sla: by itself; compare: beside the running version"),
    ])  # fmt: skip


def _row(each: Finding, phase: Phase, config: CanaryConfig | None) -> Sequence[str]:
    asked = ": ".join(part for part in (each.source, each.query) if part)
    return (
        each.signal,
        each.rule,
        badge(each.verdict),
        value(each.signal, each.estimate),
        value(each.signal, each.stable),
        interval(each),
        limit(each),
        _evidence(each, config),
        _counts(each),
        _window(each, phase, config),
        asked or NONE,
    )


def _evidence(each: Finding, config: CanaryConfig | None) -> str:
    if each.e_value is None:
        return NONE
    told = f"e {short(each.e_value)}"
    return f"{told} of {short(2 / config.alpha_each)}" if config is not None else told


def _counts(each: Finding) -> str:
    if each.n is None:
        return NONE
    return whole(each.n) if each.n_stable is None else f"{whole(each.n)} / {whole(each.n_stable)}"


def _window(each: Finding, phase: Phase, config: CanaryConfig | None) -> str:
    if each.rule == "sla":
        if config is None:
            return NONE
        return f"{config.sla.points} times {seconds(config.sample_interval)}"
    return seconds(phase.duration) if each.rule != "quality" else NONE
