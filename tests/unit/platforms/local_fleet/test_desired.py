"""The desired state, and its file under several writers."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.local_fleet import files
from pytest_llmdeploy.platforms.local_fleet.desired import (
    Desired,
    DesiredFile,
    HeaderRoute,
    Split,
    Wanted,
)
from tests.unit.platforms.local_fleet.samples import desired, template

HEADER = HeaderRoute("canary", "true", "green")


def test_a_state_survives_its_file(tmp_path: Path) -> None:
    file = DesiredFile(tmp_path / "desired.json")
    assert file.read() is None
    state = desired(
        templates={1: template(), 2: template(error="none", command=())},
        split=Split({"blue": 95, "green": 5}, HEADER),
    )
    file.create(state)
    assert file.read() == state
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600, "variables can hold keys"
    assert [path.name for path in tmp_path.iterdir()] == ["desired.json"]


def test_who_gets_the_traffic() -> None:
    assert desired().weights == {"blue": 100, "green": 0}
    assert desired(selector=None).weights == {"blue": 0, "green": 0}
    split = Split({"blue": 0, "green": 100})
    state = desired(split=split)
    assert state.weights == split.weights
    assert state.settled() is state, "blue is selected, and the split says green"
    assert replace(state, selector="green").settled() == desired(selector="green")
    header = replace(state, selector="green", split=replace(split, header=HEADER))
    assert header.settled() is header


def test_a_change_is_a_new_version_and_none_is_none(tmp_path: Path) -> None:
    file = DesiredFile(tmp_path / "desired.json")
    file.create(desired())
    changed = file.change(lambda state: replace(state, selector="green"))
    assert (changed.version, changed.selector) == (8, "green")
    assert file.read() == changed
    before = file.path.stat().st_ino
    assert file.change(lambda state: state).version == 8
    assert file.path.stat().st_ino == before


def test_of_two_that_expect_the_same_one_meets_a_conflict(tmp_path: Path) -> None:
    file = DesiredFile(tmp_path / "desired.json")
    file.create(desired())

    def switch(new: str) -> str:
        def change(state: Desired) -> Desired:
            if state.selector != "blue":
                raise ConflictError(f"found {state.selector}")
            return replace(state, selector=new)

        try:
            DesiredFile(file.path).change(change)
        except ConflictError as error:
            return str(error)
        return "switched"

    with ThreadPoolExecutor(8) as pool:
        said = sorted(pool.map(switch, ["green"] * 8))
    assert said == ["found green"] * 7 + ["switched"]
    after = file.read()
    assert after is not None
    assert after.version == 8


def test_no_change_of_many_writers_is_lost(tmp_path: Path) -> None:
    file = DesiredFile(tmp_path / "desired.json")
    file.create(desired(owners=()))

    def join(owner: int) -> None:
        DesiredFile(file.path).change(lambda s: replace(s, owners=(*s.owners, owner)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(join, range(40)))
    after = file.read()
    assert after is not None
    assert sorted(after.owners) == list(range(40))
    assert after.version == 47


def test_no_fleet_and_a_lock_that_stays_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = DesiredFile(tmp_path / "desired.json")
    with pytest.raises(PlatformError) as caught:
        file.change(lambda state: state)
    assert str(caught.value) == f"there is no fleet in {tmp_path}"
    lock = tmp_path / "desired.lock"
    with FileLock(lock), pytest.raises(PlatformError) as caught, files.locked(lock, 0.01):
        pass
    assert str(caught.value) == f"another process holds {lock} for more than 0.01 s"


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for size in (10, 100_000, 5):
        files.write_json(path, "x" * size)
        assert json.loads(path.read_text()) == "x" * size
    assert files.read_json(tmp_path / "b.json") is None


def test_generations() -> None:
    state = desired()
    assert state.with_template("blue", template(), 5).colors == {"blue": Wanted(1, 5)}
    green = state.with_template("green", template("llm:2"), 3)
    assert green.colors == {"blue": Wanted(1, 2), "green": Wanted(2, 3)}
    assert green.template("green") == template("llm:2")
    gone = green.with_color("green", None)
    assert gone.template("green") is None
    again = gone.with_template("green", template("llm:2"), 3)
    assert again.colors["green"] == Wanted(3, 3), "a generation is never used twice"
    other = again.with_template("green", template("llm:2", variables={}), 3)
    assert other.colors["green"] == Wanted(4, 3)
