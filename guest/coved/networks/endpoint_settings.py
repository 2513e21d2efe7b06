"""EndpointSettings of the Engine API, as a create's NetworkingConfig and a network's connect bring them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coved.errors import InvalidParameter
from coved.networks.model import EndpointRequest


def parse(network: str, settings: object) -> EndpointRequest:
    """What is wanted of ``network``. Nothing that is null or absent is asked for.

    Raises InvalidParameter for what has another type than the API's.
    """
    where = f"the endpoint of network {network}"
    config = _typed(settings, dict, {}, where, "an object")
    ipam = _typed(config.get("IPAMConfig"), dict, {}, f"IPAMConfig in {where}", "an object")
    aliases = _typed(config.get("Aliases"), list, [], f"Aliases in {where}", "an array of strings")
    links = _typed(config.get("Links"), list, [], f"Links in {where}", "an array of strings")
    options = _typed(config.get("DriverOpts"), dict, {}, f"DriverOpts in {where}", "an object of strings")
    link_local = _typed(ipam.get("LinkLocalIPs"), list, [], f"LinkLocalIPs in {where}", "an array of strings")
    priority = _typed(config.get("GwPriority"), int, 0, f"GwPriority in {where}", "a number")
    if isinstance(priority, bool) or abs(priority) >= 1 << 63:
        raise InvalidParameter(f"invalid JSON: GwPriority in {where} must be a number")
    return EndpointRequest(
        network=network,
        ipv4_address=_text(ipam, "IPv4Address", where),
        mac_address=_text(config, "MacAddress", where),
        aliases=tuple(_typed(one, str, "", f"Aliases in {where}", "an array of strings") for one in aliases),
        driver_opts={
            key: _typed(value, str, "", f"DriverOpts in {where}", "an object of strings")
            for key, value in options.items()
        },
        links=tuple(_typed(one, str, "", f"Links in {where}", "an array of strings") for one in links),
        ipv6_address=_text(ipam, "IPv6Address", where),
        link_local_ips=tuple(
            _typed(one, str, "", f"LinkLocalIPs in {where}", "an array of strings") for one in link_local
        ),
        gw_priority=priority,
    )


def _text(config: Mapping[str, Any], key: str, where: str) -> str:
    text: str = _typed(config.get(key), str, "", f"{key} in {where}", "a string")
    return text


def _typed(value: Any, kind: type, default: Any, what: str, words: str) -> Any:
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InvalidParameter(f"invalid JSON: {what} must be {words}")
    return value
