"""What commands print waits for whoever takes it, up to the client of a classic build."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct

from coved.api.progress import Report, following
from coved.build.run.output import Output


def frames(count: int) -> bytes:
    return b"".join(struct.pack(">BxxxI", 1, 4096) + b"%04d" % number * 1024 for number in range(count))


def test_nothing_is_read_while_the_taker_is_full() -> None:
    async def work() -> None:
        took: list[bytes] = []
        full = asyncio.get_running_loop().create_future()

        def take(stream: int, data: bytes) -> asyncio.Future[None] | None:
            took.append(data[:4])
            return None if full.done() else full

        with Output(take) as output, socket.socket(fileno=os.dup(output.far_end)) as shim:
            output.handed_over()
            shim.setblocking(False)
            sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(shim, frames(1000)))
            sending.add_done_callback(lambda _: shim.shutdown(socket.SHUT_WR))
            before = -1
            while len(took) != before:  # until the other end is full too
                before = len(took)
                await asyncio.sleep(0.1)
            assert not sending.done() and 0 < len(took) <= 64
            full.set_result(None)
            await asyncio.wait_for(output.end(), 10)
        assert took == [b"%04d" % number for number in range(1000)]

    asyncio.run(work())


def test_output_that_is_given_up_while_its_taker_is_full_is_left_alone() -> None:
    async def work() -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        full = asyncio.get_running_loop().create_future()
        with Output(lambda stream, data: full) as output, socket.socket(fileno=os.dup(output.far_end)) as shim:
            shim.sendall(frames(1))
            await asyncio.sleep(0.05)
            full.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert problems == []

    asyncio.run(work())


def test_a_report_is_full_until_its_client_has_read_half_of_it() -> None:
    async def work() -> None:
        told = 0

        async def command(report: Report) -> None:
            nonlocal told
            while told < 1000:
                report({"stream": "x" * 65536})
                told += 1
                if (full := report.room()) is not None:
                    await full

        messages = following(command)
        async with contextlib.aclosing(messages):  # type: ignore[type-var]
            assert await anext(messages) == {"stream": "x" * 65536}
            for _ in range(10):
                await asyncio.sleep(0)
            assert 16 <= told <= 17
            read = 1
            async for _ in messages:
                read += 1
                assert told - read <= 17
        assert read == told == 1000

    asyncio.run(work())


def test_small_messages_fill_a_report_as_well() -> None:
    async def work() -> int:
        report, count = Report(), 0
        while report.room() is None:
            report({"stream": "\n"})
            count += 1
        return count

    assert 1000 < asyncio.run(work()) < 10000
