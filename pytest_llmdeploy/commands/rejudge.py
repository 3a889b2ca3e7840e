"""``llmdeploy rejudge``: judge what a run recorded once more, without a model or a cluster."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_llmdeploy.commands.arguments import add_config
from pytest_llmdeploy.commands.rejudge_gates import has_gates, rejudge_gates
from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.config.loader import load_config
from pytest_llmdeploy.errors import LLMDeployError
from pytest_llmdeploy.options import CONFIG_NAME
from pytest_llmdeploy.release.canary.looks import Look, read_looks
from pytest_llmdeploy.release.canary.phase import LOOKS
from pytest_llmdeploy.release.canary.replay import LookError, Recorded, Replayed, replay
from pytest_llmdeploy.release.run import RESULT
from pytest_llmdeploy.reports.result import EXIT_ERROR, EXIT_FAIL, EXIT_INCONCLUSIVE
from pytest_llmdeploy.verdicts import Verdict, worst

CANARIES = Path("records") / "canary"
"""Folder of a run's output folder in which its canaries have theirs."""
EXIT_CODES = {
    Verdict.PASS: 0,
    Verdict.FAIL: EXIT_FAIL,
    Verdict.ERROR: EXIT_ERROR,
    Verdict.INCONCLUSIVE: EXIT_INCONCLUSIVE,
}


class RecordError(LLMDeployError):
    """Name another folder, or mend the file: it is no record of a canary."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a canary has left."""

    folder: Path
    image: str
    looks: Mapping[str, Sequence[Look]]
    phases: Mapping[str, Recorded]
    policy: CanaryConfig | None
    """What was in force; None where the canary did not come to its end."""
    notes: tuple[str, ...]
    """What is missing."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "rejudge", help="Judge recorded gates and canaries once more, by other limits"
    )
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help=f"Output folder of a run, or the folder of one canary below its {CANARIES}",
    )
    add_config(
        parser,
        "Judge by this file (default: gates by llmdeploy.yaml, canaries by the recorded limits)",
        usual=False,
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line or two for each phase; the exit code is that of the worst verdict."""
    path: Path = arguments.path
    gates = has_gates(path)
    verdicts = []
    if gates:
        config = arguments.config or Path(CONFIG_NAME)
        verdicts += rejudge_gates(path, config, arguments.env)
        if not (path / CANARIES).is_dir():
            return EXIT_CODES[worst(verdicts)]
    policy = _policy(arguments.config, arguments.env)
    verdicts += [_rejudge(_read(folder), policy) for folder in _folders(arguments.path)]
    return EXIT_CODES[worst(verdicts)]


def _policy(path: Path | None, environment: str) -> CanaryConfig | None:
    if path is None:
        return None
    canary = load_config(path, environment).canary
    if canary is None:
        raise RecordError(f"{path} has no section 'canary' to judge by")
    return canary


def _folders(path: Path) -> list[Path]:
    if (path / LOOKS).exists() or (path / RESULT).exists():
        return [path]
    found = sorted(each for each in (path / CANARIES).glob("*") if each.is_dir())
    if not found:
        raise RecordError(
            f"{path} holds no canary: expected the output folder of a run with {CANARIES}, or a "
            f"folder with {LOOKS} and {RESULT}"
        )
    return found


def _rejudge(record: Record, policy: CanaryConfig | None) -> Verdict:
    """Print what a canary's looks say; return the verdict."""
    print(f"canary {record.folder.name}: {record.image}, {_by(policy)}")
    for note in record.notes:
        print(f"  note: {note}")
    wanted = policy or record.policy
    if wanted is None:
        raise RecordError(
            f"{record.folder} has no {RESULT}, so the limits are not known that were in force: "
            "give some with --config FILE"
        )
    for difference in _differences(policy, record.policy):
        print(f"  note: {difference}")
    try:
        phases = replay(record.looks, wanted, record.phases, record.policy)
    except LookError as error:
        raise RecordError(f"{record.folder / LOOKS}: look {error.number} {error}") from error
    names = [phase.name for phase in wanted.phases]
    for told in phases:
        _print(told, record.phases.get(told.name))
    for name in names[len(phases) :]:
        print(f"  {name}: not reached")
    for name in record.looks:
        if name not in names:
            print(f"  {name}: in the record, but no phase of these limits")
    last = phases[-1]
    print(f"  {_end(last)}")
    return last.verdict


