"""``calibration.html``: what a policy would catch, how fast, and how often it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pytest_llmdeploy.reports.html.axes import Axis, linear, logarithmic
from pytest_llmdeploy.reports.html.markup import Column, Html, badge, facts, join, table, tag, text
from pytest_llmdeploy.reports.html.numbers import NONE, moment, rate, seconds, share, whole
from pytest_llmdeploy.reports.html.style import CSS
from pytest_llmdeploy.reports.html.svg import chart, key, key_area, percent

PAGE = "calibration.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
_ROW, _BAR, _AXIS = 44, 14, 40
_OUTCOMES = (
    ("caught", "caughtarea", "caught: rolled back as worse"),
    ("inconclusive", "openarea", "inconclusive: rolled back for want of proof"),
    ("error", "errorarea", "error: rolled back as not measurable"),
    ("promoted", "promotedarea", "promoted"),
)
_SAYS = {
    "promote": "must pass",
    "catch": "must be caught",
    "tolerate": "tolerated",
    "not judged": "not judged",
    "unknown": "not known",
}
_OWN = """
:root{--openfill:#e5c76b;--errorfill:#c9a0d6;--promotedfill:#c9ced6}
@media screen and (prefers-color-scheme:dark){:root{--openfill:#7a6120;--errorfill:#6a3c78;
--promotedfill:#4a515c}}
svg .caughtarea{fill:var(--okfill)}svg .openarea{fill:var(--openfill)}
svg .errorarea{fill:var(--errorfill)}svg .promotedarea{fill:var(--promotedfill)}
svg .aside{fill-opacity:.09}
svg .reach{stroke:var(--ink);stroke-width:2}
svg .quick{stroke:var(--s1);stroke-width:6;stroke-opacity:.4}
svg text.case{font-size:13px;fill:var(--ink);font-weight:600}
.threes{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(360px,100%),1fr));
gap:8px 36px}
.threes>*{min-width:0}
ul.advice{margin:10px 0;padding-left:20px}ul.advice li{margin:8px 0}
.plot{padding:0 22px 0 8px}
@media (min-width:1160px){.threes .keys{min-height:106px;align-content:flex-start}}
"""


class _Part(BaseModel):
    """A part of ``calibration.json``; further keys are for machines."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Real(_Part):
    """One real canary."""

    outcome: str
    by: str
    reason: str
    weight: int
    seconds: float | None = None
    exposed: int | None = None
    restored: bool = True


class Share(_Part):
    """A share of simulated canaries."""

    count: int
    n: int
    share: float
    low: float
    high: float


class Reach(_Part):
    """Quantiles over simulated canaries."""

    p10: float
    median: float
    p90: float


class Drawn(_Part):
    """The simulated canaries of a case."""

    wanted: int
    caught: Share
    inconclusive: Share
    error: Share
    promoted: Share
    seconds: Reach | None = None
    exposed: Reach | None = None
    by: dict[str, int] = {}


class Case(_Part):
    """One case."""

    name: str
    what: str
    says: str
    why: str
    held: bool
    measured: tuple[Real, ...] = ()
    simulated: Drawn | None = None
    not_simulated: str = ""


class Base(_Part):
    """Figures of the running version."""

    rate: float
    error_rate: float
    requests: int = 0


class Page(_Part):
    """``calibration.json``."""

    run: str
    service: str
    environment: str
    started: str
    duration: float
    speed: float
    runs: int
    seed: int
    exit_code: int
    interrupted: bool = False
    policy: dict[str, Any]
    figures: Base | None = None
    left_out: tuple[str, ...] = ()
    cases: tuple[Case, ...]
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def write_page(folder: Path, data: Mapping[str, Any]) -> Path:
    """Write the page beside calibration.json, whole or not at all; return its path."""
    path = folder / PAGE
    partial = path.with_suffix(".html.partial")
    partial.write_text(page(Page.model_validate(data)), encoding="utf-8", errors="replace")
    partial.replace(path)
    return path


def page(found: Page) -> str:
    """Return the page."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"Calibration of {found.service}'s canary, {found.environment}"),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(CSS + _OWN)),
    )
    title = f"llmdeploy calibrate {found.run}: {found.service} in {found.environment}"
    header = tag("header", tag("h1", title), _banner(found))
    main = tag("main", _facts(found), _pictures(found), _advice(found), _table(found))
    footer = (
        f"pytest-llmdeploy {version('pytest-llmdeploy')}; the same for machines: calibration.json"
    )
    body = tag("body", header, main, tag("footer", footer))
    return join([Html("<!doctype html>\n"), tag("html", head, body, lang="en"), text("\n")])


def _banner(found: Page) -> Html:
    word, style = {0: ("PASS", "pass"), 1: ("FAIL", "fail")}.get(
        found.exit_code, ("ERROR", "error")
    )
    broken = [case for case in found.cases if not case.held]
    if found.interrupted:
        first = "Interrupted: what was under way has been taken back."
    elif broken:
        names = ", ".join(case.name for case in broken)
        first = f"The policy does not do what it says: {names}."
    elif found.exit_code:
        first = "Not everything could be measured."
    else:
        first = "A version that is no worse passes, and what the policy says is too much does not."
    passed = [case for case in found.cases if _is_promoted(case) and case.says != "promote"]
    parts = [badge(word), tag("p", first, class_="first")]
    if passed:
        told = ", ".join(f"{case.name} ({_SAYS[case.says]})" for case in passed)
        parts.append(tag("p", f"Promoted, wholly or now and then: {told}."))
    parts += [tag("p", note) for note in found.notes]
    return tag("div", *parts, class_=f"banner is-{style}")


def _is_promoted(case: Case) -> bool:
    real = any(each.outcome == "promoted" for each in case.measured)
    return real or (case.simulated is not None and case.simulated.promoted.share > 0.05)


def _facts(found: Page) -> Html:
    compare, phases = found.policy.get("compare", {}), found.policy.get("phases", ())
    margins = [
        f"{name} {value:g}"
        for name, value in compare.items()
        if isinstance(value, float) and name not in ("alpha", "min_requests")
    ]
    weights = ", ".join(f"{p['weight']} % for {seconds(p['duration'])}" for p in phases)
    pairs = [
        ("Phases", weights),
        ("Margins (compare)", ", ".join(margins) or "none: nothing is compared"),
        ("Alpha", f"{compare.get('alpha', NONE)}"),
        ("Began", moment(found.started)),
        ("Took", seconds(found.duration)),
        ("Real canaries", _real(found)),
    ]
    if found.figures is not None:
        behind = (
            whole(found.figures.requests) + " requests of a-a" if found.figures.requests else ""
        )
        pairs += [
            ("Figures from", behind or "given, not measured"),
            ("Traffic", rate(found.figures.rate)),
            ("Failed of the running version", share(found.figures.error_rate)),
        ]
    drawn = [case.simulated.promoted.n for case in found.cases if case.simulated is not None]
    if drawn:
        least = f"{whole(min(drawn))} to " if min(drawn) < max(drawn) else ""
        pairs.append(("Simulated canaries a case", f"{least}{whole(max(drawn))}"))
    if found.left_out:
        pairs.append(("Not simulated", ", ".join(found.left_out)))
    return facts(pairs)


def _real(found: Page) -> str:
    if not found.runs:
        return "none"
    times = "all times as in the policy"
    if found.speed != 1:
        times = f"all times divided by {found.speed:g}, so with fewer requests than the policy has"
    return f"{found.runs} a case, {times}"


def _advice(found: Page) -> Html:
    if not found.advice:
        return Html()
    items = [tag("li", each) for each in found.advice]
    return join([tag("h2", "What follows"), tag("ul", *items, class_="advice")])


def _pictures(found: Page) -> Html:
    cases = found.cases
    if not cases:
        return Html()
    parts = [_outcomes(cases)]
    parts.append(
        _reaches(
            cases,
            "Time to detect",
            "seconds from the first weight",
            lambda case: case.simulated.seconds if case.simulated else None,
            lambda real: real.seconds,
            seconds,
        )
    )
    parts.append(
        _reaches(
            cases,
            "Requests exposed",
            "requests that the new version answered",
            lambda case: case.simulated.exposed if case.simulated else None,
            lambda real: None if real.exposed is None else float(real.exposed),
            lambda value: whole(round(value)),
        )
    )
    return join([tag("h2", "What would be caught"), tag("div", *parts, class_="threes")])


def _outcomes(cases: Sequence[Case]) -> Html:
    """Return a bar a case: what becomes of simulated versions, and of real ones."""
    content: list[Html] = list(_rows(cases))
    for row, case in enumerate(cases):
        top = row * _ROW + 20
        if case.simulated is not None:
            content += _stack(case.simulated, top)
        else:
            content.append(tag("text", f"not simulated: {case.not_simulated}", x="0", y=top + 11))
        content += _marks(case, top)
    height = len(cases) * _ROW + _AXIS
    content += _axis(linear("share of simulated versions (%)", 1.0, 0.0, 100.0), len(cases) * _ROW)
    seen = {each.outcome for case in cases for each in case.measured}
    keys = [key_area(style, words) for _, style, words in _OUTCOMES]
    keys.append(key("reach", "95 % interval of the share caught"))
    signs = {
        "caught": "✓ caught",
        "inconclusive": "? inconclusive",
        "error": "! error",
        "promoted": "▲ promoted",
    }
    told = ", ".join(signs[name] for name in signs if name in seen)
    if told:
        keys.append(tag("span", f"real canary: {told}"))
    about = "Bars are simulated; signs beside the names are what real canaries did."
    return chart("What becomes of the new version", about, height, *content, keys=join(keys))


def _rows(cases: Sequence[Case]) -> Iterable[Html]:
    """Yield a name a row; the version that is no worse has a ground of its own."""
    for row, case in enumerate(cases):
        if case.says == "promote":
            yield tag("rect", x="0", y=row * _ROW, width="100%", height=_ROW - 2, class_="aside")
        words = f"{case.name} · {_SAYS[case.says]}" + ("" if case.held else " ✗")
        name = tag("text", tag("title", case.what), words, x="0", y=row * _ROW + 15, class_="case")
        yield name


def _marks(case: Case, top: float) -> Iterable[Html]:
    signs = {"caught": "✓", "inconclusive": "?", "error": "!", "promoted": "▲"}
    if case.measured:
        told = " ".join(f"{signs[each.outcome]} {each.outcome}" for each in case.measured)
        about = "; ".join(f"{each.outcome}: {each.reason}" for each in case.measured)
        yield tag(
            "text",
            tag("title", about),
            told,
            x="100%",
            y=top - 5,
            text_anchor="end",
            class_="strong",
        )


def _stack(drawn: Drawn, top: float) -> Iterable[Html]:
    left = 0.0
    for name, style, words in _OUTCOMES:
        part: Share = getattr(drawn, name)
        if part.count:
            about = f"{words}: {share(part.share)}, {share(part.low)} to {share(part.high)}"
            yield tag(
                "rect",
                tag("title", about),
                x=percent(left),
                y=top,
                width=percent(part.share),
                height=_BAR,
                class_=style,
            )
        left += part.share
    yield from _reach(drawn.caught.low, drawn.caught.high, top + _BAR / 2)


def _reach(left: float, right: float, y: float) -> Iterable[Html]:
    start, end = percent(left), percent(right)
    yield tag("line", x1=start, x2=end, y1=y, y2=y, class_="reach")
    for at in (start, end):
        yield tag("line", x1=at, x2=at, y1=y - 4, y2=y + 4, class_="reach")


def _reaches(  # noqa: PLR0917 - what differs between two pictures
    cases: Sequence[Case],
    heading: str,
    label: str,
    simulated: Callable[[Case], Reach | None],
    measured: Callable[[Real], float | None],
    shown: Callable[[float], str],
) -> Html:
    """Return ranges on one logarithmic axis: simulated p10 to p90 with median, measured dots."""
    told = {case.name: simulated(case) for case in cases}
    dots = {
        case.name: [
            value
            for each in case.measured
            if each.outcome != "promoted" and (value := measured(each)) is not None and value > 0
        ]
        for case in cases
    }
    known = [v for reach in told.values() if reach is not None for v in (reach.p10, reach.p90)]
    known = [v for v in (*known, *(v for each in dots.values() for v in each)) if v > 0]
    if not known:
        return chart(heading, "Nothing was caught.", _AXIS)
    axis = logarithmic(f"{label} (log scale)", min(known), max(known))
    content: list[Html] = list(_rows(cases))
    for row, case in enumerate(cases):
        y = row * _ROW + 20 + _BAR / 2
        reach = told[case.name]
        if reach is not None:
            about = (
                f"simulated: median {shown(reach.median)}, {shown(reach.p10)} to {shown(reach.p90)}"
            )
            ends = [percent(axis.at(max(value, axis.low))) for value in (reach.p10, reach.p90)]
            content.append(
                tag("line", tag("title", about), x1=ends[0], x2=ends[1], y1=y, y2=y, class_="quick")
            )
            at = percent(axis.at(max(reach.median, axis.low)))
            content.append(tag("circle", tag("title", about), cx=at, cy=y, r=5, class_="dot"))
        for value in dots[case.name]:
            about = f"measured: {shown(value)}"
            at = percent(axis.at(value))
            content.append(tag("circle", tag("title", about), cx=at, cy=y, r=5, class_="dot2"))
        if reach is None and not dots[case.name]:
            content.append(tag("text", "none was caught", x="0", y=y + 4))
        else:
            words = f"{shown(reach.median)}" if reach is not None else ""
            if dots[case.name]:
                words += f" ({', '.join(shown(value) for value in dots[case.name])})"
            content.append(
                tag("text", words.strip(), x="100%", y=row * _ROW + 15, text_anchor="end")
            )
    content += _axis(axis, len(cases) * _ROW)
    keys = [
        key("quick", "simulated: middle four fifths"),
        tag("span", "blue disk, first number: simulated median"),
        tag("span", "orange disk, in brackets: real canary"),
    ]
    about = "From the first weight until the new version was rolled back."
    return chart(heading, about, len(cases) * _ROW + _AXIS, *content, keys=join(keys))


def _axis(axis: Axis, top: float) -> Iterable[Html]:
    yield tag("line", x1="0", x2="100%", y1=top, y2=top, class_="frame")
    for value, words in axis.ticks:
        position = axis.at(value)
        at = percent(position)
        anchor = "start" if position < 0.02 else "end" if position > 0.98 else "middle"
        yield tag("line", x1=at, x2=at, y1=top, y2=top + 4, class_="frame")
        yield tag("text", words, x=at, y=top + 16, text_anchor=anchor)
    yield tag("text", axis.label, x="50%", y=top + 34, text_anchor="middle")


def _table(found: Page) -> Html:
    columns = (
        Column("Case", "f"),
        Column("Policy says", "w"),
        Column("Real canary", "f"),
        Column("After", "n"),
        Column("Exposed", "n"),
        Column("Caught", "n"),
        Column("Promoted", "n"),
    )
    rows = [
        (
            join([tag("strong", case.name), text(f"\n{case.what}")]),
            f"{_SAYS[case.says]}{'' if case.held else ' ✗'}: {case.why}{_by(case.simulated)}",
            "\n".join(_told(each) for each in case.measured) or NONE,
            _lines(NONE if r.seconds is None else seconds(r.seconds) for r in case.measured),
            _lines(whole(each.exposed) for each in case.measured),
            _rate(case.simulated.caught) if case.simulated else NONE,
            _rate(case.simulated.promoted) if case.simulated else NONE,
        )
        for case in found.cases
    ]
    caption = "Real canary, after, exposed: measured. Caught, promoted: simulated, 95 % intervals"
    return join([tag("h2", "Case by case"), table(columns, rows, caption)])


def _told(real: Real) -> str:
    by = f" by {real.by}" if real.by else ""
    where = f" at {real.weight} %" if real.weight and real.outcome != "promoted" else ""
    return f"{real.outcome}{by}{where}" + ("" if real.restored else ", NOT TAKEN BACK")


def _lines(parts: Iterable[str]) -> Html:
    """Return each part on a line of its own, also where lines are not to break."""
    rows = [piece for part in parts for piece in (tag("br"), text(part))][1:]
    return join(rows) if rows else text(NONE)


def _rate(part: Share) -> Html:
    span = f"{100 * part.low:.1f} to {100 * part.high:.1f}"
    return join([text(share(round(part.share, 4))), tag("br"), tag("span", span, class_="muted")])


def _by(drawn: Drawn | None) -> str:
    if drawn is None or not drawn.by:
        return ""
    told = ", ".join(f"{name} {count}" for name, count in list(drawn.by.items())[:3])
    return f"; simulated ones ended by: {told}"
