"""When a replica that ended is started again, and when it counts as a crash loop: pure."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_BACK_OFF = 30.0
STABLE_AFTER = 60.0
"""Seconds of one run after which earlier ends are forgotten."""
LOOP_ENDS = 3
"""Ends without a stable run between them that are a crash loop."""


@dataclass(slots=True)
class BackOff:
    """Counts the ends of one replica's processes."""

    first: float
    """Seconds until the first restart; each further one waits twice as long."""
    ends: int = 0
    """Ends since the last stable run."""

    def ended(self, lived: float) -> float:
        """Note that a process ended after `lived` seconds; return the seconds until the next."""
        if lived >= STABLE_AFTER:
            self.ends = 0
        self.ends += 1
        return min(LONGEST_BACK_OFF, self.first * 2.0 ** min(self.ends - 1, 30))

    @property
    def looping(self) -> bool:
        """Whether waiting for the next start is no use."""
        return self.ends >= LOOP_ENDS
