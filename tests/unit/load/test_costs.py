"""The use of a core is that of the busiest stretch, not of the whole run."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.load.costs import CPU_INTERVAL, Cpu, memory_mb, open_files


class Machine:
    """Two clocks: the wall's, and of what the process used."""

    def __init__(self) -> None:
        self.wall = self.used = 0.0
        self.cpu = Cpu(lambda: self.wall, lambda: self.used)

    def run(self, seconds: float, share: float) -> None:
        """Let time pass, with looks as often as the generator has them."""
        for _ in range(round(seconds * 50)):
            self.wall += 0.02
            self.used += 0.02 * share
            self.cpu.look()


def test_the_busiest_stretch_counts() -> None:
    machine = Machine()
    machine.run(20, 0.1)
    machine.run(2 * CPU_INTERVAL, 0.95)
    machine.run(20, 0.1)
    machine.cpu.end()
    assert machine.cpu.share == pytest.approx(0.95, abs=0.02)


def test_a_run_shorter_than_a_stretch_is_one() -> None:
    machine = Machine()
    machine.run(CPU_INTERVAL / 2, 0.5)
    assert machine.cpu.share == pytest.approx(0.5)
    machine.cpu.end()
    machine.run(10, 1.0)
    assert machine.cpu.share == pytest.approx(0.5), "what comes after the end does not count"


def test_what_came_before_the_beginning_does_not_count() -> None:
    machine = Machine()
    machine.run(CPU_INTERVAL / 2, 1.0)
    machine.cpu.begin()
    machine.run(CPU_INTERVAL / 2, 0.2)
    assert machine.cpu.share == pytest.approx(0.2)


def test_a_process_without_work_uses_nothing() -> None:
    cpu = Machine().cpu
    cpu.end()
    assert cpu.share == 0.0


def test_the_system_tells_what_this_process_holds() -> None:
    assert memory_mb() > 1
    assert open_files() > 2
