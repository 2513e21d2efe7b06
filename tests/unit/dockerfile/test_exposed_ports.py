"""EXPOSE's ports, and the platforms that builds have arguments of."""

from __future__ import annotations

import pytest
from coved.dockerfile.image_names import is_image_name
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.numbers import duration, size
from coved.dockerfile.ports import exposed, names
from coved.dockerfile.predefined import Platform, arguments, platform


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", ["80/tcp"]),
        ("80/", ["80/tcp"]),
        ("80/UDP", ["80/udp"]),
        ("80-82/sctp", ["80/sctp", "81/sctp", "82/sctp"]),
        ("8080:80", ["80/tcp"]),
        ("8000-8010:80", ["80/tcp"]),
        ("127.0.0.1::80", ["80/tcp"]),
        ("[::1]:1-2:80-81", ["80/tcp", "81/tcp"]),
        ("::1:1:80", ["80/tcp"]),
        ("80-80", ["80/tcp"]),
    ],
)
def test_ports(text: str, found: list[str]) -> None:
    assert names([text]) == found
    assert exposed(text).published is (":" in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'invalid port: "": no port specified'),
        ("/tcp", 'invalid port: "/tcp": no port specified'),
        ("80/x", 'invalid port: "80/x": invalid proto: x'),
        ("x", "invalid containerPort: x"),
        ("65536", "invalid containerPort: 65536"),
        ("82-80", "invalid containerPort: 82-80"),
        ("80-", "invalid containerPort: 80-"),
        ("-1", "invalid containerPort: -1"),
        ("x:80", "invalid hostPort: x"),
        ("1-2:80-82", "invalid ranges specified for container and host Ports: 80-82 and 1-2"),
        ("nowhere:1:80", "invalid IP address: nowhere"),
    ],
)
def test_no_ports(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        exposed(text)
    assert str(caught.value) == message


def test_there_are_only_so_many_ports() -> None:
    assert len(names(["0-65535/tcp", "0-65535/udp", "0-65535/sctp"])) == 3 * 65536
    with pytest.raises(DockerfileError, match="EXPOSE of more than 196608 ports"):
        names(["0-65535"] * 4)


def test_platforms() -> None:
    assert platform("linux/arm64/v8") == Platform("linux", "arm64", "v8")
    assert platform("Linux/x86_64") == Platform("linux", "amd64")
    assert platform("aarch64") == Platform("linux", "arm64")
    assert platform("windows") == Platform("windows", "")
    for text in ("", "linux/", "a/b/c/d", "nothing", "linux/a b"):
        assert platform(text) is None


def test_arguments_that_every_build_has() -> None:
    assert arguments("linux/amd64", "linux/arm/v7", "", {"TARGETARCH": "mine", "OTHER": "x"}) == {
        "BUILDPLATFORM": "linux/amd64",
        "BUILDOS": "linux",
        "BUILDOSVERSION": "",
        "BUILDARCH": "amd64",
        "BUILDVARIANT": "",
        "TARGETPLATFORM": "linux/arm/v7",
        "TARGETOS": "linux",
        "TARGETOSVERSION": "",
        "TARGETARCH": "mine",
        "TARGETVARIANT": "v7",
        "TARGETSTAGE": "default",
    }


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("busybox", True),
        ("a.b/c:1@sha256:" + "0" * 64, True),
        ("localhost:5000/a/b", True),
        ("[::1]:5000/a", True),
        ("Host/a", True),
        ("busybox:", False),
        (":1", False),
        ("", False),
        ("a//b", False),
        ("Upper", False),
        ("0" * 64, False),
        ("a@sha256:0", False),
    ],
)
def test_names_of_images(text: str, is_name: bool) -> None:
    assert is_image_name(text) is is_name


def test_numbers() -> None:
    assert [duration(text) for text in ("0", "1h2m3.5s", "1us", "1µs", "-1ms", "1.s", ".5s")] == [
        0,
        3_723_500_000_000,
        1000,
        1000,
        -1_000_000,
        1_000_000_000,
        500_000_000,
    ]
    for text in ("", "s", "1", "1s2", "300000000000h", "1e3s", "9" * 100 + "s"):
        with pytest.raises(DockerfileError):
            duration(text)
    assert [size(text) for text in ("1", "1b", "1k", "1 KB", "1KiB", "1.5m", "x", "1kk", "", "-1")] == [
        1,
        1,
        1024,
        1024,
        1024,
        1572864,
        None,
        None,
        None,
        None,
    ]
