import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from coved.images.streams import Aborted, ThreadStream, in_thread


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for chunk in data:
        await asyncio.sleep(0)
        yield chunk


def read_all(stream: ThreadStream, size: int) -> list[bytes]:
    pieces = []
    while piece := stream.read(size):
        pieces.append(piece)
    return pieces


def test_a_thread_reads_what_arrives_in_the_loop() -> None:
    async def main() -> list[bytes]:
        stream = ThreadStream(chunks(b"abcde", b"", b"f"))
        with ThreadPoolExecutor(1) as executor:
            return await in_thread(executor, lambda: read_all(stream, 3), stream.abort)

    assert asyncio.run(main()) == [b"abc", b"def"]


def test_an_error_of_the_upload_reaches_the_thread() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    async def main() -> None:
        stream = ThreadStream(broken())
        with ThreadPoolExecutor(1) as executor, pytest.raises(ConnectionResetError):
            await in_thread(executor, lambda: read_all(stream, 3), stream.abort)

    asyncio.run(main())


def test_a_cancelled_caller_gets_its_thread_back() -> None:
    reading, unwound = threading.Event(), threading.Event()

    async def silent() -> AsyncIterator[bytes]:
        reading.set()
        await asyncio.Event().wait()
        yield b""

    def work(stream: ThreadStream) -> None:
        try:
            stream.read(1)
        except Aborted:
            unwound.set()
            raise

    async def main() -> None:
        stream = ThreadStream(silent())
        with ThreadPoolExecutor(1) as executor:
            task = asyncio.create_task(in_thread(executor, lambda: work(stream), stream.abort))
            await asyncio.to_thread(reading.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert unwound.is_set()

    asyncio.run(main())
