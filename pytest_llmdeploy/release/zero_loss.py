"""Did the switch lose a request? From every request of the traffic to a verdict.

Pure: records in, verdict out. Times are seconds on the traffic's own clock (its start is zero).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.shares import judge_share

CONFIDENCE = 0.95
BEFORE, DEPLOYING, SWITCHING, AFTER, RETURNING = (
    "before",
    "deploying",
    "switching",
    "after",
    "returning",
)
OK = "ok"
CANCELLED = "cancelled"
OLD, NEW, UNKNOWN, LOST = "old", "new", "unknown", "lost"
BIN = 0.25
"""Seconds of one bin of the timeline."""
MOST_LOSSES = 20
"""Lost requests that are named one by one."""


@dataclass(frozen=True, slots=True)
class Moments:
    """When the release did what; None where it did not."""

    deploy: float | None = None
    """The new version's replicas began to be made."""
    switch: float | None = None
    """The platform was about to be told to move the traffic."""
    converged: float | None = None
    """Every new connection was answered by the new version."""
    back: float | None = None
    """A rollback was about to move the traffic back."""
    safe: float | None = None
    """Every new connection was answered by the former version again."""


@dataclass(slots=True)
class Losses:
    """What became of all requests."""

    moments: Moments
    new_version: str | None = None
    """What the new version calls itself; None where answers do not tell."""
    old_version: str | None = None
    n: int = 0
    lost: int = 0
    lost_unchanged: int = 0
    """Those of them that had ended before anything was changed."""
    lost_unmoved: int = 0
    """Those that had ended before the traffic was moved."""
    phases: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By when a request was intended: how requests ended."""
    versions: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By when a request was sent: which version answered."""
    clients: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    straddling: Counter[str] = field(default_factory=Counter)
    """How the requests ended that were open at the moment of the switch."""
    longest_gap: float = 0.0
    """Seconds in which no request was answered, between two that were."""
    gap_at: float | None = None
    last_old: float | None = None
    """Seconds from the switch until the former version gave its last answer."""
    first_new: float | None = None
    exposed: int = 0
    """Requests that the new version answered, or that were lost while it could answer."""
    losses: list[dict[str, Any]] = field(default_factory=list)
    """The first lost requests."""
    timeline: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Requests by how they ended (`OLD`, `NEW`, `UNKNOWN`, `LOST`), in bins of `BIN`."""
    _last_ok: float | None = None

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a request; they come in the order of their ends."""
        ended = record["class"]
        if ended == CANCELLED:
            return
        self.n += 1
        phase = self._phase(record["at"])
        self.phases[phase][ended] += 1
        self.clients[record.get("client", "?")][OK if ended == OK else "lost"] += 1
        version = record.get("version")
        if version is not None:
            self.versions[self._phase(record.get("sent", record["at"]))][version] += 1
        self.timeline[self._who(ended, version)][int(record["end"] / BIN)] += 1
        switch = self.moments.switch
        if switch is not None and record.get("sent", record["at"]) < switch <= record["end"]:
            self.straddling[ended] += 1
        if ended == OK:
            self._note_answer(record, version)
        else:
            self.lost += 1
            self.lost_unchanged += not _reached(self.moments.deploy, record["end"])
            self.lost_unmoved += not _reached(self.moments.switch, record["end"])
            if len(self.losses) < MOST_LOSSES:
                keys = ("i", "at", "sent", "end", "class", "client", "version", "detail")
                shown = {key: record[key] for key in keys if key in record}
                self.losses.append({**shown, "phase": phase})
        self._note_exposure(record, version)

    def _who(self, ended: str, version: str | None) -> str:
        if ended != OK:
            return LOST
        known = {self.old_version: OLD, self.new_version: NEW, None: UNKNOWN}
        return known.get(version, UNKNOWN)

    def _note_answer(self, record: Mapping[str, Any], version: str | None) -> None:
        end = record["end"]
        if self._last_ok is not None and end - self._last_ok > self.longest_gap:
            self.longest_gap, self.gap_at = end - self._last_ok, self._last_ok
        self._last_ok = max(end, self._last_ok or end)
        switch = self.moments.switch
        if switch is None or version is None:
            return
        if version == self.new_version and self.first_new is None:
            self.first_new = end - switch
        if version == self.old_version and self.moments.back is None and end > switch:
            self.last_old = end - switch

    def _note_exposure(self, record: Mapping[str, Any], version: str | None) -> None:
        switch = self.moments.switch
        if switch is None or record["end"] < switch:
            return
        safe = self.moments.safe
        if version is not None and self.new_version is not None:
            self.exposed += version == self.new_version
            lost = record["class"] != OK and version != self.new_version
        else:
            lost = True  # whoever it was: it cannot be told apart
        self.exposed += lost and (safe is None or record["at"] < safe)

    def _phase(self, at: float) -> str:
        moments = self.moments
        if moments.back is not None and at >= moments.back:
            return RETURNING
        if moments.converged is not None and at >= moments.converged:
            return AFTER
        if moments.switch is not None and at >= moments.switch:
            return SWITCHING
        if moments.deploy is not None and at >= moments.deploy:
            return DEPLOYING
        return BEFORE

    def lost_in(self, phase: str) -> int:
        """Return how many requests of a phase were lost."""
        return sum(self.phases[phase].values()) - self.phases[phase][OK]

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return {
            "n": self.n,
            "lost": self.lost,
            "lost_unchanged": self.lost_unchanged,
            "lost_unmoved": self.lost_unmoved,
            "phases": {name: dict(counts) for name, counts in self.phases.items()},
            "versions": {name: dict(counts) for name, counts in self.versions.items()},
            "clients": {name: dict(counts) for name, counts in self.clients.items()},
            "straddling": dict(self.straddling),
            "longest_gap": round(self.longest_gap, 3),
            "gap_at": self.gap_at,
            "last_old": self.last_old,
            "first_new": self.first_new,
            "exposed": self.exposed,
            "losses": self.losses,
            "moments": asdict(self.moments),
            "timeline": {
                "bin": BIN,
                **{who: _row(counts) for who, counts in sorted(self.timeline.items())},
            },
        }


