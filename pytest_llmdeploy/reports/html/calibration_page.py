"""``calibration.html``: what a policy would catch, how fast, and how often it is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_llmdeploy.reports.html.calibration_charts import pictures
from pytest_llmdeploy.reports.html.calibration_result import SAYS, Case, Drawn, Page, Real, Share
from pytest_llmdeploy.reports.html.document import document
from pytest_llmdeploy.reports.html.markup import Column, Html, badge, facts, join, table, tag, text
from pytest_llmdeploy.reports.html.numbers import NONE, moment, rate, seconds, share, whole

PAGE = "calibration.html"
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


def write_page(folder: Path, data: Mapping[str, Any]) -> Path:
    """Write the page beside calibration.json, whole or not at all; return its path."""
    path = folder / PAGE
    partial = path.with_suffix(".html.partial")
    partial.write_text(page(Page.model_validate(data)), encoding="utf-8", errors="replace")
    partial.replace(path)
    return path


def page(found: Page) -> str:
    """Return the page."""
    title = f"llmdeploy calibrate {found.run}: {found.service} in {found.environment}"
    header = tag("header", tag("h1", title), _banner(found))
    main = tag("main", _facts(found), pictures(found.cases), _advice(found), _table(found))
    footer = (
        f"pytest-llmdeploy {version('pytest-llmdeploy')}; the same for machines: calibration.json"
    )
    about = f"Calibration of {found.service}'s canary, {found.environment}"
    return document(about, header, main, tag("footer", footer), style=_OWN)


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
        told = ", ".join(f"{case.name} ({SAYS[case.says]})" for case in passed)
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
            f"{SAYS[case.says]}{'' if case.held else ' ✗'}: {case.why}{_by(case.simulated)}",
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
