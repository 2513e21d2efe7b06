"""Each rule of the API's version history, just below and at the version from which it holds."""

import copy
from typing import Any

import pytest
from coved.api import compat
from coved.errors import InvalidParameter
from coved.versions import ApiVersion, split_path

NEWEST = (1, 51)


def host_of(version: ApiVersion, **host: Any) -> dict[str, Any]:
    body = compat.container_create({"Image": "x", "HostConfig": host}, version)
    result: dict[str, Any] = body["HostConfig"]
    return result


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((1, 39), {"IpcMode": "shareable", "CgroupnsMode": "host"}),
        ((1, 40), {"CgroupnsMode": "host"}),
        ((1, 41), {}),
    ],
)
def test_namespaces_that_nobody_chose(version: ApiVersion, expected: dict[str, str]) -> None:
    assert host_of(version) == expected
    body = compat.container_create({"Image": "x"}, version)
    assert body.get("HostConfig", {}) == expected
    assert host_of(version, IpcMode="private", CgroupnsMode="private") == {
        "IpcMode": "private",
        "CgroupnsMode": "private",
    }


@pytest.mark.parametrize(
    ("field", "value", "since"), [("ConsoleSize", [1, 2], (1, 42)), ("Annotations", {"a": "b"}, (1, 43))]
)
@pytest.mark.parametrize("spelling", [str, str.lower])
def test_fields_that_came_later_are_not_seen(field: str, value: Any, since: ApiVersion, spelling: Any) -> None:
    older = (since[0], since[1] - 1)
    assert spelling(field) not in host_of(older, **{spelling(field): value})
    assert host_of(since, **{spelling(field): value})[spelling(field)] == value


def test_what_a_health_check_and_an_endpoint_did_not_have() -> None:
    body = {
        "Healthcheck": {"Interval": 1, "StartInterval": 2},
        "NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "02:00:00:00:00:01"}}},
    }
    older = compat.container_create(copy.deepcopy(body), (1, 43))
    assert older["Healthcheck"] == {"Interval": 1}
    assert older["NetworkingConfig"]["EndpointsConfig"]["bridge"] == {}
    newer = compat.container_create(copy.deepcopy(body), (1, 44))
    assert newer == body


