"""Stats from the files of a cgroup with all controllers, and the one sampler that followers share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coved.containers import cgroup_stats, stats
from coved.containers.stats import Frame, Stats

FILES = {
    "cpu.stat": "usage_usec 29912\nuser_usec 7918\nsystem_usec 21994\nnr_periods 4\nnr_throttled 3\nthrottled_usec 12\n",
    "memory.current": "9437184\n",
    "memory.max": "33554432\n",
    "memory.stat": "anon 1572864\nfile 7626752\ninactive_file 2510848\npgfault 2042\nzswapped 5\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n",
    "pids.current": "5\n",
    "pids.max": "max\n",
    "io.stat": "254:0 rbytes=7593984 wbytes=100 rios=1 wios=2 dbytes=0 dios=0\n8:16 rios=1\nnonsense\n\n",
}


@pytest.fixture
def cgroup(tmp_path: Path) -> str:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return str(tmp_path)


def test_processor_time_is_in_nanoseconds(cgroup: str) -> None:
    assert cgroup_stats.cpu(cgroup) == {
        "cpu_usage": {"total_usage": 29912000, "usage_in_kernelmode": 21994000, "usage_in_usermode": 7918000},
        "throttling_data": {"periods": 4, "throttled_periods": 3, "throttled_time": 12000},
    }


def test_memory_has_dockers_fields_and_no_others(cgroup: str) -> None:
    memory = cgroup_stats.memory(cgroup, 1 << 30)
    counted = memory.pop("stats")
    assert memory == {"usage": 9437184, "limit": 33554432, "failcnt": 2}
    assert (counted["inactive_file"], counted["pgfault"], counted["slab"]) == (2510848, 2042, 0)
    assert len(counted) == 31
    assert "zswapped" not in counted


@pytest.mark.parametrize(("limit", "told"), [("max", 1 << 30), (str(1 << 40), 1 << 30), ("4096", 4096)])
def test_the_machines_memory_is_the_limit_of_those_that_have_none(cgroup: str, limit: str, told: int) -> None:
    Path(cgroup, "memory.max").write_text(f"{limit}\n")
    assert cgroup_stats.memory(cgroup, 1 << 30)["limit"] == told


def test_processes_without_limit_have_dockers_number_for_it(cgroup: str) -> None:
    assert cgroup_stats.processes(cgroup) == {"current": 5, "limit": 2**64 - 1}
    Path(cgroup, "pids.max").write_text("64\n")
    assert cgroup_stats.processes(cgroup)["limit"] == 64


def test_devices_have_what_was_read_and_written(cgroup: str) -> None:
    told = cgroup_stats.block_io(cgroup)
    assert told.pop("io_service_bytes_recursive") == [
        {"major": 254, "minor": 0, "op": "read", "value": 7593984},
        {"major": 254, "minor": 0, "op": "write", "value": 100},
        {"major": 8, "minor": 16, "op": "read", "value": 0},
        {"major": 8, "minor": 16, "op": "write", "value": 0},
    ]
    assert set(told.values()) == {None}
    assert len(told) == 7


def test_what_no_controller_counts_is_left_out(tmp_path: Path) -> None:
    assert cgroup_stats.memory(str(tmp_path), 1 << 30) == {}
    assert cgroup_stats.processes(str(tmp_path)) == {}
    assert cgroup_stats.block_io(str(tmp_path))["io_service_bytes_recursive"] is None
    assert cgroup_stats.cpu(str(tmp_path))["cpu_usage"]["total_usage"] == 0


def container(cgroup: str) -> Any:
    return SimpleNamespace(
        id="a" * 64,
        name="web",
        shim=SimpleNamespace(cgroup=cgroup, pid=1),
        state=SimpleNamespace(running=True),
        removal_waiters=set(),
    )


class Registry(list[Any]):
    """Of the registry, what the sampler asks."""


def made(*containers: Any, interfaces: tuple[str, ...] = ()) -> Stats:
    registry: Any = Registry(containers)
    networks: Any = SimpleNamespace(sandboxes=SimpleNamespace(interfaces=lambda id: interfaces))
    return Stats(registry, networks)


def test_followers_share_the_sampler_and_its_frames(cgroup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "INTERVAL_S", 0.02)
    measured = 0
    measure = Stats._measure

    def counted(self: Stats, one: Any) -> Any:
        nonlocal measured
        measured += 1
        return measure(self, one)

    monkeypatch.setattr(Stats, "_measure", counted)

    async def main() -> None:
        web = container(cgroup)
        source = made(web)

        async def three() -> list[Frame]:
            frames = source.follow(web)
            taken = [await anext(frames) for _ in range(3)]
            await frames.aclose()
            return taken

        async with asyncio.timeout(20):
            everything = await asyncio.gather(*(three() for _ in range(100)))
        assert source.watched == 0
        assert measured <= 4
        for frames in everything:
            before, after = frames[1].values, frames[2].values
            assert after["preread"] == before["read"]
            assert after["precpu_stats"] == before["cpu_stats"]
        assert len({id(frames[2]) for frames in everything}) <= 2

    asyncio.run(main())


def test_who_comes_later_has_a_frame_at_once_that_stands_alone(cgroup: str) -> None:
    async def main() -> None:
        web = container(cgroup)
        source = made(web)
        first, second = source.follow(web), source.follow(web)
        await anext(first)
        async with asyncio.timeout(30):
            late = await anext(second)
        assert late.values["preread"] == "0001-01-01T00:00:00Z"
        assert late.values["read"] > "2"
        assert late.values["precpu_stats"]["cpu_usage"]["total_usage"] == 0
        assert "system_cpu_usage" not in late.values["precpu_stats"]
        await first.aclose()
        assert source.watched == 1
        await second.aclose()
        assert source.watched == 0

    asyncio.run(main())


def test_removal_ends_all_streams_at_once(cgroup: str) -> None:
    async def main() -> None:
        web = container(cgroup)
        source = made(web)

        async def all_frames() -> int:
            return len([frame async for frame in source.follow(web)])

        followers = [asyncio.ensure_future(all_frames()) for _ in range(3)]
        slow = source.follow(web)
        await anext(slow)
        source._registry.remove(web)  # type: ignore[attr-defined]
        for waiter in web.removal_waiters:
            waiter.set_result(None)
        async with asyncio.timeout(30):
            assert await asyncio.gather(*followers) == [1, 1, 1]
            assert [frame async for frame in slow] == []
            assert [frame async for frame in source.follow(web)] == []
        assert source.watched == 0
        assert web.removal_waiters == set()

    asyncio.run(main())


def test_a_container_that_does_not_run_uses_nothing(cgroup: str) -> None:
    web = container(cgroup)
    web.state.running = False
    told = made(web).once(web).values
    assert (told["name"], told["id"], told["read"]) == ("/web", web.id, "0001-01-01T00:00:00Z")
    assert (told["memory_stats"], told["pids_stats"]) == ({}, {})
    assert "networks" not in told
    assert "online_cpus" not in told["cpu_stats"]


@pytest.mark.parametrize("missing", [OSError(), {}])
def test_what_cannot_be_counted_for_a_moment_is_no_traffic(
    cgroup: str, monkeypatch: pytest.MonkeyPatch, missing: Any
) -> None:
    """Or all that it has ever carried would be that of two seconds."""
    many = 1 << 40
    counts = iter([many, missing, many, many + 1])

    def counted(pid: int, interfaces: Any) -> Any:
        count = next(counts)
        if isinstance(count, OSError):
            raise count
        return count and {"eth0": {"rx_bytes": count, "tx_bytes": count}}

    monkeypatch.setattr(stats, "TRAFFIC_S", 0)
    monkeypatch.setattr(stats, "_traffic", counted)
    monkeypatch.setattr(stats.os, "readlink", lambda path: "net:[1]")

    async def main() -> None:
        told = made(container(cgroup), interfaces=("eth0",)).traffic()
        carried = [(await anext(told))["received"] for _ in range(3)]
        assert carried[:2] == [0, 0]
        assert carried[2] > 0
        await told.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_a_container_that_runs_no_more_is_not_counted(cgroup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may have its namespace's number by then."""
    monkeypatch.setattr(stats, "_traffic", lambda pid, interfaces: {"eth0": {"rx_bytes": 5, "tx_bytes": 5}})
    web = container(cgroup)
    source = made(web, interfaces=("eth0",))
    monkeypatch.setattr(stats.os, "readlink", lambda path: "net:[1]")
    before = source._carried({})
    assert [*before.values()] == [("net:[1]", (5, 5))]
    web.state.running = False
    assert source._carried(before) == {}
