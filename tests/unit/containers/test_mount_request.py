"""Entries of ``HostConfig.Mounts`` and modes of ``Binds``: what they come to, and dockerd's words for those that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
from coved.containers import mount_request
from coved.containers.mountpoints import MountPoint, collect, inherit
from coved.errors import InvalidParameter

HOST: dict[str, Any] = {"Binds": None, "Mounts": None, "Tmpfs": None, "VolumeDriver": ""}


def asked(**host: Any) -> list[MountPoint]:
    return collect({"Volumes": None}, {**HOST, **host}, [])


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"Type": "bind", "Source": "/a"}, "field Target must not be empty"),
        ({"Type": "bind", "Target": "/"}, "invalid specification: destination can't be '/'"),
        ({"Type": "bind", "Target": "/a/..", "Source": "/b"}, "invalid specification: destination can't be '/'"),
        ({"Type": "volume", "Target": "d"}, "invalid mount path: 'd' mount path must be absolute"),
        ({"Type": "bind", "Target": "/d"}, "field Source must not be empty"),
        ({"Type": "bind", "Target": "/d", "Source": "a"}, "invalid mount path: 'a' mount path must be absolute"),
        ({"Type": "bind", "Target": "/d", "Source": "/no/such"}, "bind source path does not exist: /no/such"),
        (
            {"Type": "bind", "Target": "/d", "Source": "/tmp", "BindOptions": {"Propagation": "x"}},
            "invalid propagation mode: x",
        ),
        (
            {"Type": "bind", "Target": "/d", "Source": "/tmp", "VolumeOptions": {}},
            "field VolumeOptions must not be specified",
        ),
        ({"Type": "volume", "Target": "/d", "BindOptions": {}}, "field BindOptions must not be specified"),
        (
            {"Type": "volume", "Target": "/d", "ReadOnly": True},
            "must not set ReadOnly mode when using anonymous volumes",
        ),
        (
            {"Type": "volume", "Target": "/d", "VolumeOptions": {"Subpath": "a"}},
            "must not set Subpath when using anonymous volumes",
        ),
        *(
            (
                {"Type": "volume", "Target": "/d", "Source": "v", "VolumeOptions": {"Subpath": path}},
                "subpath must be a relative path within the volume",
            )
            for path in ("/a", "..", "a/../..", "./../a")
        ),
        ({"Type": "tmpfs", "Target": "/d", "Source": "x"}, "field Source must not be specified"),
        ({"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"Options": [["bogus"]]}}, 'invalid tmpfs option "bogus"'),
        ({"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"Options": [[]]}}, "invalid option array length"),
        ({"Type": "image", "Target": "/d"}, "field Source must not be empty"),
        ({"Type": "npipe", "Target": "/d", "Source": "x"}, "mount type unknown"),
        ({"Target": "/d", "Source": "x"}, "mount type unknown"),
    ],
)
def test_what_is_wrong(raw: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        mount_request.parse(raw)
    assert str(refused.value) == f'invalid mount config for type "{raw.get("Type", "")}": {problem}'


@pytest.mark.parametrize(
    "raw",
    [
        {"Type": 1, "Target": "/d"},
        {"Type": "volume", "Target": "/d", "VolumeOptions": []},
        {"Type": "volume", "Target": "/d", "VolumeOptions": {"Labels": {"a": 1}}},
        {"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"SizeBytes": True}},
        {"Type": "bind", "Target": "/d", "Source": "/tmp\0/x"},
        {"Type": "bind", "Target": "/d", "Source": "/tmp", "ReadOnly": "yes"},
    ],
)
def test_wrong_types_are_no_accident(raw: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match="invalid JSON"):
        mount_request.parse(raw)


def test_what_is_right() -> None:
    volume = mount_request.parse(
        {
            "type": "volume", "target": "/d/", "source": "v",
            "volumeoptions": {"NoCopy": True, "Labels": {"Key": "V"}, "DriverConfig": {"Name": "local", "Options": {"Type": "t"}}},
        }
    )  # fmt: skip
    assert (volume.kind, volume.destination, volume.source, volume.copy) == ("volume", "/d", "v", False)
    assert (volume.labels, volume.driver, volume.driver_options) == ({"Key": "V"}, "local", {"Type": "t"})
    assert not volume.anonymous
    nameless = mount_request.parse({"Type": "volume", "Target": "/d"})
    assert nameless.anonymous and len(nameless.source) == 64
    bind = mount_request.parse(
        {"Type": "bind", "Target": "/d", "Source": "/tmp/", "ReadOnly": True, "BindOptions": {"NonRecursive": True}}
    )
    assert (bind.source, bind.writable, bind.recursive, bind.read_only_below) == ("/tmp", False, False, True)
    options = {"SizeBytes": 1 << 20, "Mode": 0o1700, "Options": [["exec"], ["uid", "5"]]}
    tmpfs = mount_request.parse({"Type": "tmpfs", "Target": "/d", "ReadOnly": True, "TmpfsOptions": options})
    assert tmpfs.options == "ro,size=1048576,mode=1700,exec,uid=5"


@pytest.mark.parametrize(
    "mode", ["zz", "ro,rw", "ro,ro", "z,Z", "nocopy,copy", "copy", "shared,private", "cached,delegated", ""]
)
def test_modes_that_are_none(mode: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^invalid mode: {mode}$"):
        asked(Binds=[f"v:/d:{mode}"])


def test_modes_of_the_other_kind() -> None:
    for bind, field in (("vv:/d:rshared", "BindOptions"), ("/tmp:/d:ro,nocopy", "VolumeOptions")):
        kind = "bind" if bind.startswith("/") else "volume"
        with pytest.raises(InvalidParameter) as refused:
            asked(Binds=[bind])
        assert str(refused.value) == (
            f"invalid volume specification: '{bind}': invalid mount config for type \"{kind}\": field {field} must not be specified"
        )


def test_what_others_volumes_are_here() -> None:
    mounts = asked(Binds=["vv:/d:ro,z", "/tmp:/e"], Tmpfs={"/t": ""}, Mounts=[{"Type": "volume", "Target": "/f"}])
    taken = {mount.destination: mount for mount in inherit(mounts, "rw,slave")}
    assert sorted(taken) == ["/d", "/e", "/f"]
    assert not taken["/d"].writable and taken["/d"].mode == "" and not taken["/d"].copy
    assert taken["/e"].writable and taken["/e"].propagation == "slave" and taken["/d"].propagation == ""
    assert not any(mount.writable for mount in inherit(mounts, "ro"))
    for mode in ("nocopy", "zz", "ro,rw"):
        with pytest.raises(InvalidParameter, match=f"^invalid mode: {mode}$"):
            inherit(mounts, mode)