def test_one_network_at_creation() -> None:
    body = {"NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}}
    with pytest.raises(InvalidParameter, match="Container cannot be created with multiple network endpoints: a, b"):
        compat.container_create(copy.deepcopy(body), (1, 43))
    assert compat.container_create(copy.deepcopy(body), (1, 44)) == body


@pytest.mark.parametrize(
    ("mount", "version", "message"),
    [
        ({"Type": "volume", "VolumeOptions": {"Subpath": "a"}}, (1, 44), "VolumeOptions.Subpath needs API v1.45"),
        ({"Type": "volume", "BindOptions": {}}, (1, 42), 'BindOptions must not be specified on mount type "volume"'),
        ({"Type": "tmpfs", "BindOptions": {}}, (1, 41), "field BindOptions must not be specified"),
        ({"Type": "tmpfs", "TmpfsOptions": {"Options": [["ro"]]}}, (1, 45), "TmpfsOptions.Options needs API v1.46"),
        ({"Type": "image"}, (1, 47), "needs API v1.48"),
        ({"Type": "bind", "BindOptions": {"ReadOnlyForceRecursive": True}}, (1, 43), "needs API v1.44"),
    ],
)
def test_mounts_that_came_later_are_refused(mount: dict[str, Any], version: ApiVersion, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        host_of(version, Mounts=[copy.deepcopy(mount)])
    assert message in str(refusal.value)


def test_mounts_of_the_newest_version_pass() -> None:
    mounts = [
        {"Type": "volume", "VolumeOptions": {"Subpath": "a"}},
        {
            "Type": "bind",
            "BindOptions": {"CreateMountpoint": True, "NonRecursive": True, "ReadOnlyForceRecursive": True},
        },
        {"Type": "tmpfs", "TmpfsOptions": {"Options": [["ro"]]}},
        {"Type": "image"},
    ]
    assert host_of(NEWEST, Mounts=copy.deepcopy(mounts))["Mounts"] == mounts
    older = host_of((1, 39), Mounts=[{"Type": "bind", "BindOptions": {"CreateMountpoint": True, "NonRecursive": True}}])
    assert older["Mounts"] == [{"Type": "bind", "BindOptions": {}}]


@pytest.mark.parametrize("odd", [1, "x", [], None, [None, 1, "x", [], {}]])
@pytest.mark.parametrize(
    "field", ["HostConfig", "NetworkingConfig", "Healthcheck", "Mounts", "EndpointsConfig", "Type"]
)
def test_odd_types_are_left_to_those_who_read_them(field: str, odd: Any) -> None:
    bodies = {
        "Mounts": {"HostConfig": {"Mounts": odd}},
        "Type": {"HostConfig": {"Mounts": [{"Type": odd, "BindOptions": odd, "VolumeOptions": odd}]}},
        "EndpointsConfig": {"NetworkingConfig": {"EndpointsConfig": odd}},
    }
    for version in ((1, 24), (1, 42), NEWEST):
        compat.container_create(copy.deepcopy(bodies.get(field, {field: odd})), version)


def test_updates() -> None:
    assert compat.container_update({"pidslimit": 1, "Memory": 2}, (1, 39)) == {"Memory": 2}
    assert compat.container_update({"PidsLimit": 1}, (1, 40)) == {"PidsLimit": 1}


def test_inspections_of_containers() -> None:
    def shown(version: ApiVersion) -> dict[str, Any]:
        endpoints = {"own": {"Aliases": ["a"]}, "bridge": {"Aliases": None}}
        return compat.container_inspect(
            {"Id": "0123456789abcdef", "State": {"Status": "removing"}, "HostConfig": {},
             "NetworkSettings": {"Networks": endpoints}},
            version,
        )  # fmt: skip

    assert shown((1, 24))["State"]["Status"] == "exited"
    assert shown((1, 25))["State"]["Status"] == "removing"
    assert shown((1, 41))["HostConfig"] == {"KernelMemory": 0, "KernelMemoryTCP": 0}
    assert shown((1, 42))["HostConfig"] == {}
    assert shown((1, 44))["NetworkSettings"]["Networks"]["own"]["Aliases"] == ["a", "0123456789ab"]
    assert shown((1, 44))["NetworkSettings"]["Networks"]["bridge"]["Aliases"] is None
    assert shown((1, 45))["NetworkSettings"]["Networks"]["own"]["Aliases"] == ["a"]


def test_lists_of_containers() -> None:
    fields = {"State": "removing", "HostConfig": {"NetworkMode": "none", "Annotations": {"a": "b"}}}
    assert compat.container_summary(copy.deepcopy(fields), (1, 24))["State"] == "exited"
    assert "Annotations" not in compat.container_summary(copy.deepcopy(fields), (1, 45))["HostConfig"]
    assert compat.container_summary(copy.deepcopy(fields), (1, 46)) == fields


def test_images() -> None:
    fields = {"RepoTags": [], "RepoDigests": [], "Size": 5}
    assert compat.image_summary(dict(fields), (1, 42)) == {
        "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"], "Size": 5, "VirtualSize": 5
    }  # fmt: skip
    assert compat.image_summary(dict(fields), (1, 43)) == {**fields, "VirtualSize": 5}
    assert compat.image_summary(dict(fields), (1, 44)) == fields

    def inspected(version: ApiVersion) -> dict[str, Any]:
        return compat.image_inspect({"Size": 5, "Config": {"User": "u"}}, version)

    assert inspected((1, 43))["VirtualSize"] == 5 and inspected((1, 43))["Created"] == "0001-01-01T00:00:00Z"
    assert "VirtualSize" not in inspected((1, 44)) and "Created" not in inspected((1, 44))
    assert inspected((1, 44))["Container"] == "" and inspected((1, 44))["ContainerConfig"]["Cmd"] is None
    assert "ContainerConfig" not in inspected((1, 45))
    assert inspected((1, 49))["Config"]["Hostname"] == "" and inspected((1, 49))["Config"]["User"] == "u"
    assert inspected((1, 50)) == {"Size": 5, "Config": {"User": "u"}}


def test_info() -> None:
    def shown(version: ApiVersion) -> dict[str, Any]:
        commit = {"ID": "x"}
        return compat.info(
            {"SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"], "KernelVersion": "", "OperatingSystem": "",
             "Runtimes": {"runc": {"path": "runc", "status": {}}}, "CDISpecDirs": [], "RegistryConfig": {},
             "ContainerdCommit": commit, "RuncCommit": commit, "InitCommit": commit, "FirewallBackend": {},
             "DiscoveredDevices": []},
            version,
        )  # fmt: skip

    assert shown((1, 24))["SecurityOptions"] == ["seccomp", "cgroupns"]
    assert shown((1, 24))["ExecutionDriver"] == "<not supported>"
    assert shown((1, 25))["SecurityOptions"][0] == "name=seccomp,profile=builtin"
    assert shown((1, 38))["KernelVersion"] == "<unknown>" and shown((1, 39))["KernelVersion"] == ""
    assert shown((1, 41))["KernelMemory"] is False and "KernelMemory" not in shown((1, 42))
    assert "CDISpecDirs" not in shown((1, 43)) and shown((1, 44))["CDISpecDirs"] == []
    assert "status" not in shown((1, 43))["Runtimes"]["runc"] and "status" in shown((1, 44))["Runtimes"]["runc"]
    assert shown((1, 48))["RuncCommit"] == {"ID": "x", "Expected": "x"} and shown((1, 49))["RuncCommit"] == {"ID": "x"}
    assert shown((1, 48))["RegistryConfig"] and not shown((1, 49))["RegistryConfig"]
    assert "FirewallBackend" not in shown((1, 48)) and "FirewallBackend" in shown((1, 49))
    assert shown((1, 49))["BridgeNfIptables"] is False and "BridgeNfIptables" not in shown((1, 50))


