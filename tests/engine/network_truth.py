"""What dockerd answers to requests of networks, recorded once: `python tests/engine/network_truth.py SOCKET` asks the dockerd at
that socket (28.5, API 1.51, with busybox:latest) and writes tests/data/dockerd-networks.json, which the tests hold ours against.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from raw_client import ask

FILE = Path(__file__).parents[1] / "data" / "dockerd-networks.json"
_BRIDGE = "com.docker.network.bridge."
_NETWORK = "truth"

CREATIONS: dict[str, dict[str, Any]] = {}
"""By what is special about them: bodies of POST /networks/create."""


def _ipam(*config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"IPAM": {"Config": [*config], **more}}


def _case(name: str, *parts: dict[str, Any], **more: Any) -> None:
    assert name not in CREATIONS, name
    CREATIONS[name] = {key: value for part in (*parts, more) for key, value in part.items()}


FOUR, SIX = {"Subnet": "10.231.0.0/24"}, {"Subnet": "fd00:aa::/64"}

_case("nothing")
_case("ipv6", EnableIPv6=True)
_case("ipv6, subnet of ipv6", _ipam(SIX), EnableIPv6=True)
_case("ipv6, both subnets, the other way round", _ipam(SIX, FOUR), EnableIPv6=True)
_case("ipv6, gateway", _ipam({**SIX, "Gateway": "fd00:aa::99"}), EnableIPv6=True)
_case("ipv6, range", _ipam({**SIX, "IPRange": "fd00:aa::8000/113"}), EnableIPv6=True)
_case("ipv6, auxiliary", _ipam({**SIX, "AuxiliaryAddresses": {"one": "fd00:aa::5"}}), EnableIPv6=True)
_case("ipv6 alone", EnableIPv4=False, EnableIPv6=True)
_case("ipv6 alone, subnet", _ipam(SIX), EnableIPv4=False, EnableIPv6=True)
_case("ipv6 alone, subnet of ipv4", _ipam(FOUR), EnableIPv4=False, EnableIPv6=True)
_case("neither", EnableIPv4=False)
_case("neither, subnet", _ipam(FOUR), EnableIPv4=False)
_case("ipv4, subnet of ipv6", _ipam(SIX))
_case("ipv4, both subnets", _ipam(SIX, FOUR))
_case("ipv6 by option", Options={"com.docker.network.enable_ipv6": "true"})
_case("ipv6 by a wrong option", Options={"com.docker.network.enable_ipv6": "x"})
_case("the request before the option", Options={"com.docker.network.enable_ipv6": "true"}, EnableIPv6=False)
for _subnet in (
    "fd00:aa::1/64",
    "fe80::/64",
    "fe80::/80",
    "ff02::/64",
    "::/0",
    "fd00:aa::/126",
    "fd00:aa::/127",
    "fd00:aa::/128",
):
    _case(f"ipv6 {_subnet}", _ipam({"Subnet": _subnet}), EnableIPv6=True)
_case("two subnets of ipv6", _ipam(SIX, {"Subnet": "fd00:bb::/64"}), EnableIPv6=True)
_case("two subnets", _ipam(FOUR, {"Subnet": "10.232.0.0/24"}))
for _subnet in (
    "10.231.0.1/24", "10.231.0.0", "nonsense", "10.231.0.0/33", "10.231.0.0/08", "10.231.0.0/32", "10.231.0.0/31",
    "10.231.0.0/30", "0.0.0.0/0", "127.0.0.0/24", "169.254.0.0/16", "172.17.5.0/24", "172.0.0.0/8",
):  # fmt: skip
    _case(f"subnet {_subnet}", _ipam({"Subnet": _subnet}))
for _key, _values in {
    "Gateway": ["10.231.0.254", "10.232.0.1", "fd00::1", "10.231.0.0", "10.231.0.255", "10.231.0.1/24", "foo"],
    "IPRange": [
        "10.231.0.128/25",
        "10.231.0.129/25",
        "10.231.0.0/16",
        "10.232.0.0/25",
        "fd00::/65",
        "x",
        "10.231.0.0/24",
    ],
}.items():
    for _value in _values:
        _case(f"{_key} {_value}", _ipam({**FOUR, _key: _value}))
for _value in ("10.231.0.9", "10.232.0.9", "foo", "10.231.0.1", "10.231.0.0"):
    _case(f"auxiliary {_value}", _ipam({**FOUR, "AuxiliaryAddresses": {"a": _value}}))
_case("gateway in no subnet", _ipam({"Gateway": "10.231.0.1"}))
_case("much is wrong", _ipam({"Subnet": "10.231.0.9/24", "Gateway": "x", "IPRange": "y"}, {"Subnet": "z"}))
_case("way out", _ipam({**FOUR, "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.231.0.9"}}))
_case("range and gateway", _ipam({**FOUR, "IPRange": "10.231.0.128/25", "Gateway": "10.231.0.1"}))
_case("internal", Internal=True)
_case("internal, ipv6", Internal=True, EnableIPv6=True)
_case("attachable", Attachable=True)
_case("ingress", Ingress=True)
for _scope in ("swarm", "local", "global", "nonsense"):
    _case(f"scope {_scope}", Scope=_scope)
_case("configuration", ConfigOnly=True)
_case(
    "configuration of much", _ipam(SIX, FOUR, Options={"a": "b"}), ConfigOnly=True, EnableIPv6=True, Labels={"a": "b"},
    Options={"com.docker.network.driver.mtu": "1400"},
)  # fmt: skip
for _key in ("Internal", "Attachable", "Ingress"):
    _case(f"configuration, {_key}", {_key: True}, ConfigOnly=True)
_case("configuration, scope", ConfigOnly=True, Scope="local")
_case("configuration of a configuration", ConfigOnly=True, ConfigFrom={"Network": "x"})
for _name in ("nothere", "bridge"):
    _case(f"from {_name}", ConfigFrom={"Network": _name})
_case("from nothere, subnet", _ipam(FOUR), ConfigFrom={"Network": "nothere"})
_case("from nothere, options", Options={"a": "b"}, ConfigFrom={"Network": "nothere"})
for _driver in ("host", "null", "none", "nothere", "overlay"):
    _case(f"driver {_driver}", Driver=_driver)
for _driver in ("default", "null", "nothere"):
    _case(f"ipam driver {_driver}", _ipam(Driver=_driver))
_case("options of ipam", _ipam(Options={"a": "b"}))
for _option, _values in {
    "enable_icc": ["false", "x"],
    "enable_ip_masquerade": ["F", "x"],
    "inhibit_ipv4": ["true", "x"],
    "host_binding_ipv4": ["127.0.0.1", "x"],
    "gateway_mode_ipv4": ["nat", "nat-unprotected", "isolated", "x"],
    "gateway_mode_ipv6": ["nat-unprotected", "x"],
    "name": ["truth0", "docker0", ""],
}.items():
    for _value in _values:
        _case(f"{_option}={_value}", Options={f"{_BRIDGE}{_option}": _value})
_case("isolated", Internal=True, Options={f"{_BRIDGE}gateway_mode_ipv4": "isolated"})
for _value in ("1400", "0", "-1", "x"):
    _case(f"mtu={_value}", Options={"com.docker.network.driver.mtu": _value})
_case("labels and options", Options={"a": "b"}, Labels={"c": ""})
for _name in ("", " ", "bridge", "host", "none", "default"):
    _case(f"name {_name!r}", Name=_name)

_NETWORKS = {
    "t4": _ipam({"Subnet": "10.241.0.0/24"}),
    "t6": {**_ipam({"Subnet": "10.242.0.0/24"}, {"Subnet": "fd00:42::/64"}), "EnableIPv6": True},
    "tauto": {"EnableIPv6": True},
    "tcfg": {"ConfigOnly": True},
    "ttiny": _ipam({"Subnet": "10.243.0.0/32"}),
}
ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    f"{network} {json.dumps(settings)}": (network, settings)
    for network, settings in (
        ("t4", {"IPAMConfig": {"IPv4Address": "10.241.0.50"}}),
        ("t4", {"IPAMConfig": {"IPv4Address": "10.209.0.50"}}),
        ("t4", {"IPAMConfig": {"IPv4Address": "foo"}}),
        ("t4", {"IPAMConfig": {"IPv4Address": "0.0.0.0"}}),
        ("t4", {"IPAMConfig": {"IPv4Address": "fd00::1"}}),
        ("t4", {"IPAMConfig": {"IPv4Address": "10.241.0.1"}}),
        ("t4", {"IPAMConfig": {"IPv4Address": "10.241.0.255"}}),
        ("t4", {"IPAMConfig": {"IPv6Address": "fd00::5"}}),
        ("t4", {"IPAMConfig": {"LinkLocalIPs": ["169.254.5.5"]}}),
        ("t4", {"IPAMConfig": {"LinkLocalIPs": ["10.1.1.1"]}}),
        ("t4", {"IPAMConfig": {"LinkLocalIPs": ["foo"]}}),
        ("t4", {"GwPriority": 7, "Aliases": ["x"]}),
        ("t6", {"IPAMConfig": {"IPv6Address": "fd00:42::77"}}),
        ("t6", {"IPAMConfig": {"IPv4Address": "10.1.1.1", "IPv6Address": "fd00:d7::77"}}),
        ("t6", {"IPAMConfig": {"IPv6Address": "foo"}}),
        ("t6", {"IPAMConfig": {"IPv6Address": "10.242.0.9"}}),
        ("t6", {"IPAMConfig": {"LinkLocalIPs": ["fe80::55", "169.254.1.1"]}}),
        ("t6", {"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.eth0.log_martians=1"}}),
        ("t6", {"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}}),
        # The last of this network: dockerd 28.5 does not give back the IPv4 address that goes with it.
        ("t6", {"IPAMConfig": {"IPv6Address": "fd00:42::1"}}),
        ("tauto", {"IPAMConfig": {"IPv6Address": "fd00::5"}}),
        ("tauto", {"IPAMConfig": {"IPv4Address": "172.20.0.77"}}),
        ("tauto", {}),
        ("tcfg", {}),
        ("ttiny", {}),
        ("bridge", {"IPAMConfig": {"IPv4Address": "172.17.0.99"}}),
        ("bridge", {"Aliases": ["x"]}),
        ("host", {}),
        ("none", {}),
        ("nothere", {}),
    )
}
"""Networks to connect a running container to, and EndpointConfig."""


class Daemon:
    """One engine, and what it answers with all that is by chance taken out."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        given = json.dumps(body).encode() if body is not None else None
        answer = ask(self._socket, method, f"/v1.51{path}", given, {"Content-Type": "application/json"}, timeout=60)
        return answer.status, answer.json() if answer.body.startswith((b"{", b"[")) else None

    def creation(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to POST /networks/create, and what an inspect then shows."""
        status, answer = self.call("POST", "/networks/create", {"Name": _NETWORK, **body})
        if status != 201:
            return {"status": status, "message": _plain(answer["message"])}
        try:
            shown = self.call("GET", f"/networks/{answer['Id']}")[1]
        finally:
            assert self.call("DELETE", f"/networks/{answer['Id']}")[0] == 204
        shown = {key: value for key, value in shown.items() if key not in ("Id", "Created", "Name")}
        return {"status": status, "shown": json.loads(_plain(json.dumps(shown)))}

    def connections(self, cases: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        """The answers to POST /networks/{id}/connect, and the endpoints that came of it."""
        for name, body in _NETWORKS.items():
            assert self.call("POST", "/networks/create", {"Name": name, **body})[0] == 201, name
        container = {"Image": "busybox", "Cmd": ["sleep", "900"], "HostConfig": {"NetworkMode": "bridge"}}
        answers = {}
        try:
            for case, (network, settings) in cases.items():
                identity = self.call("POST", "/containers/create?name=truth", container)[1]["Id"]
                try:
                    assert self.call("POST", f"/containers/{identity}/start")[0] == 204
                    if network == "bridge":
                        assert self.call("POST", "/networks/bridge/disconnect", {"Container": identity})[0] == 200
                    answers[case] = self._connection(identity, network, settings)
                finally:
                    self.call("DELETE", f"/containers/{identity}?force=1")
        finally:
            for name in _NETWORKS:
                self.call("DELETE", f"/networks/{name}")
        return answers

    def _connection(self, container: str, network: str, settings: dict[str, Any]) -> dict[str, Any]:
        status, answer = self.call(
            "POST", f"/networks/{network}/connect", {"Container": container, "EndpointConfig": settings}
        )
        if status != 200:
            return {"status": status, "message": _plain(answer["message"])}
        found = self.call("GET", f"/containers/{container}/json")[1]["NetworkSettings"]["Networks"][network]
        shown = ("IPAMConfig", "GwPriority", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address",
                 "GlobalIPv6PrefixLen", "Aliases", "Links", "DriverOpts")  # fmt: skip
        return {"status": status, "shown": json.loads(_plain(json.dumps({key: found[key] for key in shown})))}


def _plain(text: str) -> str:
    """Without ids and without addresses of the engine's own choice."""
    text = re.sub(r"[0-9a-f]{64}", "ID", text)
    text = re.sub(r"\b172\.(1[6-9]|2\d|3[01])\.0\.", "172.N.0.", text)
    return re.sub(r"\bfd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}:(:|[0-9a-f]{1,4}::)", "ULA::", text)


def play(daemon: Daemon) -> dict[str, Any]:
    return {
        "creations": {case: daemon.creation(body) for case, body in CREATIONS.items()},
        "connections": daemon.connections(ENDPOINTS),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(play(Daemon(sys.argv[1])), indent=1, sort_keys=True) + "\n")
