"""Ends, signals, execs, and who outlives whom."""

import asyncio
import json
import os
import select
import signal
import stat
from pathlib import Path

import pytest
from coved.runtime.cgroups import mount_point
from coved.runtime.errors import CreateError, InvalidRequest, NotRunning, ShimGone, SpawnerGone, StartError
from coved.runtime.keeper import start_spawner
from coved.runtime.shim_client import ShimClient
from coved.runtime.spawner_client import SpawnerClient
from coved.runtime.spec import Exit, Stdio

from runtime_support import TIMEOUT_S, Client, Harness, frames, gone, process, with_harness

pytestmark = pytest.mark.root

TRAP = "trap 'exit 7' TERM; echo ready; while :; do sleep 1 & wait; done"


async def ended(shim: ShimClient, process_id: str = "") -> Exit:
    return await asyncio.wait_for(shim.wait(process_id), TIMEOUT_S)


def shim_pid(shim: ShimClient) -> int:
    status = Path(f"/proc/{shim.pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("PPid")).split()[1])


@with_harness
async def test_exit_codes_and_the_record_on_disk(made: Harness) -> None:
    for script, code in (("exit 0", 0), ("exit 1", 1), ("exit 255", 255)):
        shim = await made.create(process("sh", "-c", script))
        await shim.start()
        told = await ended(shim)
        assert told.code == code and not told.oom_killed
        record = json.loads((made.folder / f"{shim.container_id}.exit").read_text())
        assert record == {"code": code, "oom_killed": False, "exited_at": told.exited_at_ns}
        await shim.delete()


@with_harness
async def test_signals(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", TRAP))
    client = await made.attach(shim)
    await shim.start()
    await client.read_until(b"ready")
    await shim.kill(signal.SIGTERM)
    assert (await ended(shim)).code == 7
    with pytest.raises(NotRunning):
        await shim.kill(signal.SIGTERM)
    for everyone in (False, True):
        other = await made.create(process("sleep", "60"))
        await other.start()
        await other.kill(signal.SIGKILL, all=everyone)
        assert (await ended(other)).code == 137


@with_harness
async def test_a_signal_ends_an_exec_with_128_and_its_number(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    await shim.exec("one", process("sleep", "60"), stdio=Stdio())
    await shim.kill(signal.SIGTERM, process_id="one")
    assert (await ended(shim, "one")).code == 143
    assert "" not in shim.exits


@with_harness
async def test_exec_is_in_all_namespaces_and_the_cgroup_with_its_own_stdio(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    client = Client()
    script = (
        "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; hostname; cat; echo oops >&2; exit 5"
    )
    pid = await shim.exec(
        "e1",
        process("sh", "-c", script, user={"uid": 1000, "gid": 1001}),
        stdio=Stdio(open_stdin=True),
        attach=[client.attachment(stdin=True, pending=b"typed ")],
    )
    client.handed_over()
    assert f"cove-test/{shim.container_id}" in Path(f"/proc/{pid}/cgroup").read_text()
    await client.send(b"more")
    client.half_close()
    streams = frames(await client.read_all())
    names = [os.readlink(f"/proc/{shim.pid}/ns/{kind}") for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup")]
    assert streams[1].decode() == "\n".join([*names, "testhost", "typed more"])
    assert streams[2] == b"oops\n"
    assert (await ended(shim, "e1")).code == 5


@with_harness
async def test_exec_on_a_terminal(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    client = Client()
    await shim.exec(
        "t",
        process("sh", "-c", "tty; stty size; read x; exit 3", terminal=True),
        stdio=Stdio(terminal=True, open_stdin=True, height=20, width=60),
        attach=[client.attachment(stdin=True, raw=True)],
    )
    client.handed_over()
    assert (await client.read_until(b"20 60")).startswith(b"/dev/pts/0")
    await client.send(b"\n")
    assert (await ended(shim, "t")).code == 3


@with_harness
async def test_exec_that_cannot_be_executed(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    with pytest.raises(StartError, match=r"^OCI runtime exec failed: .*executable file not found in \$PATH") as caught:
        await shim.exec("x", process("nowhere"), stdio=Stdio())
    assert caught.value.exit_code == 127
    # Its id is free again, and another one in use is refused.
    await shim.exec("x", process("sleep", "60"), stdio=Stdio())
    with pytest.raises(InvalidRequest):
        await shim.exec("x", process("sleep", "60"), stdio=Stdio())


@with_harness
async def test_execs_end_with_init(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    seen: list[tuple[str, int]] = []
    shim.on_exit(lambda process_id, exit_: seen.append((process_id, exit_.code)))
    await shim.exec("e", process("sleep", "60"), stdio=Stdio())
    await shim.kill(signal.SIGKILL)
    await ended(shim)
    await ended(shim, "e")
    assert sorted(seen) == [("", 137), ("e", 137)]
    with pytest.raises(NotRunning):
        await shim.exec("f", process("true"), stdio=Stdio())


@with_harness
async def test_a_background_child_of_an_exec_does_not_hold_up_its_end(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    client = Client()
    await shim.exec("e", process("sh", "-c", "sleep 50 & echo gone"), stdio=Stdio(), attach=[client.attachment()])
    client.handed_over()
    assert frames(await client.read_all())[1] == b"gone\n"
    assert (await asyncio.wait_for(shim.wait("e"), 60)).code == 0


@with_harness
async def test_pause_and_resume(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    await shim.pause()
    events = Path(mount_point(), "cove-test", shim.container_id, "cgroup.events")
    assert "frozen 1" in events.read_text()
    await shim.resume()
    assert "frozen 0" in events.read_text()


@with_harness
async def test_delete_kills_and_leaves_nothing(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", "sleep 60 & sleep 60 & wait"))
    await shim.start()
    await shim.exec("e", process("sleep", "60"), stdio=Stdio(terminal=False))
    parent = shim_pid(shim)
    cgroup = Path(mount_point(), "cove-test", shim.container_id)
    assert cgroup.is_dir()
    folder = made.shims / shim.container_id
    assert stat.S_IMODE((folder / "shim.sock").stat().st_mode) == 0o600
    await asyncio.wait_for(shim.delete(), 10)
    assert not cgroup.exists()
    assert not folder.exists()
    await gone(parent)


@with_harness
async def test_containers_outlive_spawner_and_engine(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", TRAP), stdio=Stdio(open_stdin=True))
    client = await made.attach(shim)
    await shim.start()
    await client.read_until(b"ready")
    await shim.exec("e", process("sh", "-c", "sleep 60"), stdio=Stdio())
    made.spawner.kill()
    made.spawner.wait(10)
    shim.close()  # the engine is gone as well
    with pytest.raises(SpawnerGone, match="does not answer"):
        await made.create(process("true"))

    engine = SpawnerClient(made.socket, made.shims)
    found = await engine.reconnect(shim.container_id)
    assert found is not None
    assert (found.pid, found.started, list(found.execs), found.exits) == (shim.pid, True, ["e"], {})
    made.made[shim.container_id] = found
    await found.kill(signal.SIGTERM)
    assert (await ended(found)).code == 7
    assert (await ended(found, "e")).code == 137
    # The attached client never noticed.
    assert await client.read_all() == b""

    made.spawner = start_spawner(made.socket, made.shims)
    assert (await made.run(process("true")))[0] == 0


@with_harness
async def test_an_end_without_an_engine_is_kept(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", "read x; exit 9"), stdio=Stdio(open_stdin=True, stdin_once=True))
    client = await made.attach(shim, stdin=True)
    await shim.start()
    shim.close()
    await client.send(b"\n")
    assert await client.read_all() == b""
    found = await made.client.reconnect(shim.container_id)
    assert found is not None
    assert (await ended(found)).code == 9
    assert json.loads((made.folder / f"{shim.container_id}.exit").read_text())["code"] == 9
    made.made[shim.container_id] = found


@with_harness
async def test_a_killed_shim_takes_its_container_along_and_is_told_at_once(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    waiting = asyncio.create_task(shim.wait())
    init = shim.pid
    os.kill(shim_pid(shim), signal.SIGKILL)
    with pytest.raises(ShimGone):
        await asyncio.wait_for(waiting, 60)
    with pytest.raises(ShimGone):
        await shim.kill(signal.SIGTERM)
    await gone(init)
    assert await made.client.reconnect(shim.container_id) is None
    assert not (made.shims / shim.container_id).exists()
    assert not Path(mount_point(), "cove-test", shim.container_id).exists()


@with_harness
async def test_a_shim_that_does_not_answer_is_ended(made: Harness) -> None:
    for way in ("clear", "reconnect"):
        shim = await made.create(process("sleep", "60"))
        await shim.start()
        init, its_own = shim.pid, os.pidfd_open(shim_pid(shim))
        signal.pidfd_send_signal(its_own, signal.SIGSTOP)
        if way == "clear":
            await made.client.clear(shim.container_id)
        else:
            assert await made.client.reconnect(shim.container_id, 0.5) is None
        with pytest.raises(ShimGone):
            await asyncio.wait_for(shim.wait(), 60)
        await gone(init)
        assert select.select([its_own], [], [], 0)[0]  # it has ended
        os.close(its_own)
        assert not (made.shims / shim.container_id).exists()
        assert not Path(mount_point(), "cove-test", shim.container_id).exists()


@with_harness
async def test_what_a_stopped_container_has_left_is_cleared(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    init = shim.pid
    shim.close()
    await made.client.clear(shim.container_id)
    await gone(init)
    assert not (made.shims / shim.container_id).exists()
    await made.client.clear(shim.container_id)  # there is nothing


@with_harness
async def test_requests_that_cannot_be_right(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    with pytest.raises(CreateError, match="has a shim already"):
        await made.create(process("true"), container_id=shim.container_id)
    made.made[shim.container_id] = shim
    with pytest.raises(NotRunning):
        await shim.exec("e", process("true"), stdio=Stdio())
    await shim.start()
    with pytest.raises(InvalidRequest):
        await shim.start()
    with pytest.raises(CreateError):
        await made.create(process("true"), seccomp={"defaultAction": "SCMP_ACT_NONSENSE"})
    with pytest.raises(CreateError):
        await made.create(process("true"), container_id="../escape")
    # Nonsense on the control socket ends that connection and nothing else.
    reader, writer = await asyncio.open_unix_connection(made.shims / shim.container_id / "shim.sock")
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert b'"event":"state"' in await asyncio.wait_for(reader.read(), 60)
    writer.close()
    await shim.kill(signal.SIGKILL)
    assert (await ended(shim)).code == 137


@with_harness
async def test_many_containers_at_once(made: Harness) -> None:
    async def one(number: int) -> int:
        return (await made.run(process("sh", "-c", f"exit {number}")))[0]

    assert await asyncio.gather(*(one(number) for number in range(40))) == list(range(40))
    assert list(made.shims.iterdir()) == []


def test_a_spawner_that_cannot_listen_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpawnerGone):
        start_spawner(tmp_path / "file" / "sock", tmp_path / "shims")


@with_harness
async def test_memory_of_a_shim(made: Harness) -> None:
    shims = [await made.create(process("sleep", "60")) for _ in range(8)]
    for shim in shims:
        await shim.start()
    sizes = []
    for shim in shims:
        rollup = Path(f"/proc/{shim_pid(shim)}/smaps_rollup").read_text()
        sizes.append(int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]))
    assert max(sizes) < 6 * 1024, f"KiB: {sizes}"
    print(f"PSS of {len(sizes)} shims: {sizes} KiB")
