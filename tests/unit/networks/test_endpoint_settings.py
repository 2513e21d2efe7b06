"""EndpointSettings are what the API says they are, or refused."""

from __future__ import annotations

from typing import Any

import pytest
from coved.containers import config
from coved.errors import InvalidParameter
from coved.networks import EndpointRequest
from coved.networks.endpoint_settings import parse


@pytest.mark.parametrize("settings", [None, {}, {"IPAMConfig": None, "Aliases": None, "DriverOpts": None}])
def test_what_is_null_or_absent_is_not_asked_for(settings: Any) -> None:
    assert parse("web", settings) == EndpointRequest("web")


def test_all_that_is_asked_for_arrives_also_of_a_create() -> None:
    settings = {
        "IPAMConfig": {"IPv4Address": "10.1.2.3"},
        "MacAddress": "02:00:00:00:00:01",
        "Aliases": ["a", "b"],
        "DriverOpts": {"k": "v"},
        "Gateway": "an inspect's, which is passed over",
    }
    wanted = EndpointRequest("web", "10.1.2.3", "02:00:00:00:00:01", ("a", "b"), {"k": "v"})
    assert parse("web", settings) == wanted
    body = {"Image": "x", "Cmd": ["x"], "NetworkingConfig": {"EndpointsConfig": {"web": settings, "default": None}}}
    assert config.parse(body, {}).endpoints == (wanted, EndpointRequest("bridge"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], "the endpoint of network web must be an object"),
        ("", "the endpoint of network web must be an object"),
        (
            {"IPAMConfig": {"LinkLocalIPs": "x"}},
            "LinkLocalIPs in the endpoint of network web must be an array of strings",
        ),
        ({"GwPriority": "1"}, "GwPriority in the endpoint of network web must be a number"),
        ({"GwPriority": True}, "GwPriority in the endpoint of network web must be a number"),
        ({"IPAMConfig": 7}, "IPAMConfig in the endpoint of network web must be an object"),
        ({"IPAMConfig": {"IPv4Address": 7}}, "IPv4Address in the endpoint of network web must be a string"),
        ({"MacAddress": ["02:00:00:00:00:01"]}, "MacAddress in the endpoint of network web must be a string"),
        ({"Aliases": "a"}, "Aliases in the endpoint of network web must be an array of strings"),
        ({"Aliases": ["a", 7]}, "Aliases in the endpoint of network web must be an array of strings"),
        ({"DriverOpts": {"k": {}}}, "DriverOpts in the endpoint of network web must be an object of strings"),
    ],
)
def test_another_type_is_refused(settings: Any, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        parse("web", settings)