def _reached(moment: float | None, at: float) -> bool:
    return moment is not None and at >= moment


def _row(counts: Counter[int]) -> list[int]:
    return [counts[number] for number in range(max(counts) + 1)] if counts else []


@dataclass(frozen=True, slots=True)
class LossVerdict:
    """The verdict, and the sentence that gives its numbers."""

    verdict: Verdict
    reason: str
    bound: float | None
    """Largest share of lost requests that the run is compatible with, at 95 %."""


def count_losses(
    records: Iterable[Mapping[str, Any]],
    moments: Moments,
    old_version: str | None = None,
    new_version: str | None = None,
    colors: tuple[str | None, str] | None = None,
) -> Losses:
    """Count every request of a traffic.

    `colors` are those of both versions: a request of which the router named the colour is of that
    version, whatever its answer says.
    """
    if old_version == new_version:  # answers do not tell which version gave them
        old_version = new_version = None
    if colors is not None:
        old_version, new_version = old_version or colors[0], new_version or colors[1]
    losses = Losses(moments, new_version, old_version)
    by_color = dict(zip(colors or (), (old_version, new_version), strict=False))
    for record in records:
        version = by_color.get(record.get("color"), record.get("version"))
        losses.add(record if version is None else {**record, "version": version})
    return losses


def judge_losses(losses: Losses, max_loss: float) -> LossVerdict:
    """Return PASS where none was lost and so many were sent that `max_loss` is ruled out.

    0 of n lost bounds the share of lost requests by 1 - 0.05^(1/n), about 3/n, at 95 % (Clopper and
    Pearson). Losses before anything was changed are none of the release's, and make it an ERROR.
    """
    n, lost = losses.n, losses.lost
    if n == 0:
        return LossVerdict(
            Verdict.ERROR, "no request was sent: nothing is known about losses", None
        )
    share = judge_share(lost, n, max_loss, CONFIDENCE)
    counted = f"{lost} of {n} requests lost"
    if lost:
        if losses.lost_unchanged == lost:
            reason = (
                f"{counted}, all of them before anything was changed: the running version fails"
            )
            return LossVerdict(Verdict.ERROR, reason, share.upper)
        where = ", ".join(
            f"{losses.lost_in(name)} {name}" for name in losses.phases if losses.lost_in(name)
        )
        kinds = sum(losses.phases.values(), Counter[str]())
        del kinds[OK]
        what = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        return LossVerdict(Verdict.FAIL, f"{counted} ({where}; {what})", share.upper)
    bound = f"at most {share.upper:.2%} of them can be lost unseen"
    if share.verdict is not Verdict.PASS:
        needed = f"; about {share.needed} would be needed" if share.needed else ""
        reason = f"{counted}: {bound}, which does not rule out max_loss {max_loss:.2%}{needed}"
        return LossVerdict(Verdict.INCONCLUSIVE, reason, share.upper)
    gap = f"longest gap between answers {losses.longest_gap * 1000:.0f} ms"
    return LossVerdict(Verdict.PASS, f"{counted}: {bound}; {gap}", share.upper)
