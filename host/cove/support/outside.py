"""Checks of the ways out: proxies, and whom TLS trusts."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from coved.outside import Outside, masked

from cove.errors import CoveError
from cove.machine import certificates, effective, engine, proxies
from cove.machine.paths import MachinePaths
from cove.machine.settings import Settings
from cove.support.computer import USUAL
from cove.support.findings import NOTE, OK, PROBLEM, WARNING, Found, cove_of, settings_of
from cove.support.machine import ENGINE_S, runs

_CONNECT_S = 3.0
_ANSWER_S = 5.0
_HEAD_MAX = 1 << 16


def look_at_proxy(paths: MachinePaths, environment: Mapping[str, str]) -> Found:
    """Whether each answers, lets this computer through, and shows a certificate that the machine will know."""
    settings = settings_of(paths)
    found = proxies.found(settings, environment)
    for words in found.ignored:
        yield (
            PROBLEM,
            words,
            f"it is like http://proxy.example.com:3128; or give one: {cove_of(paths)} config set http_proxy ADDRESS",
        )
    places = dict(found.places)
    addresses = {"http": found.http, "https": found.https}
    for address in dict.fromkeys(value for value in addresses.values() if value):
        kinds = [kind for kind in addresses if addresses[kind] == address]
        names = ", ".join(dict.fromkeys(places[kind] for kind in kinds))
        yield from _of_one(paths, address, names, settings, through="https" in kinds)
    if not any(addresses.values()) and not found.ignored:
        yield OK, "no proxy is set"
    yield from _of_machine(paths, settings, environment)


def _of_one(paths: MachinePaths, address: str, names: str, settings: Settings, *, through: bool) -> Found:
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    where = f"{parts.hostname}:{port}"
    try:
        sock = socket.create_connection((parts.hostname, port), _CONNECT_S)
    except OSError as error:
        yield PROBLEM, f"{names}: nothing answers at {where}: {error.strerror or error}", _mending(paths, names)
        return
    with contextlib.closing(sock):
        if not through:
            yield OK, f"{names}: {where} answers"
            return
        try:
            yield from _tunnelled(sock, parts, f"{names}: {where}", settings, cove_of(paths))
        except (OSError, ValueError) as error:
            yield NOTE, f"{names}: {where} answers, and does not say whether it leads to {USUAL}: {error}"


def _mending(paths: MachinePaths, names: str) -> str:
    ways = []
    for name in names.split(", "):
        setting = name.removeprefix("the setting ")
        if setting == name:
            ways.append(f"unset {name}" if "_" in name else "")
            continue
        with contextlib.suppress(CoveError):  # another check tells of that
            value = effective.values(paths.settings)[setting]
            if value.origin == "policy":
                return f"it is your administrator's: ask who administers this computer ({value.place})"
            ways.append(
                f"unset {value.place}" if value.origin == "environment" else f"{cove_of(paths)} config unset {setting}"
            )
    if not all(ways):
        return f"correct it in this computer's settings; or use none: {cove_of(paths)} config set proxy none"
    return f"correct it, or unset it: {'; '.join(ways)}"


def _tunnelled(sock: socket.socket, parts: SplitResult, what: str, settings: Settings, cove: str) -> Found:
    """Ask for Docker Hub's registry. Raises `OSError`, `ValueError`."""
    trusted = _trusting(settings)
    sock.settimeout(_ANSWER_S)
    stream = trusted.wrap_socket(sock, server_hostname=parts.hostname) if parts.scheme == "https" else sock
    login = ""
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    stream.sendall(f"CONNECT {USUAL}:443 HTTP/1.1\r\nHost: {USUAL}:443\r\n{login}\r\n".encode())
    status = _status(stream)
    if status == 407:
        yield (
            PROBLEM, f"{what} wants to know who asks" + (", and does not take what it is told" if login else ""),
            f"give it a name and a password: {cove} config set https_proxy http://NAME:PASSWORD@HOST:PORT",
        )  # fmt: skip
        return
    if not 200 <= status < 300:
        yield NOTE, f"{what} answers, and does not lead to {USUAL} (it says {status})"
        return
    if stream is not sock:
        yield OK, f"{what} leads to {USUAL}"  # TLS within TLS is no matter of a socket
        return
    try:
        with trusted.wrap_socket(sock, server_hostname=USUAL):
            yield OK, f"{what} leads to {USUAL}"
    except ssl.SSLCertVerificationError as error:
        yield (
            WARNING, f"{what} shows a certificate for {USUAL} that nobody here trusts: {error.verify_message}",
            "it inspects what goes through it: have your company's authority put into this computer's store, or give its"
            f" certificate: {cove} config set extra_certificates /PATH/TO/IT.pem",
        )  # fmt: skip


def _status(stream: socket.socket) -> int:
    data = b""
    deadline = time.monotonic() + _ANSWER_S
    while b"\r\n\r\n" not in data:
        piece = stream.recv(1)  # what follows is TLS's
        if not piece or len(data) > _HEAD_MAX or time.monotonic() > deadline:
            raise ValueError("it gives no answer")
        data += piece
    return int(data.split(b" ", 2)[1])


def _trusting(settings: Settings) -> ssl.SSLContext:
    """As the machine's engine does."""
    import certifi

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certifi.where())
    with contextlib.suppress(CoveError):  # another check tells of that
        if pem := certificates.trusted(settings).pem:
            context.load_verify_locations(cadata=pem)
    return context


def _of_machine(
    paths: MachinePaths, settings: Settings, environment: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """What a machine that runs goes by, for it has the environment of its start."""
    if not runs(paths):
        return
    wanted = Outside(*proxies.for_machine(proxies.found(settings, environment))).shown()
    try:
        info = engine.get(paths.docker_socket, "/info", time.monotonic() + ENGINE_S)
    except (OSError, ValueError):
        return  # another check tells of that
    there = {name: str(info.get(name) or "") for name in wanted}
    if there != wanted:
        shown = masked(there["HttpsProxy"] or there["HttpProxy"]) or "none"
        yield (
            WARNING, f"the machine goes by other proxies than this shell has: {shown}",
            f"it has those of the environment that it was started in: cove machine restart {paths.name}",
        )  # fmt: skip


def look_at_certificates(paths: MachinePaths) -> Found:
    settings, cove = settings_of(paths), cove_of(paths)
    try:
        trusted = certificates.trusted(settings)
    except CoveError as error:
        yield PROBLEM, error.message, error.hint
        return
    for words in trusted.left_out:
        yield (
            WARNING, f"the machine does not trust all that this computer does: {words}",
            f"give it those that it needs alone: {cove} config set extra_certificates /PATH/TO/THEM.pem; and:"
            f" {cove} config set certificates none",
        )  # fmt: skip
    count = trusted.pem.count("-----BEGIN CERTIFICATE-----")
    whose = "" if settings.certificates == "system" else "; this computer's store is not asked (certificates = none)"
    words = "1 authority beside Mozilla's" if count == 1 else f"{count} authorities beside Mozilla's"
    words = words if count else "Mozilla's list"
    yield OK, f"the machine trusts {words}{whose}"
