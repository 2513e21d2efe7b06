"""What a call is made by, on either side: its path and the types of its messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from coved.grpc.codec import Message

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


@dataclass(frozen=True)
class Method(Generic[Q, R]):
    path: str
    """"/package.Service/Name"."""
    request: type[Q]
    reply: type[R]
