"""Clients that leave before their streamed answer has begun: what was taken for it is given back."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from coved.api import containers
from coved.api.http import Request, Response, aclose, json_stream
from coved.api.query import Query
from coved.events import Events
from served import Served


def test_a_wait_whose_client_has_gone_leaves_no_future(served: Served) -> None:
    """Through the server: the client leaves while the handler, which is not cancelled, is at work."""
    entered, futures = threading.Event(), []
    go_on: list[asyncio.Event] = []

    async def wait(reference: str, condition: str) -> asyncio.Future[Any]:
        futures.append(asyncio.get_running_loop().create_future())
        return futures[0]

    async def handler(engine: Any, request: Request) -> Response:
        life = SimpleNamespace(wait=wait)
        go_on.append(asyncio.Event())
        answer = await containers.wait(SimpleNamespace(containers=SimpleNamespace(life=life)), request)  # type: ignore[arg-type]
        entered.set()
        await go_on[0].wait()
        return answer

    served.router.add("POST", "/containers/{id}/wait", handler)
    with served.connect() as client:
        client.sendall(b"POST /containers/x/wait HTTP/1.1\r\nHost: d\r\n\r\n")
        assert entered.wait(10)
    with served.connect() as client:  # when this is answered, the engine has heard of the other's end
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"

    served.call(lambda: go_on[0].set())
    ended = threading.Event()
    served.call(lambda: futures[0].add_done_callback(lambda future: ended.set()))
    assert ended.wait(10)
    assert futures[0].cancelled()


async def _unbegun() -> int:
    events = Events()
    stream = json_stream(events.subscribe())
    assert events.subscriber_count == 1
    await aclose(stream.body)  # type: ignore[arg-type]
    return events.subscriber_count


def test_a_subscription_that_nobody_has_begun_to_read_ends_with_its_answer() -> None:
    assert asyncio.run(_unbegun()) == 0


async def _waited() -> bytes:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def wait(reference: str, condition: str) -> asyncio.Future[Any]:
        return future

    engine: Any = SimpleNamespace(containers=SimpleNamespace(life=SimpleNamespace(wait=wait)))
    request = Request("POST", "/containers/x/wait", None, query=Query(""), match={"id": "x"})  # type: ignore[arg-type]
    answer = await containers.wait(engine, request)
    future.set_result(SimpleNamespace(code=7, error=""))
    return b"".join([piece async for piece in answer.body])  # type: ignore[union-attr]


def test_a_wait_that_is_read_to_its_end_has_its_answer() -> None:
    assert asyncio.run(_waited()) == b'{"StatusCode":7}\n'
