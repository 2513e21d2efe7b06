"""Commands of a build: what they see, what they print, how they fail, and what they leave."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coved.build.errors import BuildError
from coved.build.orders import RunOrder
from coved.build.request import Limits
from coved.containers.capabilities import DEFAULT
from coved.errors import EngineError
from coved.networks import SandboxRequest
from coved.runtime.capabilities import NAMES

from build_support import NOTHING, PATH, Parts, Session, cgroups, processes, session, until


@pytest.fixture(scope="module")
def shared() -> Iterator[Session]:
    with session() as made:
        yield made


@pytest.fixture
def own() -> Iterator[Session]:
    """For tests that kill the engine."""
    with session() as made:
        yield made


async def failure(parts: Parts, *command: str, **order: Any) -> BuildError:
    with pytest.raises(BuildError) as caught:
        await parts.run(*command, **order)
    return caught.value


def test_a_command_sees_what_builds_commands_see(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        told, _, ref = await parts.run(
            "hostname; id -u; pwd; env | sort; echo; cat /etc/hosts; grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs):' "
            "/proc/self/status; echo pid $$; readlink /proc/self/fd/0; cat /proc/mounts; ls -d /etc/*"
        )
        lines = told.splitlines()
        assert lines[:8] == ["buildkitsandbox", "0", "/", "HOME=/root", PATH, "PWD=/", "SHLVL=1", ""]
        mask = sum(1 << NAMES.index(name) for name in DEFAULT)
        for line in (
            "127.0.0.1\tlocalhost buildkitsandbox", f"CapEff:\t{mask:016x}", f"CapBnd:\t{mask:016x}", "Seccomp:\t2",
            "NoNewPrivs:\t0", "pid 1", "/dev/null",
        ):  # fmt: skip
            assert line in lines
        mounts = {line.split()[1]: line.split()[3].split(",") for line in lines if line.count(" ") == 5}
        assert "ro" in mounts["/etc/resolv.conf"] and "ro" in mounts["/etc/hosts"] and "rw" in mounts["/"]
        assert "/etc/hostname" not in mounts
        assert {"/proc/sys", "/proc/bus"} <= {*mounts}
        assert ref == ""

    shared.run(work)


def test_output_keeps_its_order_and_streams(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        seen: list[tuple[int, bytes]] = []
        order = RunOrder(
            parts.base, ["sh", "-c", "for i in 1 2 3; do echo out $i; usleep 20000; echo err $i >&2; usleep 20000; done"], [PATH]
        )  # fmt: skip
        async with parts.snapshots.draft() as draft:
            await parts.executor.run(order, draft, lambda stream, data: seen.append((stream, data)))
        assert seen == [
            (stream, b"%s %d\n" % (name, n)) for n in (1, 2, 3) for stream, name in ((1, b"out"), (2, b"err"))
        ]

    shared.run(work)


def test_output_of_any_size_neither_stalls_nor_grows_the_engine(shared: Session) -> None:
    megabytes = 200

    async def work(parts: Parts) -> None:
        size, most = 0, 0

        def take(_: int, data: bytes) -> None:
            nonlocal size, most
            size, most = size + len(data), max(most, len(data))

        before = memory_kib()
        order = RunOrder(parts.base, ["dd", "if=/dev/zero", "bs=1M", f"count={megabytes}"], [PATH])
        async with parts.snapshots.draft() as draft:
            async with asyncio.timeout(40):
                await parts.executor.run(order, draft, take)
        assert size >= megabytes << 20
        assert memory_kib() - before < 8 << 10

    shared.run(work)


def memory_kib() -> int:
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")))


def test_a_command_that_nobody_listens_to_waits(shared: Session) -> None:
    """Its output is not kept anywhere: it goes on when it is taken."""

    async def work(parts: Parts) -> None:
        loop = asyncio.get_running_loop()
        written: list[int] = []

        def take(stream: int, data: bytes) -> None:
            if not written:
                time.sleep(0.5)  # the loop does nothing else meanwhile
            written.append(len(data))

        order = RunOrder(parts.base, ["dd", "if=/dev/zero", "bs=1M", "count=20"], [PATH])
        began = loop.time()
        async with parts.snapshots.draft() as draft:
            await parts.executor.run(order, draft, take)
        assert loop.time() - began >= 0.5
        assert sum(written) >= 20 << 20

    shared.run(work)


@pytest.mark.parametrize(
    ("command", "order", "reason", "said"),
    [
        (("exit 3",), {}, "exit code: 3", ""),
        (("kill -9 $(sh -c 'echo $PPID') ; exit 7",), {}, "exit code: 7", ""),
        (("nope",), {"exec": True}, "exit code: 1", 'exec: "nope": executable file not found in $PATH'),
        (
            ("/bin/nope", "a b", "c"), {}, "exit code: 1", 'exec: "/bin/nope": stat /bin/nope: no such file or directory',
        ),
        (("/etc/passwd", "x"), {}, "exit code: 1", 'exec: "/etc/passwd": permission denied'),
        (("true",), {"user": "nosuch"}, "unable to find user nosuch: no matching entries in passwd file", ""),
        (("true",), {"user": "1:nosuch"}, "unable to find group nosuch: no matching entries in group file", ""),
    ],
)  # fmt: skip
def test_a_command_fails_in_buildkits_words(
    shared: Session, command: tuple[str, ...], order: dict[str, Any], reason: str, said: str
) -> None:
    async def work(parts: Parts) -> None:
        printed: list[tuple[int, bytes]] = []
        shell = len(command) == 1 and not order.get("exec")
        args = ["/bin/sh", "-c", *command] if shell else [*command]
        wanted = RunOrder(parts.base, args, [PATH], user=order.get("user", ""))
        async with parts.snapshots.draft() as draft:
            with pytest.raises(BuildError) as caught:
                await parts.executor.run(wanted, draft, lambda stream, data: printed.append((stream, data)))
        assert str(caught.value) == f'process "{" ".join(args)}" did not complete successfully: {reason}'
        code = reason.removeprefix("exit code: ")
        assert caught.value.exit_code == (int(code) if code.isdigit() else None)
        if said:
            assert printed == [(2, f"runc run failed: unable to start container process: {said}\n".encode())]
        assert await parts.leftovers() == NOTHING

    shared.run(work)


def test_a_command_that_wants_too_much_memory_is_told_so(shared: Session) -> None:
    """Only where memory can be limited, as in the VM: where it cannot, the command succeeds and this sees that."""

    async def work(parts: Parts) -> str:
        limits = Limits(host_config={"Memory": 16 << 20, "MemorySwap": 16 << 20})
        script = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null"
        try:
            await parts.run(script, limits=limits)
        except BuildError as error:
            return str(error)
        return ""

    said = shared.run(work)
    limited = "memory" in (Path(cgroups()) / "cgroup.controllers").read_text().split()
    assert ("exit code: 137" in said or "cannot allocate memory" in said) is limited


def test_settings_of_an_order(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        told, _, ref = await parts.run(
            "id -u; id -g; pwd; ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}'; hostname; "
            "grep 1.2.3.4 /etc/hosts",
            user="65534:7", cwd="/a/b", hostname="another", add_hosts=[("foo", "1.2.3.4")],
            limits=Limits(8 << 20, [{"Name": "nofile", "Soft": 50, "Hard": 60}], "cove-b-parent"),
        )  # fmt: skip
        assert told.splitlines() == [
            "65534", "7", "/a/b", "50", "8192", "another", "1.2.3.4\tfoo",
        ]  # fmt: skip
        assert parts.files(ref) == ["a", "a/b"]  # as runc makes it

    shared.run(work)


def test_what_fails_after_a_command_does_not_keep_the_engine_from_closing(own: Session) -> None:
    async def work(parts: Parts) -> None:
        sandboxes, called = parts.engine.networks.sandboxes, []
        forget = sandboxes.forget

        async def broken(name: str) -> None:
            await forget(name)
            called.append(name)
            raise ValueError("nobody has thought of it")

        sandboxes.forget = broken  # type: ignore[method-assign]
        assert (await parts.run("echo fine"))[0] == "fine\n"
        await parts.executor.close()
        assert len(called) == 1

    own.run(work)


def test_the_classic_builders_commands_see_a_container(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        id = "ab" * 32
        told = (
            await parts.run(
                "hostname; cat /etc/hostname; echo $HOSTNAME; echo 9.9.9.9 it >>/etc/hosts; cat /etc/hosts",
                container=id,
            )
        )[0]
        lines = told.splitlines()
        assert lines[:4] == [id[:12]] * 3 + ["127.0.0.1\tlocalhost"]
        assert lines[-2:] == [f"172.17.0.2\t{id[:12]}", "9.9.9.9 it"]
        for order, words in (
            ({"user": "nosuch"}, "unable to find user nosuch: no matching entries in passwd file"),
            ({"cwd": "/etc/passwd"}, "Cannot mkdir: /etc/passwd is not a directory"),
        ):
            assert str(await failure(parts, "true", container=id, **order)) == words
        refused = 'unable to start container process: exec: "nope": executable file not found in $PATH: unknown'
        error = await failure(parts, "nope", "x", container=id)
        assert str(error).endswith(f"OCI runtime create failed: runc create failed: {refused}")
        assert error.__notes__ == [""]
        assert (await failure(parts, "exit 5", container=id)).exit_code == 5

    shared.run(work)


def test_networks(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        names = "ls /sys/class/net | tr '\\n' ' '"
        told = {mode: (await parts.run(names, network=mode))[0] for mode in ("default", "none", "host")}
        assert told["default"] == "eth0 lo "
        assert told["none"] == "lo "
        assert "docker0" in told["host"].split()
        await parts.engine.networks.create({"Name": "builds"})
        address = (await parts.run("ip -4 -o addr show eth0", network="builds"))[0].split()[3]
        assert address.startswith("172.18.")
        with pytest.raises(EngineError, match="network nosuch not found"):
            await parts.run("true", network="nosuch")
        assert await parts.leftovers() == NOTHING

    shared.run(work)


def test_nobody_else_hears_of_a_command(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        heard: list[Any] = []
        publish = parts.engine.events.publish

        def hear(*event: Any) -> None:
            heard.append(event)
            publish(*event)

        parts.engine.events.publish = hear  # type: ignore[method-assign]
        running = asyncio.create_task(parts.run("echo; sleep 0.3; ip addr"))
        await until(lambda: [*parts.engine.networks.sandboxes])
        assert parts.engine.networks.inspect("bridge")["Containers"] == {}
        await running
        await parts.leftovers()
        assert heard == []

    shared.run(work)


def test_privileges_only_when_they_are_asked_for(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        script = "mount -t tmpfs none /mnt 2>&1 || mount -t tmpfs none /tmp && echo mounted; echo 1 >/proc/sys/vm/overcommit_memory"
        assert "mounted" in (await parts.run(script + " || true", insecure=True))[0]
        error = await failure(parts, "mount -t tmpfs none /tmp")
        assert "Operation not permitted" in "".join(error.__notes__) or "permission denied" in "".join(error.__notes__)

    shared.run(work)


def test_no_places_for_mounts_stay_in_the_layer(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        # The image has no /etc/hosts and no /etc/resolv.conf.
        assert parts.files((await parts.run("cat /etc/hosts /etc/resolv.conf"))[2]) == []
        assert parts.files((await parts.run("echo >/etc/new"))[2]) == ["etc", "etc/new"]
        assert parts.files((await parts.run("chmod 700 /etc"))[2]) == ["etc"]
        # On nothing but a program: what BuildKit leaves then.
        async with parts.snapshots.draft() as draft:
            (draft.upper / "bin").mkdir()
            program = next(path for path in parts.snapshots.lower_dirs(parts.base)) / "bin" / "busybox"
            (draft.upper / "bin" / "sh").write_bytes(program.read_bytes())
            (draft.upper / "bin" / "sh").chmod(0o755)
            only = await parts.snapshots.seal(draft)
        ref = (await parts.run(":", base=(only,)))[2]
        assert parts.files(ref) == ["dev", "proc", "sys"]
        assert parts.files((await parts.run(": >/new", base=(only, ref)))[2]) == ["new"]

    shared.run(work)


def test_steps_stand_on_each_other(shared: Session) -> None:
    """Files, whiteouts and replaced folders of one step are what the next one sees, and what the images' layers have."""

    async def work(parts: Parts) -> None:
        refs = parts.base
        for script in (
            "mkdir /d; echo 1 >/d/a; echo 2 >/d/b",
            "rm /d/a; rm /bin/vi",
            "rm -r /d; mkdir /d; echo 3 >/d/c",
        ):
            refs = (*refs, (await parts.run(script, base=refs))[2])
        look = "ls /d; cat /d/c; ls /bin/vi 2>/dev/null || echo no vi"
        assert (await parts.run(look, base=refs))[0] == "c\n3\nno vi\n"
        refs = tuple([await parts.snapshots.diff_id(ref) for ref in refs])
        assert (await parts.run(look, base=refs))[0] == "c\n3\nno vi\n"

    shared.run(work)


