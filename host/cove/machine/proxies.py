"""By which proxies a machine reaches the world: the settings' own, or this computer's, as the machine has to call them."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from coved.outside import PROXY_MAX, proxy_problem

from cove.machine.settings import Settings

THIS_COMPUTER = "10.0.2.2"
"""What the machine calls the localhost of this computer (QEMU's user networking)."""
NOT_PROXIED = (THIS_COMPUTER, "host.docker.internal", "gateway.docker.internal")
_OCTETS = re.compile(r"((?:[0-9]{1,3}\.){1,3})\*?")


@dataclass(frozen=True, slots=True)
class Proxies:
    """Addresses as this computer calls them, or ""; `no_proxy` a list as in the environment. `places` tells where each is from:
    "http" and "https" to a variable's name, to "the setting ..." or to "this computer's settings". `ignored` are texts for people.
    """

    http: str = ""
    https: str = ""
    no_proxy: str = ""
    places: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()


def found(settings: Settings, environment: Mapping[str, str] | None = None) -> Proxies:
    """Those that count for a machine with these settings."""
    if settings.proxy == "none":
        return Proxies()
    system = Proxies() if settings.proxy == "manual" else of_system(environment)
    places = dict(system.places)
    if settings.http_proxy:
        places["http"] = "the setting http_proxy"
    if settings.https_proxy:
        places["https"] = "the setting https_proxy"
    return Proxies(
        settings.http_proxy or system.http,
        settings.https_proxy or system.https,
        ",".join(settings.no_proxy) or system.no_proxy,
        tuple(places.items()),
        system.ignored,
    )


def of_system(environment: Mapping[str, str] | None = None) -> Proxies:
    """This computer's: of the environment, or else of the settings of macOS or Windows."""
    environment = os.environ if environment is None else environment
    values, places, ignored = {}, {}, []
    for kind in ("http", "https"):
        for variable in (f"{kind}_proxy", f"{kind.upper()}_PROXY"):
            if environment.get(variable):
                values[kind], places[kind] = environment[variable], variable
                break
    no_proxy = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if not values:
        values, exceptions = _of_platform(sys.platform)
        places = dict.fromkeys(values, "this computer's settings")
        no_proxy = no_proxy or ",".join(entries(exceptions))
    for kind, value in list(values.items()):
        address = value if "://" in value else f"http://{value}"
        if problem := proxy_problem(address):
            ignored.append(f"{places.pop(kind)}: {problem}")
            del values[kind]
        else:
            values[kind] = address
    if not values:
        no_proxy = ""
    return Proxies(values.get("http", ""), values.get("https", ""), no_proxy, tuple(places.items()), tuple(ignored))


def for_machine(proxies: Proxies) -> tuple[str, str, str]:
    """http, https and no_proxy as the machine has to call them. A proxy on this computer's localhost is not on its own."""
    if not (proxies.http or proxies.https):
        return "", "", ""
    more = [] if proxies.no_proxy.strip() == "*" else [*NOT_PROXIED]
    own = [entry.strip() for entry in proxies.no_proxy.split(",") if entry.strip()]
    # No more than the machine takes: it would take nothing else either.
    taken, room = list[str](), PROXY_MAX - len(",".join(more)) - 1
    for entry in own:
        room -= len(entry) + 1
        if entry.isascii() and "\0" not in entry and room >= 0:
            taken.append(entry)
    return seen_by_machine(proxies.http), seen_by_machine(proxies.https), ",".join(dict.fromkeys([*taken, *more]))


def seen_by_machine(proxy: str) -> str:
    parts = urlsplit(proxy)
    if not proxy or not is_here(parts.hostname or ""):
        return proxy
    login, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=f"{login}{at}{THIS_COMPUTER}{port}").geturl()


def is_here(host: str) -> bool:
    """Whether a name or an address is this computer's alone, and means something else in the machine."""
    if host in ("localhost", "localhost.localdomain"):
        return True
    try:
        if host == socket.gethostname().lower():  # Debian calls itself 127.0.1.1
            host = socket.gethostbyname(host)
        return ipaddress.ip_address(host).is_loopback
    except (OSError, ValueError):
        return False


def _of_platform(platform: str) -> tuple[dict[str, str], list[str]]:
    """Proxies by scheme, and hosts that are not proxied, as macOS or Windows have them. Of others nothing is known."""
    if platform not in ("darwin", "win32"):
        return {}, []
    import urllib.request

    get = getattr(urllib.request, "getproxies_macosx_sysconf" if platform == "darwin" else "getproxies_registry")
    values = {kind: value for kind, value in get().items() if kind in ("http", "https") and value}
    return values, _exceptions_of_macos() if platform == "darwin" else _exceptions_of_windows()


def _exceptions_of_macos() -> list[str]:
    import importlib

    told: Mapping[str, Any] = importlib.import_module("_scproxy")._get_proxy_settings()  # as urllib.request does
    return [str(one) for one in told.get("exceptions") or ()]


def _exceptions_of_windows() -> list[str]:
    if sys.platform != "win32":
        return []
    import winreg

    place = r"Software\Microsoft\Windows\CurrentVersion\Internet Settings"
    try:
        with winreg.OpenKey(winreg.HKEY_CURRENT_USER, place) as key:
            return str(winreg.QueryValueEx(key, "ProxyOverride")[0]).split(";")
    except OSError:
        return []


def entries(exceptions: Iterable[str]) -> list[str]:
    """What the systems write, as NO_PROXY has it: "169.254/16" and "10.*" are networks; "<local>" cannot be said."""
    result = []
    for one in (text.strip() for text in exceptions):
        address, slash, bits = one.partition("/")
        if (match := _OCTETS.fullmatch(f"{address.rstrip('.')}." if slash else address)) and "." in one + slash:
            octets = match[1].rstrip(".").split(".")
            length = bits if slash else str(8 * len(octets))
            one = f"{'.'.join([*octets, *['0'] * (4 - len(octets))])}/{length}"
        if one and not one.startswith("<") and ("*" not in one.removeprefix("*.") or one == "*"):
            result.append(one)
    return result
