"""What is read, and what is said: challenges, credentials, settings, platforms and progress."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from coved.errors import InvalidParameter
from coved.images.documents import Descriptor, Index, Platform
from coved.registry import challenges, choice
from coved.registry.credentials import Credentials
from coved.registry.errors import RegistryError
from coved.registry.manager import pull_name
from coved.registry.progress import bar, human
from coved.registry.settings import Endpoint, Settings


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/t",service="s, x",scope="r:a/b:pull,push"',
         ("bearer", {"realm": "https://a/t", "service": "s, x", "scope": "r:a/b:pull,push"})),
        ("Basic realm=plain", ("basic", {"realm": "plain"})),
        (r'Basic realm="a \"b\" c"', ("basic", {"realm": 'a "b" c'})),
        ("BASIC", ("basic", {})),
        ('Bearer realm="never ends', ("bearer", {})),
        ('Bearer  Realm = "x"', ("bearer", {})),
        ('Bearer realm="a" , service="b"', ("bearer", {"realm": "a", "service": "b"})),
    ],
)  # fmt: skip
def test_challenges(header: str, expected: tuple[str, dict[str, str]]) -> None:
    assert challenges.parse([header]) == [expected]


def test_challenges_that_are_none() -> None:
    assert challenges.parse(["", "=", '"x"']) == []
    assert len(challenges.parse(["Basic"] * 1000)) == 8
    many = ",".join(f"a{n}=b" for n in range(1000))
    assert len(challenges.parse([f"Basic {many}"])[0][1]) == 32


def test_credentials_of_a_header() -> None:
    def header(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()

    assert Credentials.of_header(header({"username": "a", "password": "ü?>"})) == Credentials("a", "ü?>")
    assert Credentials.of_header(header({"identitytoken": "t"}).rstrip("=")).identity_token == "t"
    auth = base64.b64encode(b"joe:se:cret").decode()
    assert Credentials.of_header(header({"auth": auth})) == Credentials("joe", "se:cret")
    for wrong in ("", "!", header([]), header({"username": 1}), "A" * 100_000):
        assert Credentials.of_header(wrong) == Credentials()
    assert "secret" not in repr(Credentials("joe", "secret", "secret", "secret"))


def test_endpoints() -> None:
    settings = Settings.checked(["my.test:5000", "http://10.1.0.0/16"], ["https://mirror.test/path/"], [])
    assert settings.endpoints("my.test:5000") == [
        Endpoint("https", "my.test:5000", insecure=True), Endpoint("http", "my.test:5000", insecure=True),
    ]  # fmt: skip
    assert [one.scheme for one in settings.endpoints("10.1.2.3:80")] == ["https", "http"]
    assert [one.scheme for one in settings.endpoints("10.2.2.3:80")] == ["https"]
    assert [one.scheme for one in settings.endpoints("localhost:5000")] == ["https", "http"]
    assert [one.scheme for one in settings.endpoints("127.3.4.5:5000")] == ["https", "http"]
    hub = settings.endpoints("docker.io")
    assert [one.url for one in hub] == ["https://mirror.test/path", "https://registry-1.docker.io"]
    assert [one.mirror for one in hub] == [True, False]
    assert len(settings.endpoints("docker.io", mirrors=False)) == 1


@pytest.mark.parametrize(
    "mirror", ["mirror.test", "ftp://x", "http://u:p@x", "http://x?y=z", "http://x#y", "http://x:port"]
)
def test_mirrors_that_are_none(mirror: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid mirror"):
        Settings.checked([], [mirror], [Path("x")])


@pytest.mark.parametrize("host", ["", "ftp://x", "a/b", "u@x"])
def test_insecure_registries_that_are_none(host: str) -> None:
    with pytest.raises(InvalidParameter, match="insecure registry"):
        Settings.checked([host], [], [])


def index_of(*platforms: Platform | None) -> Index:
    found = [Descriptor("m", f"sha256:{n:064}", n, {}, one) for n, one in enumerate(platforms)]
    return Index("i", tuple(found), {})


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        (Platform("linux", "amd64"), [1, 0]),
        (Platform("linux", "386"), [0]),
        (Platform("linux", "arm64"), [2, 3, 4]),
        (Platform("linux", "arm", "v7"), [3, 4]),
        (Platform("linux", "arm", "v6"), [4]),
    ],
)
def test_the_best_manifest_for_a_platform(wanted: Platform, order: list[int]) -> None:
    index = index_of(
        Platform("linux", "386"), Platform("linux", "amd64"), Platform("linux", "arm64", "v8"),
        Platform("linux", "arm", "v7"), Platform("linux", "arm", "v6"), Platform("unknown", "unknown"),
    )  # fmt: skip
    assert [one.size for one in choice.choose(index, wanted)] == order


def test_a_manifest_without_a_platform_is_the_last_choice() -> None:
    index = index_of(None, Platform("linux", "amd64"))
    assert [one.size for one in choice.choose(index, Platform("linux", "amd64"))] == [1, 0]
    with pytest.raises(RegistryError, match="no matching manifest for linux/s390x in the manifest list entries"):
        choice.choose(index_of(Platform("windows", "amd64")), Platform("linux", "s390x"))


def test_names_to_pull() -> None:
    digest = "sha256:" + "a" * 64
    assert pull_name("busybox:", "").familiar == "busybox"
    assert pull_name("busybox", "1").familiar == "busybox:1"
    assert pull_name("busybox:2", "1").familiar == "busybox:1"
    assert pull_name("busybox:2", digest).familiar == f"busybox@{digest}"
    with pytest.raises(InvalidParameter, match="invalid tag format"):
        pull_name("busybox", "no good")


def test_bars_are_dockers() -> None:
    assert bar(0, 0) == ""
    assert bar(1500, 0) == "   1.5kB"
    assert bar(50, 100) == f"[{'=' * 25}>{' ' * 25}]      50B/100B"
    assert bar(100, 100) == f"[{'=' * 50}>]     100B/100B"
    assert bar(101, 100) == f"[{'=' * 50}>]     101B"
    assert human(1234567) == "1.235MB"
