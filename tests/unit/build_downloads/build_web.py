"""A web server for downloads, and what the engine gives them of its registries."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from coved.registry import Registries
from coved.registry.settings import Endpoint
from coved.registry.wire import Wire

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Wires:
    """As much of ``Registries`` as downloads need."""

    async def wire(self, endpoint: Endpoint) -> Wire:
        return Wire(ssl.create_default_context())


def registries() -> Registries:
    return cast(Registries, Wires())


class Web:
    """``pages`` by path; what was asked for is in ``asked``: (path, headers)."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            page = web.pages.get(self.path)
            if page is None:
                self.send_error(404)
            else:
                page(self)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        web.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()


def page(data: bytes, **headers: str) -> Answer:
    """Answers 304 when its ETag is asked for."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        etag = headers.get("ETag")
        same = etag is not None and handler.headers.get("If-None-Match") == etag
        handler.send_response(304 if same else 200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if not same:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if not same:
            handler.wfile.write(data)

    return answer
