"""stdin, stdout, stderr, terminals, attached clients, logs."""

import asyncio
import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from coved.runtime.spec import LogTarget, Stdio

from runtime_support import TIMEOUT_S, Client, Harness, frames, process, with_harness

pytestmark = pytest.mark.root

INTERACTIVE = Stdio(open_stdin=True, stdin_once=True)


@with_harness
async def test_half_close_ends_stdin_and_output_goes_on(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", "wc -c; echo after; echo err >&2"), stdio=INTERACTIVE)
    client = await made.attach(shim, stdin=True, pending=b"seen before ")
    await shim.start()
    await client.send(b"hello")
    client.half_close()
    streams = frames(await client.read_all())
    assert streams == {1: b"17\nafter\n", 2: b"err\n"}
    assert (await shim.wait()).code == 0


@with_harness
async def test_a_lot_of_input_arrives_whole_though_the_reader_is_slow(made: Harness) -> None:
    data = os.urandom(1 << 20) * 8
    shim = await made.create(process("sh", "-c", "read line; sha256sum"), stdio=INTERACTIVE)
    client = await made.attach(shim, stdin=True)
    await shim.start()

    async def feed() -> None:
        await client.send(b"line\n" + data)
        client.half_close()

    _, out = await asyncio.gather(feed(), client.read_all())
    assert frames(out)[1].split()[0].decode() == hashlib.sha256(data).hexdigest()


@with_harness
async def test_input_for_a_process_that_does_not_read_does_not_hold_up_its_end(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", "exec <&-; sleep 0.2; echo done"), stdio=INTERACTIVE)
    client = await made.attach(shim, stdin=True)
    await shim.start()
    sending = asyncio.create_task(client.send(b"x" * (4 << 20)))
    assert frames(await client.read_all())[1] == b"done\n"
    sending.cancel()
    assert (await shim.wait()).code == 0


@with_harness
async def test_stdin_stays_open_for_the_next_client_without_stdin_once(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", "read a; read b; echo $a $b"), stdio=Stdio(open_stdin=True))
    first = await made.attach(shim, stdin=True, stdout=False, stderr=False)
    await shim.start()
    await first.send(b"one\n")
    first.half_close()
    first.close()
    second = await made.attach(shim, stdin=True)
    await second.send(b"two\n")
    assert frames(await second.read_all())[1] == b"one two\n"


@with_harness
async def test_output_of_50_mb_is_whole_and_in_order_for_client_and_log(made: Harness) -> None:
    count = 640_000
    script = f"yes {'x' * 66} | head -n {count} | awk '{{ print \"line\", NR, $0 }}'"
    log = LogTarget(made.folder / "big.log")
    shim = await made.create(process("sh", "-c", script), log=log)
    client = await made.attach(shim)
    await shim.start()
    out = frames(await client.read_all())[1]
    assert len(out) > 45_000_000
    expected = "".join(f"line {number} {'x' * 66}\n" for number in range(1, count + 1)).encode()
    assert hashlib.sha256(out).digest() == hashlib.sha256(expected).digest()
    await shim.wait()
    digest = hashlib.sha256()
    with log.path.open() as lines:
        for line in lines:
            digest.update(json.loads(line)["log"].encode())
    assert digest.digest() == hashlib.sha256(expected).digest()


@with_harness
async def test_a_slow_client_holds_the_process_back_and_a_lost_one_does_not(made: Harness) -> None:
    shim = await made.create(
        process("sh", "-c", "head -c 20000000 /dev/zero; echo end >&2"), log=LogTarget(made.folder / "l")
    )
    slow = await made.attach(shim)
    await shim.start()
    first = await slow.read(4096)
    assert first
    # The client takes nothing more: its megabyte and the pipes fill, then the process waits.
    await asyncio.sleep(0.5)  # not for a condition: that nothing happens
    assert "" not in shim.exits
    other = await made.attach(shim, stdout=False)
    slow.close()
    assert frames(await other.read_all()) == {1: b"", 2: b"end\n"}
    assert (await shim.wait()).code == 0


@with_harness
async def test_output_after_an_execs_end_waits_for_its_client_and_not_in_memory(made: Harness) -> None:
    shim = await made.create(process("sleep", "300"))
    await shim.start()
    status = Path(f"/proc/{Path(f'/proc/{shim.pid}/stat').read_text().split()[3]}/status")
    before = peak_kib(status)
    slow = Client()
    await shim.exec(
        "e", process("sh", "-c", "cat /dev/zero & exit 3"), stdio=Stdio(terminal=False), attach=[slow.attachment()]
    )
    slow.handed_over()
    assert (await shim.wait("e")).code == 3  # two seconds later: others hold its output
    assert peak_kib(status) - before < 8 * 1024
    slow.close()


def peak_kib(status: Path) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))


@with_harness
async def test_a_terminal(made: Harness) -> None:
    shim = await made.create(
        process("sh", "-c", "tty; stty size; ls -l /dev/console | cut -c1; read x; echo got:$x; read y", terminal=True),
        stdio=Stdio(terminal=True, open_stdin=True, height=33, width=77),
    )
    client = await made.attach(shim, stdin=True, raw=True)
    await shim.start()
    out = await client.read_until(b"c\r\n")
    assert out.replace(b"\r", b"").split() == [b"/dev/pts/0", b"33", b"77", b"c"]
    await client.send(b"hi\n")
    await client.read_until(b"got:hi\r\n")
    await client.send(b"\x03")  # the terminal makes SIGINT of it
    assert (await asyncio.wait_for(shim.wait(), TIMEOUT_S)).code == 130
    assert await client.read_all() in (b"^C", b"^C\r\n")


@with_harness
async def test_resize_reaches_init_and_exec(made: Harness) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do read x; done"
    tty = Stdio(terminal=True, open_stdin=True)
    shim = await made.create(process("sh", "-c", script, terminal=True), stdio=tty)
    client = await made.attach(shim, stdin=True, raw=True)
    await shim.start()
    await client.read_until(b"ready")
    await shim.resize("", 40, 132)
    await client.send(b"\n")
    await client.read_until(b"40 132")
    from runtime_support import Client

    exec_client = Client()
    await shim.exec(
        "e",
        process("sh", "-c", script, terminal=True),
        stdio=tty,
        attach=[exec_client.attachment(stdin=True, raw=True)],
    )
    exec_client.handed_over()
    await exec_client.read_until(b"ready")
    await shim.resize("e", 50, 99)
    await exec_client.send(b"\n")
    await exec_client.read_until(b"50 99")


@with_harness
async def test_detach_keys(made: Harness) -> None:
    keys = b"\x10\x11"
    for terminal in (True, False):
        shim = await made.create(
            process(
                "sh", "-c", "stty raw -echo 2>/dev/null; echo up; head -c 4 | od -An -tx1; sleep 60", terminal=terminal
            ),
            stdio=Stdio(terminal=terminal, open_stdin=True),
        )
        client = await made.attach(shim, stdin=True, raw=terminal, detach_keys=keys)
        await shim.start()
        await client.read_until(b"up")
        # A beginning that comes to nothing is passed on; a beginning of a second try too.
        await client.send(b"\x10")
        await client.send(b"a\x10")
        await client.send(b"\x10b")
        out = await client.read_until(b"\n") if terminal else await client.read_until(b"10 61 10 10")
        assert b"10 61 10 10" in out + (await client.read() if b"10 61" not in out else b"")
        await client.send(b"x\x10\x11never seen")
        assert await client.read_all() == b""
        assert "" not in shim.exits
        await shim.delete()


@with_harness
async def test_log_lines(made: Harness) -> None:
    odd = b'plain\nquote " back \\ tab\t<&>\xff\xfe \xe2\x82\xac\r\n' + b"y" * 40000 + b"\nno newline"
    script = f"echo {base64.b64encode(odd).decode()} | base64 -d"
    log = LogTarget(made.folder / "odd.log")
    shim = await made.create(process("sh", "-c", script), log=log)
    await shim.start()
    await shim.wait()
    entries = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [entry["log"] for entry in entries] == [
        "plain\n",
        'quote " back \\ tab\t<&>\ufffd\ufffd €\r\n',
        "y" * 16384,
        "y" * 16384,
        "y" * (40000 - 2 * 16384) + "\n",
        "no newline",
    ]
    assert {entry["stream"] for entry in entries} == {"stdout"}


@with_harness
async def test_a_full_disk_loses_log_lines_but_stops_nothing(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", "seq 1 100000; echo end >&2"), log=LogTarget(made.folder / "full"))
    import resource

    # The shim's file size limit stands in for the disk: writes beyond it fail.
    status = Path(f"/proc/{shim.pid}/status").read_text().splitlines()
    shim_pid = int(next(line for line in status if line.startswith("PPid")).split()[1])
    resource.prlimit(shim_pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    client = await made.attach(shim)
    await shim.start()
    streams = frames(await client.read_all())
    assert streams[1].endswith(b"\n100000\n") and streams[2] == b"end\n"
    assert (await shim.wait()).code == 0
    for line in (made.folder / "full").read_text().splitlines():
        json.loads(line)


@with_harness
async def test_attach_after_the_end_of_output_is_closed_at_once(made: Harness) -> None:
    from coved.runtime.errors import NotRunning

    shim = await made.create(process("true"))
    await shim.start()
    await shim.wait()
    with pytest.raises(NotRunning):
        await made.attach(shim)
