"""Finds interrupted releases, and plugs together what ends them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmdeploy.assembly.canaries import routed_fleet
from pytest_llmdeploy.assembly.fleets import blue_green_config, fleet_folder, make_fleet
from pytest_llmdeploy.assembly.release_parts import holder, release_checks
from pytest_llmdeploy.assembly.releases import RECORDS
from pytest_llmdeploy.config.loader import load_config
from pytest_llmdeploy.errors import LLMDeployError, LockedError, PlatformError
from pytest_llmdeploy.liveness import is_alive, process_lives, wait_until_gone
from pytest_llmdeploy.release.journal import (
    END,
    Journal,
    Situation,
    append_durably,
    read_entries,
    situation,
)
from pytest_llmdeploy.release.recovery import Recovery
from pytest_llmdeploy.release.routed import ROUTE
from pytest_llmdeploy.release.run import JOURNAL, PULSE
from pytest_llmdeploy.reports.audit import AUDIT, append
from pytest_llmdeploy.run import OUTPUT_ROOT, Run, new_run_id

if TYPE_CHECKING:
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.ports import Fleet

GONE = "gone with its fleet"
"""State in which the journal of a release ends of which nothing is left."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A release that was neither finished nor undone, by its journal in a run's folder."""

    journal: Path
    situation: Situation

    @property
    def config(self) -> Path:
        """The file that described it."""
        return Path(self.situation.release["origin"]["config"])

    @property
    def environment(self) -> str:
        """The environment that it changed."""
        return str(self.situation.release["environment"])

    @property
    def output(self) -> Path:
        """The folder of its run."""
        return Path(self.situation.release["origin"]["output"])


def interrupted_in(output: Path) -> Iterator[Interrupted]:
    """Yield the interrupted releases of a run's folder; none whose process is still at work.

    Raises PlatformError for a journal that cannot be read.
    """
    for path in _journals(output):
        if (found := _interrupted(path)) is not None:
            yield found


def _journals(output: Path) -> list[Path]:
    return _in_records(output, JOURNAL)


def _in_records(output: Path, name: str) -> list[Path]:
    return sorted(
        path for stage in RECORDS for path in (output / "records" / stage).glob(f"*/{name}")
    )


def _interrupted(journal: Path) -> Interrupted | None:
    if is_alive(journal.with_name(PULSE)):
        return None
    try:
        found = situation(read_entries(journal))
    except ValueError as error:
        raise PlatformError(f"what a release has done cannot be told: {error}") from error
    return None if found is None or not found.is_open else Interrupted(journal, found)


def newest_interrupted(loaded: LoadedConfig, output: Path | None) -> Interrupted | None:
    """Return the environment's interrupted release; None where there is none.

    It is looked for in the folder `output`, or else in the folders of the file's runs, the newest
    first. On Kubernetes the journal in the cluster decides, for a release that began here, or was
    held here, may have been ended elsewhere, and what came after it must not be undone. Raises
    PlatformError for a journal that cannot be read, and where another release than that of
    `output` is open.
    """
    if loaded.environment.platform == "kubernetes":
        return _in_cluster(loaded, output)
    return next(_here(loaded, output), None)


def _here(loaded: LoadedConfig, output: Path | None) -> Iterator[Interrupted]:
    for folder in [output] if output is not None else _run_folders(loaded):
        for found in interrupted_in(folder.absolute()):
            ours = output is not None or found.config.resolve() == loaded.path.resolve()
            if ours and found.environment == loaded.environment_name:
                yield found


def _run_folders(loaded: LoadedConfig) -> list[Path]:
    """Return the output folders of runs, the newest first.

    They lie below pytest's root, which is the file's own folder, or one of those above it.
    """
    roots = dict.fromkeys([loaded.root.absolute(), *loaded.root.absolute().parents, Path.cwd()])
    folders = [folder for root in roots for folder in (root / OUTPUT_ROOT).glob("*")]
    return sorted(folders, key=lambda folder: folder.name, reverse=True)


def _in_cluster(loaded: LoadedConfig, wanted: Path | None) -> Interrupted | None:
    output = loaded.root / OUTPUT_ROOT / new_run_id()
    fleet = make_fleet(loaded, output, os.getpid(), output.name)
    try:
        entries = fleet.journal.read()
    finally:
        fleet.close()
    found = situation(entries)
    here = _here(loaded, wanted)
    if found is None:  # somebody has deleted it
        return next(here, None)
    if not found.is_open:
        return None
    run = found.release["run"]
    same = (each for each in here if each.situation.release["run"] == run)
    if (mine := next(same, None)) is not None:
        return Interrupted(mine.journal, found)
    if wanted is not None:
        raise PlatformError(
            f"{found.in_words()} (run {run}), and {wanted} holds no open release of that run: to "
            "end it, leave --run out"
        )
    stage = found.release.get("stage", RECORDS[0])
    journal = output / "records" / stage / "from-another-machine" / JOURNAL
    journal.parent.mkdir(parents=True)
    for entry in entries:
        append_durably(journal, entry)
    return Interrupted(journal, found)


