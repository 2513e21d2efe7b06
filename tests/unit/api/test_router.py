from typing import Any

import pytest
from coved.api.http import Response
from coved.api.router import Router
from coved.errors import NotFound


async def handler(engine: Any, request: Any) -> Response:
    return Response()


@pytest.fixture
def router() -> Router:
    router = Router()
    for method, pattern in (
        ("GET", "/images/json"),
        ("GET", "/images/{name*}/json"),
        ("DELETE", "/images/{name*}"),
        ("GET", "/containers/{id}/json"),
        ("POST", "/containers/{id}/wait"),
    ):
        router.add(method, pattern, handler)
    return router


@pytest.mark.parametrize(
    ("method", "path", "match"),
    [
        ("GET", "/images/json", {}),
        ("GET", "/images/busybox/json", {"name": "busybox"}),
        ("GET", "/images/localhost:5000/a/b:1/json", {"name": "localhost:5000/a/b:1"}),
        ("DELETE", "/images/a/b", {"name": "a/b"}),
        ("DELETE", "/images/json", {"name": "json"}),
        ("GET", "/containers/abc/json", {"id": "abc"}),
    ],
)
def test_resolves(router: Router, method: str, path: str, match: dict[str, str]) -> None:
    assert router.resolve(method, path)[1] == match


@pytest.mark.parametrize(
    "path", ["/", "/containers", "/containers//json", "/containers/a/b/json", "/nothing", "/images"]
)
def test_unknown_paths(router: Router, path: str) -> None:
    with pytest.raises(NotFound, match="page not found"):
        router.resolve("GET", path)


def test_known_path_with_another_method(router: Router) -> None:
    with pytest.raises(NotFound, match="page not found"):
        router.resolve("PUT", "/containers/a/json")


def test_options_of_anything_is_answered(router: Router) -> None:
    assert router.resolve("OPTIONS", "/nothing")[0].method == "OPTIONS"


def test_only_reads_end_with_their_client(router: Router) -> None:
    assert router.resolve("GET", "/containers/a/json")[0].cancel_on_disconnect
    assert not router.resolve("POST", "/containers/a/wait")[0].cancel_on_disconnect
