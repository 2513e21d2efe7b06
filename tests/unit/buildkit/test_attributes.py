"""What BuildKit's clients ask for, as they write it."""

from __future__ import annotations

from typing import Any

import pytest
from coved.build.request import Limits, Output, Request
from coved.buildkit import attributes, linking
from coved.buildkit.messages import CacheOptions, CacheOptionsEntry, Definition, Exporter, SolveRequest
from coved.errors import InvalidParameter

SOLVE = SolveRequest(ref="r", exporters=[Exporter("moby", {"name": "a,b:1"})])
IMAGE = (Output("image", ("a", "b:1"), 0),)


def asked(options: dict[str, str], solve: SolveRequest = SOLVE) -> Request:
    return attributes.read(solve, options, {}).request


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, {}),
        ({"filename": "D", "target": "t"}, {"dockerfile": "D", "target": "t"}),
        ({"platform": "linux/arm64,linux/amd64"}, {"platforms": ("linux/arm64", "linux/amd64")}),
        ({"no-cache": ""}, {"no_cache": True}),
        ({"no-cache": "a,b"}, {"no_cache_stages": ("a", "b")}),
        ({"image-resolve-mode": "local"}, {}),
        ({"image-resolve-mode": "pull"}, {"pull": True}),
        ({"build-arg:A": "1", "build-arg:B": ""}, {"build_args": {"A": "1", "B": ""}}),
        ({"label:a.b": "c"}, {"labels": {"a.b": "c"}}),
        ({"add-hosts": "A=1.2.3.4,b=::1"}, {"add_hosts": (("a", "1.2.3.4"), ("b", "::1"))}),
        ({"force-network-mode": "host"}, {"network": "host"}),
        ({"force-network-mode": "none"}, {"network": "none"}),
        ({"context:x": "local:x"}, {"contexts": {"x": "local:x"}}),
        ({"context": "https://g.it/x.git"}, {"context": "https://g.it/x.git", "dockerfile_in": "context"}),
        ({"context": "https://g.it/x.git", "dockerfilekey": "dockerfile"}, {"context": "https://g.it/x.git"}),
        ({"requestid": "frontend.lint"}, {"question": "check"}),
        (
            {"shm-size": "100", "ulimit": "nofile=1:2,core=0", "cgroup-parent": "c", "memory": "5", "cpusetcpus": "0"},
            {
                "limits": Limits(
                    100,
                    ({"Name": "nofile", "Soft": 1, "Hard": 2}, {"Name": "core", "Soft": 0, "Hard": 0}),
                    "c",
                    {"Memory": 5, "CpusetCpus": "0"},
                )
            },
        ),
        (
            {"cache-imports": '[{"Type":"registry","Attrs":{"ref":"x"}}]', "cache-from": "y,z"},
            {"cache_from": tuple({"type": "registry", "ref": each} for each in "xyz")},
        ),
    ],
)
def test_attributes(options: dict[str, str], changed: dict[str, Any]) -> None:
    assert asked(options) == Request(**{"outputs": IMAGE, **changed})


def test_a_context_on_standard_input() -> None:
    found = attributes.read(SOLVE, inputs={}, options={"context": "http://buildkit-session/abc"})
    assert (found.upload, found.request.context, found.request.dockerfile_in) == ("abc", "", "context")
    found = attributes.read(
        SOLVE, inputs={}, options={"context": "http://buildkit-session/abc", "dockerfilekey": "dockerfile"}
    )
    assert found.request.dockerfile_in == "dockerfile"


def test_what_another_build_has_made() -> None:
    image = "sha256:" + "7" * 64
    inputs = {"a::linux/amd64": linking.definition(image), "none": linking.definition(""), "bad": Definition([b"\xff"])}
    options = {"context:a": "input:a::linux/amd64", "context:b": "local:b"}
    found = attributes.read(SOLVE, options, inputs).request
    assert found.contexts == {"a": f"docker-image://{image}", "b": "local:b"}
    for name, message in [
        ("none", "made no image"),
        ("bad", "failed to parse llb"),
        ("other", "invalid input other for x"),
    ]:
        with pytest.raises(InvalidParameter, match=message):
            attributes.read(SOLVE, {"context:x": f"input:{name}"}, inputs)


def test_trees_by_other_names() -> None:
    found = attributes.read(
        SOLVE, inputs={}, options={"contextkey": "c", "dockerfilekey": "d", "c": "https://g.it/x.git"}
    )
    assert found.names == {"context": "c", "dockerfile": "d"}
    assert (found.request.context, found.request.dockerfile_in) == ("https://g.it/x.git", "dockerfile")


def test_what_goes_beside_the_attributes() -> None:
    caches = CacheOptions(
        exports=[CacheOptionsEntry("inline", {})], imports=[CacheOptionsEntry("registry", {"ref": "x"})]
    )
    solve = SolveRequest(ref="r", entitlements=["network.host"], cache=caches)
    found = asked({"cache-from": "x"}, solve)
    assert found.entitlements == {"network.host"}
    assert found.cache_from == ({"type": "registry", "ref": "x"},)
    assert found.cache_to == ({"type": "inline"},)
    assert found.outputs == (Output("none"),)


def test_outputs() -> None:
    solve = SolveRequest(
        exporters=[Exporter("image", {"name": "a", "push": "true"}), Exporter("local"), Exporter("tar")]
    )
    found = asked({}, solve).outputs
    assert [(each.kind, each.id) for each in found] == [
        ("image", 0),
        ("local", 1),
        ("tar", 2),
    ]
    old = SolveRequest(exporter_deprecated="moby", exporter_attrs_deprecated={"name": "x"})
    assert asked({}, old).outputs[0].names == ("x",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"add-hosts": "a"}, "invalid key-value pair a"),
        ({"add-hosts": "a=host"}, "failed to parse IP host"),
        ({"add-hosts": '"a'}, "failed to parse"),
        ({"shm-size": "1x"}, "invalid shm-size value: 1x"),
        ({"shm-size": "9" * 30}, "invalid shm-size"),
        ({"ulimit": "nofile"}, "invalid ulimit argument: nofile"),
        ({"ulimit": "nofile=5:2"}, "soft limit must be less than or equal to hard limit: 5 > 2"),
        ({"force-network-mode": "x"}, "invalid netmode x"),
        ({"image-resolve-mode": "x"}, "invalid image-resolve-mode: x"),
        ({"cache-imports": "{"}, "failed to unmarshal cache-imports"),
        ({"cache-imports": '["x"]'}, "failed to unmarshal cache-imports"),
        ({"cache-imports": "[" * 100_000}, "failed to unmarshal cache-imports"),
        ({"cache-imports": '[{"Type":"x","Attrs":[]}]'}, "failed to unmarshal cache-imports"),
        ({"requestid": "frontend.convertllb"}, "unsupported request frontend.convertllb"),
    ],
)
def test_what_cannot_be_read(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        asked(options)


def test_an_output_nobody_knows() -> None:
    with pytest.raises(InvalidParameter, match='exporter "x" could not be found'):
        asked({}, SolveRequest(exporters=[Exporter("x")]))