def recovery(found: Interrupted, loaded: LoadedConfig) -> Recovery:
    """Return what ends the release, once its lock is held."""
    release = found.situation.release
    fleet: Fleet
    fleet = platform = make_fleet(loaded, found.output, os.getpid(), str(release["run"]))
    if ROUTE in release["snapshot"]:
        fleet = routed_fleet(loaded, platform)
    return Recovery(
        situation=found.situation,
        fleet=fleet,
        config=blue_green_config(loaded),
        checks=release_checks(loaded),
        journal=Journal(found.journal, fleet.journal),
    )


def has_gone(found: Interrupted, loaded: LoadedConfig) -> bool:
    """Return whether what the release changed has ended: a fleet of this machine does with time."""
    if loaded.environment.platform != "local":
        return False
    from pytest_llmdeploy.platforms.local_fleet.launching import list_fleets

    folder = fleet_folder(found.output)
    return not (folder.is_dir() and list_fleets(folder))


def note_gone(found: Interrupted) -> None:
    """Close the journal of such a release."""
    append_durably(found.journal, {"time": time.time(), "kind": END, "state": GONE})


def audit(found: Interrupted, event: str, detail: Mapping[str, Any]) -> None:
    """Note in the audit trail of the release's run what is done about it now, and by whom.

    Raises PlatformError where the trail cannot be written.
    """
    release = found.situation.release
    entry = {
        "event": event,
        "who": holder(),
        **{key: release[key] for key in ("service", "environment", "image")},
        "detail": dict(detail),
    }
    try:
        append(found.journal.parents[3] / AUDIT, entry)
    except OSError as error:
        raise PlatformError(f"the audit trail cannot be written: {error}") from error


def take_lock(fleet: Fleet, *, take_over: bool = False) -> None:
    """Hold the fleet's lock; raise LockedError where whoever has it may be at work.

    A holder that is known to be dead, or has not shown itself for long, loses it.
    """
    me = holder()
    try:
        fleet.lock.acquire(me)
    except LockedError as error:
        if error.alive and not take_over and not _is_dead(error.holder):
            raise
        fleet.lock.steal(me)


def await_workers(run: Run) -> list[str]:
    """Have workers end the releases that they perform, and wait; return what became of those."""
    said = []
    for pulse in _in_records(run.output, PULSE):
        if not is_alive(pulse):
            continue
        run.announce_end()
        wait_until_gone(pulse)
        with suppress(OSError, ValueError):  # it has changed nothing; told by what comes next
            found = situation(read_entries(pulse.with_name(JOURNAL)))
            if found is not None and not found.is_open:
                said.append(f"interrupted with its worker: {found.in_words()}")
    return said


def finish_interrupted(output: Path) -> list[str]:
    """Undo what processes of this run left half done; return a line for each such release."""
    said = []
    for journal in _journals(output):
        try:
            found = _interrupted(journal)
        except (PlatformError, OSError) as error:
            said.append(str(error))
            continue
        if found is None or found.situation.held is not None:
            continue  # a held release waits for a person, on purpose
        what = found.situation.in_words()
        try:
            loaded = load_config(found.config, found.environment)
            if has_gone(found, loaded):
                note_gone(found)
                said.append(f"{what}; its fleet has ended, and nothing of it is left")
                continue
            ended = recovery(found, loaded)
            take_lock(ended.fleet)
            report = ended.undo()
            if report.succeeded:
                ended.fleet.lock.release()
            ended.fleet.close()
        except (LLMDeployError, OSError, ValueError) as error:
            said.append(
                f"{what}, and could not be undone: {error}; "
                f"run `llmdeploy rollback --env {found.environment}`"
            )
            continue
        if report.succeeded:
            said.append(f"{what}; it was rolled back: {report.reason}")
        else:
            lines = [f"{what}; ROLLBACK FAILED: {report.reason}; run:", *report.commands]
            said.append("\n  ".join(lines))
    return said


def _is_dead(name: str) -> bool:
    """Return whether ``user@host:pid`` was a process of this machine, and is one no more."""
    who, _, pid = name.rpartition(":")
    if who.rpartition("@")[2] != socket.gethostname() or not pid.isdigit():
        return False
    return not process_lives(int(pid))
