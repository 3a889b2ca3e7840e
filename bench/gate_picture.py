"""Draw docs/statistics.svg: the same rate from few and from many cases, against a limit.

``python bench/gate_picture.py`` writes it anew; a test holds the file to this.
"""

from __future__ import annotations

from pathlib import Path

from pytest_llmdeploy.verdicts.proportions import bounds

FILE = Path(__file__).parents[1] / "docs" / "statistics.svg"
LIMIT = 0.9
ROWS = ((19, 20), (190, 200), (18, 20), (180, 200), (160, 200))
COLOURS = {"PASS": "#1a7f37", "FAIL": "#cf222e", "INCONCLUSIVE": "#9a6700"}
LEFT, RIGHT, LOW, HIGH, STEP, TOP = 130, 570, 0.7, 1.0, 40, 50


def at(rate: float) -> float:
    """Return the place of a rate on the line."""
    return round(LEFT + (RIGHT - LEFT) * (rate - LOW) / (HIGH - LOW), 1)


def row(number: int, passed: int, n: int) -> str:
    lower, upper = bounds("wilson", passed / n, n, 0.95)
    verdict = "PASS" if lower >= LIMIT else "FAIL" if upper < LIMIT else "INCONCLUSIVE"
    y, colour = TOP + STEP * number, COLOURS[verdict]
    return (
        f'<text x="{LEFT - 14}" y="{y + 5}" text-anchor="end">{passed} of {n}</text>\n'
        f'<path d="M{at(lower)} {y}H{at(upper)}M{at(lower)} {y - 6}v12M{at(upper)} {y - 6}v12"'
        f' stroke="{colour}" stroke-width="3"/>\n'
        f'<circle cx="{at(passed / n)}" cy="{y}" r="6" fill="{colour}"/>\n'
        f'<text x="{RIGHT + 14}" y="{y + 5}" fill="{colour}">{verdict}</text>\n'
    )


def picture() -> str:
    """Return the picture as SVG."""
    bottom = TOP + STEP * len(ROWS)
    ticks = "".join(
        f'<text x="{at(rate)}" y="{bottom + 16}" text-anchor="middle">{100 * rate:.0f} %</text>\n'
        for rate in (0.7, 0.8, 0.9, 1.0)
    )
    told = (
        "Pass rates with their bounds against a limit of 90 %: 19 of 20 is inconclusive where 190"
        " of 200 passes"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {bottom + 30}" role="img"'
        f' aria-label="{told}" font-family="sans-serif" font-size="15" fill="#1f2328">\n'
        f"<title>{told}</title>\n"
        f'<rect width="720" height="{bottom + 30}" fill="#ffffff"/>\n'
        f'<text x="{at(LIMIT)}" y="18" text-anchor="middle">min_pass_rate</text>\n'
        f'<path d="M{at(LIMIT)} 25V{bottom}" stroke="#1f2328" stroke-dasharray="5 4"/>\n'
        f'<path d="M{LEFT} {bottom}H{RIGHT}" stroke="#8c959f"/>\n'
        + "".join(row(number, *each) for number, each in enumerate(ROWS))
        + ticks
        + "</svg>\n"
    )


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