def test_small_things() -> None:
    assert compat.disk_usage({}, (1, 41)) == {"BuilderSize": 0} and compat.disk_usage({}, (1, 42)) == {}
    assert compat.wait_condition("removed", (1, 29)) == "not-running"
    assert compat.wait_condition("removed", (1, 30)) == "removed" and compat.wait_condition("", NEWEST) == "not-running"
    assert compat.stop_signal("INT", (1, 41)) == "" and compat.stop_signal("INT", (1, 42)) == "INT"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1.24/info", ((1, 24), "/info")),
        ("/v1.51/", (NEWEST, "/")),
        ("/v1.040/info", ((1, 40), "/info")),
        ("/v1.51", (NEWEST, "/v1.51")),
        ("/version", (NEWEST, "/version")),
        ("/volumes/v1.9", (NEWEST, "/volumes/v1.9")),
        ("/vx/info", (NEWEST, "/vx/info")),
    ],
)
def test_versions_in_paths(path: str, expected: tuple[ApiVersion, str]) -> None:
    assert split_path(path) == expected


@pytest.mark.parametrize("version", ["1", "1.9", "1.23", "0", ".", "..", "0.99"])
def test_versions_that_are_too_old(version: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        split_path(f"/v{version}/info")
    assert str(refusal.value) == (
        f"client version {version} is too old. Minimum supported API version is 1.24, "
        "please upgrade your client to a newer version"
    )


@pytest.mark.parametrize("version", ["1.52", "2", "2.0", "1.45.1", "9" * 200, "1." + "9" * 30])
def test_versions_that_are_too_new(version: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        split_path(f"/v{version}/info")
    assert str(refusal.value) == f"client version {version} is too new. Maximum supported API version is 1.51"
