"""Waiting until a client has read what it has been sent, without polling. Linux only, unix sockets only."""

import asyncio
import contextlib
import fcntl
import select
import struct
import termios

PATIENCE_S = 10.0
_count = struct.Struct("=i")
_BEING_FREED = 64  # see coved.runtime.attach, which does the same for the output of processes


async def taken(fd: int) -> None:
    """Returns when nothing that was sent on the socket is unread any more, the client has gone, or the patience is over.

    Clients that read the answer to a hijack with a buffer, as docker-py does, lose what comes in the same read.
    """
    if not _unread(fd):
        return
    loop = asyncio.get_running_loop()
    news = asyncio.Event()
    with select.epoll() as epoll:
        # A socket with something unread is writable: an edge tells that some of it has been taken (epoll(7)).
        epoll.register(fd, select.EPOLLOUT | select.EPOLLET)
        loop.add_reader(epoll.fileno(), news.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    while _unread(fd):
                        await news.wait()
                        if any(events & (select.EPOLLHUP | select.EPOLLERR) for _, events in epoll.poll(0)):
                            return
                        news.clear()
        finally:
            loop.remove_reader(epoll.fileno())


def _unread(fd: int) -> bool:
    (queued,) = _count.unpack(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(_count.size)))
    return bool(queued > _BEING_FREED)
