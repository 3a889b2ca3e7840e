"""Inline SVG that keeps its text size at every width.

Only the curves are stretched (a nested picture without aspect ratio); ticks, labels and marks stand
at percentages of the width, so one chart serves a phone, a wide screen and paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_llmdeploy.reports.html.axes import Axis
from pytest_llmdeploy.reports.html.markup import Html, join, tag

WIDTH = 1000
"""Units of a curve's own picture, whatever its width on the screen."""
ABOVE = 24
"""Pixels above a panel, for the name of its y axis."""
BELOW = 36
"""Pixels below the last panel, for ticks and the name of the x axis."""
Point = tuple[float, float | None]
HATCH = Html(
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true" focusable="false">'
    '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><line class="hatchline" x1="0" y1="0" x2="0" y2="7"/>'
    "</pattern></defs></svg>"
)
"""Stands once in the page."""


def percent(position: float) -> str:
    """Return a position from 0 to 1 as a length of the chart."""
    return f"{100 * position:.2f}%"


class Panel:
    """One pair of axes with what is drawn between them; y grows upwards in values."""

    def __init__(self, x: Axis, y: Axis, height: int, *, top: float = 0, last: bool = True) -> None:
        self.x, self.y = x, y
        self.top, self.height = top + ABOVE, height
        self._last = last
        self._behind: list[Html] = []
        self._curves: list[Html] = []
        self._front: list[Html] = []

    @property
    def bottom(self) -> float:
        """The pixel where the next panel can begin."""
        return self.top + self.height + (BELOW if self._last else 8)

    def level(self, value: float) -> float:
        """Return the pixel of a y value."""
        return self.top + (1 - self.y.at(value)) * self.height

    def curve(self, points: Iterable[Point], style: str, about: str) -> None:
        """Draw a line through the points; it is broken where y is None."""
        path, drawing, alone = "", False, False
        for x, y in points:
            if y is None:
                path += "h.01" if alone else ""
                drawing = alone = False
                continue
            path += f"{'L' if drawing else 'M'}{self._at(x, y)}"
            drawing, alone = True, not drawing
        path += "h.01" if alone else ""
        # Numbers alone, however many: as `Html` they are not shortened like a foreign text.
        self._curves.append(tag("path", tag("title", about), d=Html(path), class_=style))

    def columns(self, spans: Sequence[tuple[float, float, float]], style: str, about: str) -> None:
        """Draw a filled outline of columns: (from, to, value)."""
        path = "".join(
            f"M{self._at(left, 0)}L{self._at(left, value)}L{self._at(right, value)}"
            f"L{self._at(right, 0)}"
            for left, right, value in spans
            if value
        )
        outline = tag("path", tag("title", about), d=Html(path), class_=style)
        self._behind.append(self._picture([outline]))

    def stretch(
        self, left: float, right: float, style: str, about: str, bottom: float | None = None
    ) -> None:
        """Fill the panel between two x values, down to the y value `bottom`."""
        start, end = self.x.at(left), self.x.at(right)
        height = self.height if bottom is None else self.level(bottom) - self.top
        rect = tag(
            "rect",
            tag("title", about),
            x=percent(start),
            y=self.top,
            width=percent(end - start),
            height=height,
            class_=style,
        )
        (self._front if style == "hit" else self._behind).append(rect)

    def vertical(self, x: float, style: str, about: str) -> None:
        """Draw a line from bottom to top."""
        at = percent(self.x.at(x))
        y1, y2 = self.top, self.top + self.height
        line = tag("line", tag("title", about), x1=at, x2=at, y1=y1, y2=y2, class_=style)
        self._front.append(line)

    def dot(self, x: float, y: float, about: str, style: str = "dot") -> None:
        """Draw a point with a text that appears when it is pointed at."""
        at, level = percent(self.x.at(x)), self.level(y)
        self._front.append(tag("circle", tag("title", about), cx=at, cy=level, r=4.5, class_=style))

    def mark(self, x: float, y: float, verdict: str, about: str) -> None:
        """Draw a verdict: a disk (PASS), a cross (FAIL) or a ring."""
        at, level = percent(self.x.at(x)), self.level(y)
        style = f"m-{verdict.lower()}"
        if verdict == "FAIL":
            # A nested picture of its own takes the percentage; a path could not.
            cross = tag("path", tag("title", about), d="M-5-5L5 5M-5 5L5-5", class_=style)
            self._front.append(tag("svg", cross, x=at, y=level, overflow="visible"))
        else:
            title = tag("title", about)
            self._front.append(tag("circle", title, cx=at, cy=level, r=5.5, class_=style))

    def words(self, x: float, y: float, words: str, style: str | None = None) -> None:
        """Write at a value of x and a pixel of y, towards the side with more room."""
        position = self.x.at(x)
        self._front.append(words_at(position, y, words, style))

    def render(self) -> Html:
        """Return the panel's elements."""
        return join([*self._frame(), *self._behind, self._picture(self._curves), *self._front])

    def _at(self, x: float, y: float) -> str:
        along, up = self.x.at(x) * WIDTH, (1 - self.y.at(y)) * self.height
        return f"{along:.1f} {up:.1f}".replace(".0 ", " ").removesuffix(".0")

    def _picture(self, content: Sequence[Html]) -> Html:
        return tag(
            "svg",
            *content,
            y=self.top,
            width="100%",
            height=self.height,
            viewBox=f"0 0 {WIDTH} {self.height}",
            preserveAspectRatio="none",
            overflow="visible",
        )

    def _frame(self) -> list[Html]:
        parts = [tag("text", self.y.label, x=-46, y=self.top - 11)]
        for value, words in self.y.ticks:
            level = self.level(value)
            style = "grid" if value != self.y.low else "frame"
            parts.append(tag("line", x2="100%", y1=level, y2=level, class_=style))
            parts.append(tag("text", words, x=-7, y=level + 4, text_anchor="end"))
        bottom = self.top + self.height
        for value, words in self.x.ticks:
            at = percent(self.x.at(value))
            parts.append(tag("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="frame"))
            if self._last:
                parts.append(tag("text", words, x=at, y=bottom + 16, text_anchor="middle"))
        if self._last:
            middle = tag("text", self.x.label, x="50%", y=bottom + 32, text_anchor="middle")
            parts.append(middle)
        return parts


def words_at(position: float, y: float, words: str, style: str | None = None) -> Html:
    """Return text beside a position from 0 to 1, at a pixel of y."""
    left = position > 0.6
    anchor, dx = ("end", -5) if left else ("start", 5)
    return tag("text", words, x=percent(position), y=y, dx=dx, text_anchor=anchor, class_=style)


def chart(heading: str, about: str, height: float, *content: str, keys: str = "") -> Html:
    """Return a figure: heading, legend, picture, and what it shows in words."""
    picture = tag(
        "svg", tag("title", heading), *content, role="img", aria_label=about, height=height
    )
    return tag(
        "figure",
        tag("figcaption", heading),
        tag("div", keys, class_="keys") if keys else "",
        tag("div", picture, class_="plot"),
        tag("p", about),
    )


def key(style: str, words: str) -> Html:
    """Return an entry of a legend that shows the line itself."""
    line = tag("line", x2="26", y1=5, y2=5, class_=style)
    return tag("span", tag("svg", line, aria_hidden="true"), words)


def key_area(style: str, words: str) -> Html:
    """Return an entry of a legend that shows a filled area."""
    area = tag("rect", width="26", height="10", class_=style)
    return tag("span", tag("svg", area, aria_hidden="true"), words)


def stripe(told: str, left: float, right: float, panels: Sequence[Panel]) -> Html:
    """Return an invisible stripe over all panels that tells something when pointed at."""
    top, last = panels[0].top, panels[-1]
    return tag(
        "rect",
        tag("title", told),
        x=percent(left),
        y=top,
        width=percent(right - left),
        height=last.top + last.height - top,
        class_="hit",
    )
