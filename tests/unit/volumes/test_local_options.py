"""Options of the local driver: what is refused, and what mount(2) is given."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from coved.errors import EngineError, InvalidParameter
from coved.volumes.local_options import LocalMount, described, local_mount, needs_mount, validate
from coved.volumes.mounting import mounts_below


def no_names(name: str) -> str:
    raise OSError(errno.ENOENT, f"lookup {name}: no such host")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"foo": "bar"}, 'invalid option: "foo"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"device": "tmpfs"}, 'missing required option: "type"'),
        ({"o": "size=1m"}, 'missing required option: "device"'),
        ({"size": "1m"}, "quota size requested but no quota support"),
        ({"size": "many"}, "invalid size: 'many'"),
        ({"type": "none", "device": "/a\0b"}, 'invalid option: "device" holds a null byte'),
    ],
)
def test_what_is_refused(options: dict[str, str], problem: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        validate(options)
    assert str(refused.value) == problem


def test_what_is_mounted_and_what_is_a_folder() -> None:
    for options in ({}, {"size": "0"}, {"type": "", "device": "", "o": ""}):
        validate(options)
        assert not needs_mount(options)
    assert needs_mount({"type": "none", "device": "", "o": "bind"})


@pytest.mark.parametrize(
    ("kind", "device", "text", "expected"),
    [
        ("tmpfs", "tmpfs", "size=1m,mode=700", LocalMount("tmpfs", "tmpfs", 0, "size=1m,mode=700")),
        ("none", "/srv", "bind,ro", LocalMount("/srv", "none", 4097, "")),
        ("none", "/srv", "rbind,ro,rw,nosuid", LocalMount("/srv", "none", 4096 | 16384 | 2, "")),
        ("nfs", ":/x", "addr=10.1.2.3,rw,vers=4", LocalMount(":/x", "nfs", 0, "addr=10.1.2.3,vers=4")),
        ("nfs", ":/x", "addr=nas,nolock", LocalMount(":/x", "nfs", 0, "addr=10.0.0.9,nolock")),
        ("nfs4", ":/x", "vers=4.2,addr=nas", LocalMount(":/x", "nfs4", 0, "vers=4.2,addr=10.0.0.9")),
        ("cifs", "//nas/a b", "username=u", LocalMount("//10.0.0.9/a b", "cifs", 0, "username=u")),
        ("ext4", "/dev/vdz", "addr=nas", LocalMount("/dev/vdz", "ext4", 0, "addr=nas")),
    ],
)
def test_arguments_of_mount(kind: str, device: str, text: str, expected: LocalMount) -> None:
    def resolve(name: str) -> str:
        return {"nas": "10.0.0.9"}.get(name, name)

    assert local_mount({"type": kind, "device": device, "o": text}, resolve) == expected


def test_what_cannot_be_mounted() -> None:
    with pytest.raises(EngineError, match=r"^missing device in volume options$"):
        local_mount({"type": "none", "device": "", "o": "bind"}, no_names)
    with pytest.raises(
        EngineError, match=r"^error resolving passed in network volume address: lookup nas: no such host$"
    ):
        local_mount({"type": "nfs", "device": ":/x", "o": "addr=nas"}, no_names)
    with pytest.raises(EngineError, match="argument list too long"):
        local_mount({"type": "tmpfs", "device": "tmpfs", "o": "x" * 4096}, no_names)


def test_no_password_is_told() -> None:
    mount = LocalMount("//nas/x", "cifs", 4097, "username=u,password=secret,pass=secret,vers=3")
    assert described(mount, "/v/_data", "no such device") == (
        "failed to mount local volume: mount //nas/x:/v/_data, flags: 0x1001, "
        "data: username=u,password=********,pass=********,vers=3: no such device"
    )


def test_mounts_are_found_by_folder() -> None:
    assert "/proc" in mounts_below(Path("/"))
    assert "/proc" not in mounts_below(Path("/proc"))
