"""What waits for the host to read it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

MAX_UNSENT = 8 << 20
"""Bytes that may wait; a host that reads nothing for so long is as good as gone."""


class Unsent:
    """A queue of bytes with a bound."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Raises ConnectionError when too much would wait."""
        if self._size + len(data) > MAX_UNSENT:
            raise ConnectionError("the host does not read from the link")
        self._pieces.append(data)
        self._size += len(data)

    def send(self, write: Callable[[bytes], int]) -> None:
        """Write until nothing waits. Raises what ``write`` raises: BlockingIOError when there is no more room."""
        while self._pieces:
            data = self._pieces[0]
            count = write(data)
            self._size -= count
            if count == len(data):
                self._pieces.popleft()
            else:
                self._pieces[0] = data[count:]

    def clear(self) -> None:
        self._pieces.clear()
        self._size = 0
