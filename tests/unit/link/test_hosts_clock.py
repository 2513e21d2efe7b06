"""The engine's clock and the host's, with answers that take their time."""

from __future__ import annotations

import time

import pytest
from coved.link import clock as module
from coved.link.clock import HostsClock

MS = 1_000_000
NOW = 1_700_000_000 * 1000 * MS


class Machine:
    """Its clocks, in nanoseconds; the host is right."""

    CLOCK_REALTIME = time.CLOCK_REALTIME

    def __init__(self) -> None:
        self.ran = 0
        self.behind = 0
        self.settings = 0

    def monotonic_ns(self) -> int:
        return 5_000 * MS + self.ran

    def time_ns(self) -> int:
        return NOW + self.ran - self.behind

    def clock_settime_ns(self, clock: int, value: int) -> None:
        assert clock == self.CLOCK_REALTIME
        self.behind = NOW + self.ran - value
        self.settings += 1

    @property
    def hosts_time(self) -> int:
        return NOW + self.ran


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(module, "time", made)
    return made


def said_at(machine: Machine, there_ms: int, back_ms: int) -> int:
    """What the host answers to a question that takes so long to it, when its answer has come."""
    machine.ran += there_ms * MS
    said = machine.hosts_time
    machine.ran += back_ms * MS
    return said


@pytest.mark.parametrize("late_ms", [0, 300, 900, 5000])
@pytest.mark.parametrize("behind_ms", [0, 40, -40])
def test_a_right_clock_stays_as_it_is_however_late_the_host_is_heard(
    machine: Machine, late_ms: int, behind_ms: int
) -> None:
    asked: list[int] = []
    clock = HostsClock(asked.append)
    machine.behind = behind_ms * MS
    said = machine.hosts_time
    machine.ran += late_ms * MS
    clock.greeted(said, answers=True)
    assert asked == [1]
    clock.answered(1, said_at(machine, 5, 30))
    assert (machine.settings, asked) == (0, [1])


@pytest.mark.parametrize("behind_ms", [80, -200, 3_600_000, -86_400_000])
def test_a_wrong_one_is_set_to_half_of_what_the_answer_took(machine: Machine, behind_ms: int) -> None:
    asked: list[int] = []
    clock = HostsClock(asked.append)
    clock.greeted(machine.hosts_time, answers=True)
    clock.answered(1, said_at(machine, 1, 1))
    machine.behind = behind_ms * MS
    said = machine.hosts_time
    machine.ran += 300 * MS
    clock.told(said)
    if behind_ms > 1500:
        assert abs(machine.behind) <= 300 * MS  # at once, as well as it is known by then
    else:
        assert machine.behind == behind_ms * MS
    clock.answered(2, said_at(machine, 20, 4))
    assert abs(machine.behind) <= 12 * MS


def test_an_answer_that_took_long_is_asked_for_again_but_not_for_ever(machine: Machine) -> None:
    asked: list[int] = []
    clock = HostsClock(asked.append)
    machine.behind = 500 * MS
    clock.greeted(machine.hosts_time, answers=True)
    clock.answered(1, said_at(machine, 2000, 0))
    assert machine.settings == 0  # it may be right, for all that is known
    clock.answered(1, machine.hosts_time)  # to a question that has been answered
    clock.answered(2, said_at(machine, 10, 10))
    assert machine.behind == 0
    clock.told(machine.hosts_time)
    for _ in range(9):
        clock.answered(asked[-1], said_at(machine, 2000, 2000))
    assert len(asked) == 2 + module.ASKED
    assert machine.settings == 1


def test_of_a_host_that_cannot_be_asked_the_word_is_taken(machine: Machine) -> None:
    clock = HostsClock(lambda number: pytest.fail("it does not know that question"))
    machine.behind = 40 * MS
    clock.greeted(machine.hosts_time, answers=False)
    assert machine.settings == 0
    machine.behind = 60 * MS
    clock.told(machine.hosts_time)
    assert (machine.settings, machine.behind) == (1, 0)
