"""Is this version slower than another one: the same traffic on both, compared block by block."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.load import CompareConfig
from pytest_llmdeploy.config.objectives import parse_objective
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.definitions import NOT_JUDGED, NoUsageError, value_of
from pytest_llmdeploy.load.files import LEDGER, SUMMARY
from pytest_llmdeploy.load.judging import seconds
from pytest_llmdeploy.load.ledger import Record, read_ledger
from pytest_llmdeploy.load.spec import TrafficSpec
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.comparison import Block, Ratio, judge_ratio, quantile_ratio
from pytest_llmdeploy.verdicts.histogram import Histogram

RESAMPLES = 2000
FREE = frozenset({"targets", "objectives", "good", "drain", "max_tokens_total"})
"""What may differ between comparable runs: it does not change what is sent, or when."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One percentile of this version (b) beside the other's (a)."""

    name: str
    verdict: Verdict
    reason: str
    a: float | None
    b: float | None
    ratio: float | None
    low: float | None
    high: float | None
    max_increase: float

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self) | {"verdict": str(self.verdict)}


class Blocks:
    """Latencies of one side by stretches of time."""

    def __init__(self, metric: str, number: int) -> None:
        self._metric = metric
        self._values = [Histogram() for _ in range(number)]
        self._failed = [0] * number

    def add(self, place: int, record: Record) -> None:
        """Count a request."""
        try:
            value = value_of(self._metric, record)
        except NoUsageError as error:
            raise NotMeasuredError("tpot needs token counts: the answers have no usage") from error
        if value is None:
            return
        if math.isfinite(value):
            self._values[place].add(value)
        else:
            self._failed[place] += 1

    def blocks(self) -> list[Block]:
        """Return the blocks in the order of time."""
        return [Block(v, failed) for v, failed in zip(self._values, self._failed, strict=True)]


def comparable(traffic: TrafficSpec) -> dict[str, Any]:
    """Return the traffic as builtins, without addresses, keys and long lists."""
    data = asdict(traffic)
    del data["targets"], data["host"]
    for name in ("trace", "prompts"):
        data[name] = _digest(data[name]) if data[name] else None
    parsed: dict[str, Any] = json.loads(json.dumps(data))  # tuples become lists, as when read back
    return parsed


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def compare_with_record(
    config: CompareConfig, folder: Path, ledger: Path, spec: Mapping[str, Any], confidence: float
) -> list[Compared]:
    """Compare a run with the record in `folder`; raise NotMeasuredError where it cannot be."""
    try:
        earlier = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        why_not = earlier["error"] or earlier["skipped"]
        if earlier.get("capacity"):
            why_not = "it was a search of the highest rate"
        if not why_not:
            theirs, (begun, ended) = dict(earlier["spec"]), earlier["window"]
            if not begun < ended:
                raise ValueError("its window is empty")
            _check_ledger(folder / LEDGER, earlier["intended"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise NotMeasuredError(f"{folder} is no record of a load run: {problem}") from problem
    if why_not:
        raise NotMeasuredError(f"the baseline in {folder} was no measurement: {why_not}")
    different = sorted(key for key in {*spec, *theirs} - FREE if spec.get(key) != theirs.get(key))
    if different:
        raise NotMeasuredError(
            f"not comparable with {folder}: {', '.join(different)} differed there; "
            "compare runs of the same traffic"
        )
    width = (ended - begun) / config.blocks
    found = []
    for name in config.metrics:
        metric, q = _metric(name)
        sides = [Blocks(metric, config.blocks) for _ in range(2)]
        for side, path in zip(sides, (folder / LEDGER, ledger), strict=True):
            for record in read_ledger(path):
                place = math.floor((record.get("at", -1.0) - begun) / width)
                if 0 <= place < config.blocks and record["class"] not in NOT_JUDGED:
                    side.add(place, record)
        found.append(_judged(name, q, sides, config, confidence, paired=False))
    return found


def _check_ledger(path: Path, intended: int) -> None:
    """Raise ValueError where the ledger is not the whole of the run."""
    if not path.is_file():
        raise ValueError(f"it has no {LEDGER}")
    found = sum(1 for _ in read_ledger(path))
    if found != intended:
        raise ValueError(f"its {LEDGER} has {found} of {intended} requests")


def compare_targets(
    config: CompareConfig, ledger: Path, warmup: float, width: float, confidence: float
) -> list[Compared]:
    """Compare the two targets of one run, whose blocks of `width` seconds came as A B B A."""
    found = []
    for name in config.metrics:
        metric, q = _metric(name)
        sides = [Blocks(metric, math.ceil(config.blocks / 2)) for _ in range(2)]
        for record in read_ledger(ledger):
            at = record.get("at", -1.0)
            block = math.floor(at / width)
            # Blocks 0 and 1 are the first pair, 3 and 2 the second; half a pair would not pair.
            pair = block // 2
            complete = warmup <= pair * 2 * width and pair < config.blocks // 2
            if at >= 0 and complete and record["class"] not in NOT_JUDGED:
                sides[record["target"]].add(pair, record)
        # Target 0 is the version under test; the ratio is its percentile over the other's.
        found.append(_judged(name, q, sides[::-1], config, confidence, paired=True))
    return found


def _metric(name: str) -> tuple[str, float]:
    objective = parse_objective(f"{name} <= 1")
    assert objective.percentile is not None
    return objective.metric, objective.percentile / 100


def _judged(
    name: str,
    q: float,
    sides: Iterable[Blocks],
    config: CompareConfig,
    confidence: float,
    *,
    paired: bool,
) -> Compared:
    a, b = (side.blocks() for side in sides)
    ratio = quantile_ratio(
        a, b, q, confidence=confidence, resamples=RESAMPLES, seed=0, paired=paired
    )
    verdict = judge_ratio(ratio, config.max_increase)
    return Compared(
        name,
        verdict,
        _reason(name, ratio, verdict, config.max_increase),
        **_numbers(ratio),
        max_increase=config.max_increase,
    )


def _numbers(ratio: Ratio) -> dict[str, float | None]:
    values = {key: getattr(ratio, key) for key in ("a", "b", "ratio", "low", "high")}
    return {
        key: value if value is not None and math.isfinite(value) else None
        for key, value in values.items()
    }


def _reason(name: str, ratio: Ratio, verdict: Verdict, max_increase: float) -> str:
    a, b = (
        "beyond all that ended well"
        if value is None or not math.isfinite(value)
        else seconds(value)
        for value in (ratio.a, ratio.b)
    )
    text = f"{name}: {b}, the other version {a}"
    if ratio.low is None or ratio.high is None or ratio.ratio is None:
        return f"{text}: not enough to tell, a longer run would"
    text += f" ({ratio.ratio:.2f} times, between {ratio.low:.2f} and {ratio.high:.2f})"
    limit = 1 + max_increase
    if verdict is Verdict.PASS:
        return f"{text}: at most {limit:g} times is certain"
    if verdict is Verdict.FAIL:
        return f"{text}: more than {limit:g} times"
    return f"{text}: not enough to tell whether it is more than {limit:g} times"