def _by(policy: CanaryConfig | None) -> str:
    return "by the recorded limits" if policy is None else "by the limits of the file"


def _differences(policy: CanaryConfig | None, was: CanaryConfig | None) -> list[str]:
    """Return where what was recorded is not what the policy would have looked at."""
    if policy is None or was is None:
        return []
    names = ("sample_interval", "look_interval")
    return [
        f"{name} is {getattr(policy, name):g} s in the file; what was recorded, "
        f"{getattr(was, name):g} s, stands"
        for name in names
        if getattr(policy, name) != getattr(was, name)
    ]


def _print(told: Replayed, recorded: Recorded | None) -> None:
    was = "not recorded" if recorded is None else str(recorded.verdict)
    where = "no look"
    if told.look:
        where = f"ends at look {told.look} of {told.looks}, after {told.elapsed:.1f} s"
        where += ": earlier than it did" if told.earlier else ""
    changed = recorded is not None and recorded.verdict is not told.verdict
    print(f"  {told.name}: recorded {was}, now {told.verdict}{' (CHANGED)' if changed else ''}")
    print(f"    {where}")
    if told.verdict is Verdict.PASS:
        for finding in told.findings:
            print(f"    {finding.signal} ({finding.rule}): {finding.reason}")
    else:
        print(f"    {told.reason}")


def _end(last: Replayed) -> str:
    if last.verdict is Verdict.PASS:
        return "PASS: every phase passes"
    ends = {
        Verdict.FAIL: "the canary ends here, and goes back",
        Verdict.ERROR: "the canary ends here: it was not measured",
        Verdict.INCONCLUSIVE: "not enough to tell",
    }
    return f"{last.verdict} at {last.name}: {ends[last.verdict]}"


def _read(folder: Path) -> Record:
    """Return a canary's record; raise RecordError, with file and line, for what is none."""
    image, policy = "image not recorded", None
    phases: dict[str, Recorded] = {}
    notes: list[str] = []
    path = folder / RESULT
    if path.exists():
        image, policy, phases = _result(path)
    else:
        notes.append(f"there is no {RESULT}: the canary did not come to its end")
    looks, note = _looks(folder / LOOKS)
    return Record(folder, image, looks, phases, policy, (*notes, *note))


def _result(path: Path) -> tuple[str, CanaryConfig, dict[str, Recorded]]:
    try:
        result = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}:{error.lineno} is no JSON: {error.msg}") from error
    except ValueError as error:
        raise RecordError(f"{path}:1 is no JSON: {error}") from error
    try:
        told = result["canary"]
        if not told:
            raise RecordError(f"{path}: it is a release without a canary")
        policy = CanaryConfig.model_validate(told["config"])
        phases = {phase["name"]: _recorded(phase) for phase in told["phases"]}
        return str(result["image"]), policy, phases
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RecordError(f"{path}: canary.config.{place}: {first['msg']}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{path}: it is no result of a canary: {error!r}") from error


def _recorded(phase: Mapping[str, Any]) -> Recorded:
    return Recorded(Verdict(phase["verdict"]), str(phase["reason"]), bool(phase["findings"]))


def _looks(path: Path) -> tuple[dict[str, list[Look]], list[str]]:
    """Return the looks by phase, and what has to be said about the file."""
    looks: dict[str, list[Look]] = defaultdict(list)
    if not path.exists():
        return looks, [f"there is no {LOOKS}: no weight was watched"]
    count = 0
    try:
        for look in read_looks(path):
            looks[look.phase].append(look)
            count += 1
        body = path.read_bytes()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecordError(f"{path}:{line} is no text") from error
    except ValueError as error:
        raise RecordError(str(error)) from error
    lines = [number for number, line in enumerate(body.split(b"\n"), 1) if line]
    if len(lines) > count:
        if count == 0:
            raise RecordError(f"{path}:{lines[0]} is no look of a canary")
        return looks, [f"{path}:{lines[-1]} is cut; it is left out"]
    return looks, []
