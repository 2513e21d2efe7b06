"""`network create|ls|rm|connect|disconnect`."""

from __future__ import annotations

import sys
from typing import Any

from cove.cli import format as fmt
from cove.cli.client import filters, quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import Values, filters_flag, format_flag, integer, several, switch, text
from cove.cli.run_options import pairs
from cove.cli.values import label, link

HEADERS = {
    "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
    "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
}  # fmt: skip


def _split(items: list[str]) -> list[str]:
    return [part for item in items if item for part in item.split(",")]


def create(context: Context, values: Values) -> int:
    """`cove network create`"""
    from cove.cli.ipam import ipam_config

    name = values.args[0]
    body: dict[str, Any] = {
        "Name": name,
        "Driver": values["driver"],
        "Scope": values["scope"],
        "IPAM": {
            "Driver": values["ipam-driver"],
            "Options": pairs(values["ipam-opt"]),
            "Config": ipam_config(
                _split(values["subnet"]),
                _split(values["ip-range"]),
                _split(values["gateway"]),
                pairs(values["aux-address"]),
            ),
        },
        "Internal": values["internal"],
        "Attachable": values["attachable"],
        "Ingress": values["ingress"],
        "ConfigOnly": values["config-only"],
        "ConfigFrom": {"Network": values["config-from"]} if values["config-from"] else None,
        "Options": pairs(values["opt"]),
        "Labels": pairs(values["label"]),
    }
    for flag, field in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if values.changed(flag):
            body[field] = values[flag]
    print(context.engine.json("POST", "/networks/create", body=body)["Id"])
    return 0


def ls(context: Context, values: Values) -> int:
    """`cove network ls`"""
    filtered = filters(values["filter"])
    items = sorted(context.engine.json("GET", "/networks", {"filters": filtered}), key=lambda item: str(item["Name"]))
    truncate, form = not values["no-trunc"], values["format"]
    rows = []
    for item in items:
        labels = item.get("Labels") or {}
        rows.append(
            {
                "ID": fmt.short_id(item["Id"]) if truncate else item["Id"],
                "Name": item["Name"],
                "Driver": item["Driver"],
                "Scope": item["Scope"],
                "IPv4": str(item.get("EnableIPv4", False)).lower(),
                "IPv6": str(item.get("EnableIPv6", False)).lower(),
                "Internal": str(item.get("Internal", False)).lower(),
                "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
                "CreatedAt": fmt.go_time(item.get("Created", "")),
                "Label": fmt.label_of(labels),
            }
        )
    if values["quiet"] and form in ("", "table"):
        for row in rows:
            print(row["ID"])
        return 0
    sys.stdout.write(fmt.render(rows, form, HEADERS, ("ID", "Name", "Driver", "Scope"), "network.networkContext"))
    return 0


def rm(context: Context, values: Values) -> int:
    """`cove network rm`: every failure is told at once, the others go on."""
    failed = False
    for name in values.args:
        try:
            context.engine.json("DELETE", f"/networks/{quote(name)}")
        except DaemonError as error:
            if values["force"] and error.code == 404:
                continue
            print(error.message, file=sys.stderr)
            failed = True
        else:
            print(name, flush=True)
    if failed:
        raise CliError("exit status 1")
    return 0


def connect(context: Context, values: Values) -> int:
    """`cove network connect`"""
    network, container = values.args
    ipam = {
        field: value
        for field, value in (
            ("IPv4Address", values["ip"]),
            ("IPv6Address", values["ip6"]),
            ("LinkLocalIPs", values["link-local-ip"]),
        )
        if value
    }
    endpoint = {
        "IPAMConfig": ipam,
        "Links": values["link"] or None,
        "Aliases": _split(values["alias"]) or None,
        "DriverOpts": pairs(values["driver-opt"]) or None,
        "GwPriority": values["gw-priority"],
    }
    body = {"Container": container, "EndpointConfig": endpoint}
    context.engine.json("POST", f"/networks/{quote(network)}/connect", body=body)
    return 0


def disconnect(context: Context, values: Values) -> int:
    """`cove network disconnect`"""
    network, container = values.args
    body = {"Container": container, "Force": values["force"]}
    context.engine.json("POST", f"/networks/{quote(network)}/disconnect", body=body)
    return 0


COMMANDS = {
    "network create": Command(
        create,
        "Create a network",
        "NETWORK",
        (
            switch("attachable", "", "Enable manual container attachment"),
            several("aux-address", "", "Auxiliary IPv4 or IPv6 addresses used by Network driver", kind="map"),
            text("config-from", "", "The network from which to copy the configuration"),
            switch("config-only", "", "Create a configuration only network"),
            text("driver", "d", "Driver to manage the Network", "bridge"),
            several("gateway", "", "IPv4 or IPv6 Gateway for the master subnet", kind="strings"),
            switch("ingress", "", "Create swarm routing-mesh network"),
            switch("internal", "", "Restrict external access to the network"),
            several("ip-range", "", "Allocate container ip from a sub-range", kind="strings"),
            text("ipam-driver", "", "IP Address Management Driver", "default"),
            several("ipam-opt", "", "Set IPAM driver specific options", kind="map"),
            switch("ipv4", "", "Enable or disable IPv4 address assignment", True),
            switch("ipv6", "", "Enable or disable IPv6 address assignment"),
            several("label", "", "Set metadata on a network", label),
            several("opt", "o", "Set driver specific options", kind="map"),
            text("scope", "", "Control the network's scope"),
            several("subnet", "", "Subnet in CIDR format that represents a network segment", kind="strings"),
        ),
        least=1,
        most=1,
    ),
    "network ls": Command(
        ls,
        "List networks",
        "",
        (
            filters_flag(help='Provide filter values (e.g. "driver=bridge")'),
            format_flag(),
            switch("no-trunc", "", "Do not truncate the output"),
            switch("quiet", "q", "Only display network IDs"),
        ),
        most=0,
    ),
    "network rm": Command(
        rm,
        "Remove one or more networks",
        "NETWORK [NETWORK...]",
        (switch("force", "f", "Do not error if the network does not exist"),),
        least=1,
        bare=True,  # docker's own, though it tells of the option below
    ),
    "network connect": Command(
        connect,
        "Connect a container to a network",
        "NETWORK CONTAINER",
        (
            several("alias", "", "Add network-scoped alias for the container", kind="strings"),
            several("driver-opt", "", "driver options for the network", kind="strings"),
            integer(
                "gw-priority",
                "",
                "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
            ),
            text("ip", "", 'IPv4 address (e.g., "172.30.100.104")'),
            text("ip6", "", 'IPv6 address (e.g., "2001:db8::33")'),
            several("link", "", "Add link to another container", link),
            several("link-local-ip", "", "Add a link-local address for the container", kind="strings"),
        ),
        least=2,
        most=2,
    ),
    "network disconnect": Command(
        disconnect,
        "Disconnect a container from a network",
        "NETWORK CONTAINER",
        (switch("force", "f", "Force the container to disconnect from a network"),),
        least=2,
        most=2,
    ),
}
