"""Registries that an administrator has not allowed are not asked, whoever asks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cove.machine import registries as host
from cove.machine import settings as host_settings
from cove.machine.policy import Policy
from coved.boot import seed
from coved.errors import Forbidden
from coved.events import Events
from coved.filters import Filters
from coved.images import Images
from coved.images.reference import Reference
from coved.registry.allowed import Allowed
from coved.registry.credentials import Credentials
from coved.registry.manager import Registries
from coved.registry.settings import Settings
from coved.store.database import Database

FILE = "/etc/cove/policy.toml"


def told(tmp_path: Path, allowed: tuple[str, ...] | None, text: str = "") -> Settings:
    """As it comes from the host's policy to the engine."""
    document = host.told(host_settings.parse(text, "x"), Policy(Path(FILE), {}, allowed), tmp_path / "none")
    kept, _ = seed.registries(json.loads(json.dumps(document)))
    (tmp_path / "registries.json").write_text(kept)
    return Settings.of_file(tmp_path / "registries.json")


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("docker.io", True), ("index.docker.io", True), ("reg.local:5000", True), ("REG.local:5000", True),
        ("a.corp.example", True), ("a.b.corp.example", True), ("reg.local", False), ("reg.local:5001", False),
        ("corp.example", False), (".corp.example", False), ("evilcorp.example", False), ("corp.example.evil", False),
        ("a.corp.example:5000", False), ("quay.io", False), ("docker.io.evil", False), ("localhost:5000", False),
    ],
)  # fmt: skip
def test_who_is_allowed(tmp_path: Path, host: str, may: bool) -> None:
    assert told(tmp_path, ("docker.io", "reg.local:5000", "*.corp.example")).allowed.has(host) is may


def test_without_a_policy_all_are(tmp_path: Path) -> None:
    assert told(tmp_path, None).allowed == Allowed()
    assert Allowed().has("quay.io")
    assert not told(tmp_path, ()).allowed.has("docker.io")


def test_each_way_to_a_registry_is_closed_in_words(tmp_path: Path) -> None:
    settings = told(tmp_path, ("reg.local",))
    database = Database(tmp_path / "db")
    images = Images(database, Events(), tmp_path)
    made = Registries(database, Events(), images, tmp_path / "tmp", settings)
    name, nobody = Reference("quay.io", "x/y", "1"), Credentials()
    said: list[str] = []
    for work in (
        made.pull(name, "", nobody, lambda message: pytest.fail(f"told {message}")),
        made.push(name, nobody, lambda message: pytest.fail(f"told {message}")),
        made.log_in(Credentials(server="https://quay.io/v1/")),
        made.search("quay.io/x", 1, Filters({}), nobody),
        made.inspect(name, nobody),
    ):
        with pytest.raises(Forbidden) as error:
            asyncio.run(work)
        assert error.value.status == 403
        said.append(str(error.value))
    words = ("pulling from", "pushing to", "logging in to", "searching", "using")
    assert said == [f"{doing} quay.io is not allowed by your administrator's policy ({FILE})" for doing in words]


def test_mirrors_that_are_not_allowed_are_not_asked(tmp_path: Path) -> None:
    text = 'registry_mirrors = ["http://mirror.local:5000", "http://reg.local"]'
    found = told(tmp_path, ("docker.io", "reg.local"), text).endpoints("docker.io")
    assert [one.url for one in found] == ["http://reg.local", "https://registry-1.docker.io"]


def test_while_nobody_knows_what_is_allowed_nothing_is(tmp_path: Path) -> None:
    for text in ("", "[]", '{"insecure": [], "mirrors": [], "allowed": "docker.io"}', '{"insecure": 3'):
        (tmp_path / "registries.json").write_text(text)
        assert not Settings.of_file(tmp_path / "registries.json").allowed.has("docker.io")
    assert Settings.of_file(tmp_path / "nowhere").allowed.has("docker.io")
