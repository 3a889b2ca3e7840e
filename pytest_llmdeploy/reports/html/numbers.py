"""Numbers as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

from pytest_llmdeploy.config.objectives import LATENCIES, RATES, SHARES

INFINITE = "∞"
NONE = "\u2013"


def short(value: float) -> str:
    """Return three significant digits, or all digits before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """Return a time in the unit that suits it; None is infinite."""
    if value is None:
        return INFINITE
    if abs(value) >= 120:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02d} s"
    if abs(value) >= 0.9995 or value == 0:
        return f"{short(value)} s"
    if 0 < value < 1e-6:
        return "< 0.001 ms"
    return f"{short(value * 1000)} ms"


def share(value: float | None) -> str:
    """Return a percentage; only what is all or nothing is shown as 100 % or 0 %."""
    if value is None:
        return NONE
    shown = f"{100 * value:.2f}".rstrip("0").rstrip(".")
    if shown in ("100", "0", "-0") and value not in (0, 1):
        return "> 99.99 %" if shown == "100" else "< 0.01 %"
    return f"{shown} %"


def rate(value: float | None) -> str:
    """Return a number per second."""
    return NONE if value is None else f"{short(value)}/s"


def whole(value: int | None) -> str:
    """Return a count with its thousands apart."""
    return NONE if value is None else f"{value:,}".replace(",", "\u202f")


def moment(iso: str) -> str:
    """Return an ISO time in UTC; what is none, or in no time zone, stays as it is."""
    try:
        when = datetime.fromisoformat(iso)
        if when.tzinfo is not None:
            return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError):
        pass
    return iso or NONE


def of_metric(name: str, value: float | None, *, missing: str = NONE) -> str:
    """Return a value of the objective `name` (``ttft_p95``, ``error_rate``) with its unit.

    `missing` stands for a latency that is None.
    """
    latency = name.partition("_p")[0] in LATENCIES
    if value is None:
        return missing if latency else NONE
    if latency:
        return seconds(value)
    if name in SHARES:
        return share(value)
    return rate(value) if name in RATES else short(value)
