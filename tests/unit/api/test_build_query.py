"""What a classic build is asked for: read, or refused in dockerd's words before anything has begun."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from coved.api import build_query
from coved.api.query import Query
from coved.build.request import Request
from coved.errors import InvalidParameter


def read(**query: object) -> Request:
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()}
    return build_query.read(Query(urlencode(values)), (1, 51))


def test_what_is_right_is_taken() -> None:
    request = read(
        ulimits=[{"Name": "nofile", "soft": 1, "Hard": 2}, {"Name": "core"}],
        buildargs={"A": "1", "B": None},
        labels={"x": "y", "empty": None},
        extrahosts="db:10.0.0.1",
        cachefrom=["busybox"],
        shmsize="1024",
        memory="7000000",
        networkmode="container:other",
    )
    assert request.limits.ulimits == [
        {"Name": "nofile", "Soft": 1, "Hard": 2}, {"Name": "core", "Soft": 0, "Hard": 0},
    ]  # fmt: skip
    assert request.build_args == {"A": "1", "B": None} and request.labels == {"x": "y", "empty": ""}
    assert request.add_hosts == [("db", "10.0.0.1")] and request.network == "container:other"
    assert request.limits.shm_size == 1024 and request.limits.host_config == {"Memory": 7000000}
    assert request.cache_from == [{"type": "local-image", "ref": "busybox"}]
    assert read(extrahosts="v6:::1").add_hosts == [("v6", "::1")]
    assert read(extrahosts="here:host-gateway").add_hosts == [("here", "host-gateway")]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ulimits", [1], "error reading ulimit settings: json: cannot unmarshal number into Go value of type container.Ulimit"),
        ("ulimits", {}, "error reading ulimit settings: json: cannot unmarshal object into Go value of type []*container.Ulimit"),
        (
            "ulimits",
            [{"Name": "nofile", "Soft": "1"}],
            "error reading ulimit settings: json: cannot unmarshal string into Go struct field Ulimit.Soft of type int64",
        ),
        (
            "ulimits",
            [{"Name": "nofile", "Hard": True}],
            "error reading ulimit settings: json: cannot unmarshal bool into Go struct field Ulimit.Hard of type int64",
        ),
        (
            "ulimits",
            [{"Name": "nofile", "Hard": 1 << 63}],
            "error reading ulimit settings: json: cannot unmarshal number into Go struct field Ulimit.Hard of type int64",
        ),
        (
            "ulimits",
            [{"Name": []}],
            "error reading ulimit settings: json: cannot unmarshal array into Go struct field Ulimit.Name of type string",
        ),
        ("buildargs", {"A": 1}, "error reading build args: json: cannot unmarshal number into Go value of type string"),
        ("buildargs", [], "error reading build args: json: cannot unmarshal array into Go value of type map[string]*string"),
        ("labels", {"A": {}}, "error reading labels: json: cannot unmarshal object into Go value of type string"),
        ("cachefrom", [[]], "error reading cache-from: json: cannot unmarshal array into Go value of type string"),
        ("shmsize", "-1", "SHM size can not be less than 0"),
        ("shmsize", "1g", 'strconv.Atoi: parsing "1g": invalid syntax'),
        ("extrahosts", "nothing", 'bad format for add-host: "nothing"'),
        ("extrahosts", ":1.2.3.4", 'bad format for add-host: ":1.2.3.4"'),
        ("extrahosts", "a:b\nc", 'invalid IP address in add-host: "b\nc"'),
        ("networkmode", "container:", "Invalid network mode: invalid container format container:<name|id>"),
        ("securityopt", "x", "security options are not supported on linux"),
        ("isolation", "hyperv", 'unsupported isolation: "hyperv"'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        read(**{name: value})
    assert str(caught.value) == words


@pytest.mark.parametrize("name", ["ulimits", "buildargs", "labels", "cachefrom"])
def test_what_is_no_json_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^error reading "):
        read(**{name: "[" * 100_000})
    with pytest.raises(InvalidParameter, match=r"^error reading "):
        read(**{name: "{"})