def test_a_folder_that_is_moved_is_in_the_layer_whole(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        below = (await parts.run("mkdir -p /d/e; echo 1 >/d/e/f; echo 2 >/g"))[2]
        ref = (await parts.run("mv /d /h; chmod 600 /g", base=(*parts.base, below)))[2]
        assert parts.files(ref) == ["d", "g", "h", "h/e", "h/e/f"]
        (tree,) = parts.snapshots.lower_dirs((ref,))
        assert [(tree / name).read_text() for name in ("g", "h/e/f")] == ["2\n", "1\n"]

    shared.run(work)


def test_a_ref_may_become_a_layer_under_a_running_command(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        below = (await parts.run("echo below >/x"))[2]
        base = (*parts.base, below)
        running = asyncio.create_task(parts.run("sleep 0.5; cat /x", base=base))
        await asyncio.sleep(0.2)
        await parts.snapshots.diff_id(below)
        assert (await running)[0] == "below\n"

    shared.run(work)


@pytest.mark.parametrize("instant_s", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.3])
def test_a_cancelled_command_leaves_nothing(shared: Session, instant_s: float) -> None:
    async def work(parts: Parts) -> None:
        for spread in range(4):
            task = asyncio.create_task(parts.run("sleep 198765 & setsid sleep 198765 & trap '' TERM; sleep 198765"))
            await asyncio.sleep(instant_s * (1 + spread / 4))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert processes("sleep\000198765") == []
        assert await parts.leftovers() == NOTHING

    shared.run(work)


def test_many_commands_at_the_same_time(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        script = "ip -4 -o addr show eth0 | awk '{print $4}'; echo >/x; sleep 0.2"
        told = await asyncio.gather(*(parts.run(script) for _ in range(12)))
        assert len({address for address, _, _ in told}) == len({ref for _, _, ref in told}) == 12
        found = await asyncio.gather(*(parts.snapshots.diff_id(ref) for _, _, ref in told for _ in range(2)))
        assert all(diff_id in parts.snapshots for diff_id in found)
        assert await parts.leftovers() == NOTHING

    shared.run(work)


def test_children_that_outlive_a_command_do_not(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        async with asyncio.timeout(10):
            assert (await parts.run("setsid sleep 1001 & echo done"))[0] == "done\n"
        assert processes("sleep\0001001") == []

    shared.run(work)


@pytest.mark.parametrize("instant_s", [0.01, 0.03, 0.1, 0.6])
def test_a_killed_engine_s_commands_are_gone_after_its_next_start(own: Session, instant_s: float) -> None:
    async def run(parts: Parts) -> None:
        (own.folder / "begins").touch()
        await parts.run("touch /ready; sleep 1002")

    async def look(parts: Parts) -> dict[str, Any]:
        assert processes("sleep\0001002") == []
        return await parts.leftovers()

    pid, read_end = own.begin(run)
    deadline = time.monotonic() + 60
    while not (own.folder / "begins").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(instant_s)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(read_end)
    assert own.run(look) == NOTHING


def test_a_shim_that_is_killed_fails_its_command(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        task = asyncio.create_task(parts.run("sleep 1003"))
        await until(lambda: processes("sleep\0001003"))
        shims = [path for path in Path("/proc").glob("[0-9]*/comm") if _is_shim(path, parts.folder)]
        assert len(shims) == 1
        os.kill(int(shims[0].parent.name), signal.SIGKILL)
        with pytest.raises(BuildError, match="did not complete successfully: the shim of"):
            await task
        assert await parts.leftovers() == NOTHING

    shared.run(work)


def _is_shim(comm: Path, folder: Path) -> bool:
    try:
        return "shim:build-" in comm.read_text() and str(folder) in comm.with_name("cmdline").read_text()
    except OSError:
        return False


def test_a_container_s_network(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        other = "c" * 64
        sandboxes = parts.engine.networks.sandboxes
        sandbox = await sandboxes.open(other, SandboxRequest("other"))
        try:
            told = (await parts.run("ip -4 -o addr show eth0", network=f"container:{other}"))[0]
            assert told.split()[3] == f"{sandbox.endpoints[0].address}/16"
        finally:
            await sandboxes.forget(other)
        with pytest.raises(EngineError, match="cannot join network of a non running container"):
            await parts.run("true", network=f"container:{other}")

    shared.run(work)
