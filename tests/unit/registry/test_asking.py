"""Logins, searches and look-ups; and registries that are in containers here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coved.errors import EngineError
from coved.events import Events
from coved.filters import Filters
from coved.images import Images, reference
from coved.registry import Registries, Settings
from coved.registry.credentials import Credentials
from coved.store.database import Database
from faulty import Answer, Asked, Faulty, Image, json_answer, layer


def asking(root: Path, work: Callable[[Registries], Any], **options: Any) -> Any:
    async def main() -> Any:
        database = Database(root / "db")
        images = Images(database, Events(), root)
        registries = Registries(database, Events(), images, root / "tmp", Settings(), **options)
        try:
            async with asyncio.timeout(60):
                return await work(registries)
        finally:
            await registries.close()
            await images.close()
            database.close()

    return asyncio.run(main())


def log_in(root: Path, server: Faulty, password: str = "secret") -> str:
    who = Credentials("joe", password, server=server.host)
    return str(asking(root, lambda registries: registries.log_in(who)))


def test_a_login_at_a_registry_that_wants_none(tmp_path: Path, server: Faulty) -> None:
    assert log_in(tmp_path, server) == ""


def test_a_login_by_name_and_password(tmp_path: Path, server: Faulty) -> None:
    def check(asked: Asked) -> Answer:
        if asked.headers.get("authorization") == "Basic am9lOnNlY3JldA==":
            return Answer(200, b"{}")
        return Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})

    server.rules[("GET", "/v2/")] = check
    assert log_in(tmp_path, server) == ""
    with pytest.raises(
        EngineError, match=f"login attempt to {server.url}/v2/ failed with status: 401 Unauthorized"
    ) as caught:
        log_in(tmp_path, server, "wrong")
    assert caught.value.status == 500


def test_a_login_for_a_token_that_is_kept(tmp_path: Path, server: Faulty) -> None:
    def token(asked: Asked) -> Answer:
        assert "offline_token=true" in asked.path
        assert "client_id=docker" in asked.path
        if asked.headers.get("authorization") != "Basic am9lOnNlY3JldA==":
            return json_answer({"details": "incorrect username or password"}, 401)
        return json_answer({"token": "good", "refresh_token": "keep-me"})

    def check(asked: Asked) -> Answer:
        challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="s"'}
        return (
            Answer(200, b"{}") if asked.headers.get("authorization") == "Bearer good" else Answer(401, b"", challenge)
        )

    server.rules[("GET", "/v2/")] = check
    server.rules[("GET", "/token")] = token
    assert log_in(tmp_path, server) == "keep-me"
    words = f'Get "{server.url}/v2/": unauthorized: incorrect username or password'
    with pytest.raises(EngineError) as caught:
        log_in(tmp_path, server, "wrong")
    assert str(caught.value) == words
    assert caught.value.status == 401


def test_a_search(tmp_path: Path, server: Faulty) -> None:
    found = [
        {"name": "one", "star_count": 5, "is_official": True, "is_automated": True, "description": "first"},
        {"name": "two", "star_count": 1, "is_official": False, "description": None},
        "nonsense",
    ]
    server.rules[("GET", "/v1/_ping")] = Answer(200, b"true")
    server.rules[("GET", "/v1/search")] = json_answer({"num_results": 2, "results": found})

    def search(limit: int = 0, **filters: list[str]) -> list[dict[str, Any]]:
        term = f"{server.host}/thing"
        return list(asking(tmp_path, lambda one: one.search(term, limit, Filters(filters), Credentials())))

    assert [one["name"] for one in search()] == ["one", "two"]
    assert server.asked[-1].path == "/v1/search?q=thing&n=25"
    assert search()[0] == {
        "name": "one", "star_count": 5, "is_official": True, "is_automated": False, "description": "first",
    }  # fmt: skip
    assert [one["name"] for one in search(**{"is-official": ["true"]})] == ["one"]
    assert [one["name"] for one in search(stars=["2"])] == ["one"]
    assert search(**{"is-automated": ["true"]}) == []
    for wrong in ({"stars": ["x"]}, {"colour": ["red"]}):
        with pytest.raises(EngineError) as caught:
            search(**wrong)
        assert caught.value.status == 400
    with pytest.raises(EngineError, match=r"limit 101 is outside the range of \[1, 100\]"):
        search(101)
    server.rules[("GET", "/v1/search")] = Answer(500)
    with pytest.raises(EngineError, match="Unexpected status code 500"):
        search()


def test_a_look_up(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", b"1"))
    image.serve(server, "a")
    name = reference.parse(f"{server.host}/a")
    assert asking(tmp_path, lambda one: one.inspect(name, Credentials())) == {
        "Descriptor": {"mediaType": image.type, "digest": image.digest, "size": len(image.manifest)},
        "Platforms": [{"architecture": "amd64", "os": "linux"}],
    }


def test_a_registry_in_a_container_is_called_localhost(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", b"1"))
    image.serve(server, "a")
    host, _, port = server.host.partition(":")

    def published(asked: int) -> tuple[str, int] | None:
        return (host, int(port)) if asked == 5999 else None

    def look(name: str) -> Any:
        parsed = reference.parse(name)
        return asking(tmp_path, lambda one: one.inspect(parsed, Credentials()), published=published)

    assert look("localhost:5999/a")["Descriptor"]["digest"] == image.digest
    assert look("127.0.0.1:5999/a")["Descriptor"]["digest"] == image.digest
    assert server.asked[-1].headers["host"] == "127.0.0.1:5999"
    with pytest.raises(EngineError, match="connection refused"):
        look("localhost:5998/a")
