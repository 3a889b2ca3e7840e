"""What becomes of new versions, how fast, and what it costs: simulated, and measured beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pytest_llmdeploy.reports.html.axes import Axis, linear, logarithmic
from pytest_llmdeploy.reports.html.calibration_result import SAYS, Case, Drawn, Reach, Real, Share
from pytest_llmdeploy.reports.html.markup import Html, join, tag
from pytest_llmdeploy.reports.html.numbers import seconds, share, whole
from pytest_llmdeploy.reports.html.svg import chart, key, key_area, percent

_ROW, _BAR, _AXIS = 44, 14, 40
_OUTCOMES = (
    ("caught", "caughtarea", "caught: rolled back as worse"),
    ("inconclusive", "openarea", "inconclusive: rolled back for want of proof"),
    ("error", "errorarea", "error: rolled back as not measurable"),
    ("promoted", "promotedarea", "promoted"),
)


def pictures(cases: Sequence[Case]) -> Html:
    """Return the three charts; nothing where no case was tried."""
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
        words = f"{case.name} · {SAYS[case.says]}" + ("" if case.held else " ✗")
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
