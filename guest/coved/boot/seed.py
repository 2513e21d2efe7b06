"""What the host tells the VM when it is to begin: who it is, what time it is, and who may come in."""

import base64
import fcntl
import json
import os
import select
import socket
import struct
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from coved.boot.console import BootError
from coved.boot.places import CERTIFICATES, OUTSIDE, REGISTRIES, RUN
from coved.boot.system import MS_BIND, mount
from coved.streams.key import KEY, KEY_SIZE

_MAX = 1 << 20
_RNDADDENTROPY, _RNDRESEEDCRNG = 0x40085203, 0x5207
"""random(4)"""
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


_TEXTS = ("boot_id", "machine", "hostname", "authorized_key", "host_key", "entropy")


def parse(data: bytes) -> dict[str, Any]:
    """The seed: texts, ``time_ns``, and ``registries`` (see there). Raises ``BootError`` when it is not what a host of this
    version writes."""
    try:
        seed = json.loads(data)
        if seed["version"] != 1:
            raise ValueError(f"version {seed['version']}")
        texts = {name: seed[name] for name in _TEXTS}
        if not all(isinstance(value, str) and value and "\0" not in value for value in texts.values()):
            raise ValueError("a field is not a text")
        key = seed.get("streams_key", "")
        if not isinstance(key, str) or len(bytes.fromhex(key)) not in (0, KEY_SIZE):
            raise ValueError("the streams' key is none")
        if type(seed["time_ns"]) is not int:
            raise ValueError("the time is not a number")
        return {
            **texts,
            "time_ns": seed["time_ns"],
            "registries": seed["registries"],
            "outside": seed.get("outside"),
            "streams_key": key,
        }
    except (ValueError, KeyError, TypeError) as error:
        raise BootError(f"the host's seed is not right: {error}") from error


def registries(told: Any) -> tuple[str, dict[str, str]]:
    """What the engine is told of registries, as JSON, and certificates: texts by ``HOST/FILE``. Raises ``BootError``.

    Args:
        told: the seed's ``registries``.
    """
    try:
        lists = {name: told.get(name) or [] for name in ("insecure", "mirrors")}
        if told.get("allowed") is not None:
            lists["allowed"] = told["allowed"]
        if not all(isinstance(one, str) for value in lists.values() for one in value):
            raise ValueError("a registry is not a text")
        files = {}
        for host, folder in (told.get("certificates") or {}).items():
            for name, text in folder.items():
                if not text.isascii() or any("/" in part or part in ("", ".", "..") for part in (host, name)):
                    raise ValueError("a certificate has no good name")
                files[f"{host}/{name}"] = text
    except (ValueError, AttributeError, TypeError) as error:
        raise BootError(f"the host's seed is not right: {error}") from error
    policy = {"policy": str(told.get("policy", ""))} if "allowed" in lists else {}
    return json.dumps({**lists, **policy}), files


def receive(port: int, asked: Mapping[bytes, Callable[[int], None]]) -> bytes:
    """One line from the host, which is told that it has come. Raises ``BootError``.

    Args:
        asked: lines that are no seed, and what then answers on the port.
    """
    data, changes = b"", select.epoll()
    try:
        changes.register(
            port, select.EPOLLIN | select.EPOLLET
        )  # while nobody is at the other end it only ever hangs up
        while not data.endswith(b"\n"):
            if not (more := os.read(port, 1 << 16)):
                changes.poll()
            data += more
            if len(data) > _MAX:
                raise BootError("the host's seed is too long")
            if data in asked:
                asked[data](port)
                data = b""
        os.write(port, b"ok\n")
    except OSError as error:
        raise BootError(f"the host gave no seed: {error.strerror}") from error
    finally:
        changes.close()
    return data


def apply(data: bytes) -> None:
    """Be who the seed says, and keep what others need of it where only root can read. Raises ``BootError``."""
    seed = parse(data)
    told, certificates = registries(seed["registries"])
    _set_clock(seed["time_ns"])
    _stir(seed["entropy"])
    _name_boot(seed["boot_id"])
    os.makedirs(f"{RUN}/ssh", 0o700, exist_ok=True)
    private(f"{RUN}/seed.json", json.dumps({name: seed[name] for name in ("boot_id", "machine", "hostname")}))
    private(f"{RUN}/ssh/host_key", seed["host_key"].rstrip("\n") + "\n")
    private(f"{RUN}/ssh/authorized_keys", seed["authorized_key"].rstrip("\n") + "\n")
    private(REGISTRIES, told)
    if seed["streams_key"]:
        private(KEY, seed["streams_key"])
    if seed["outside"] is not None:
        private(OUTSIDE, json.dumps(seed["outside"]))
    for name, text in certificates.items():
        os.makedirs(f"{CERTIFICATES}/{os.path.dirname(name)}", 0o700, exist_ok=True)
        private(f"{CERTIFICATES}/{name}", text)
    socket.sethostname(seed["hostname"])
    with open("/etc/hosts", "a") as file:
        file.write(f"127.0.1.1 {seed['hostname']}\n")


def _set_clock(now_ns: int) -> None:
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, now_ns)
    except (OSError, OverflowError) as error:
        raise BootError(f"the host's clock is wrong: {error}") from error


def _stir(entropy: str) -> None:
    """New random numbers: a saved VM would give the same ones each time it is started."""
    try:
        data = base64.b64decode(entropy, validate=True)
        with open("/dev/random", "wb", buffering=0) as device:
            fcntl.ioctl(device, _RNDADDENTROPY, struct.pack("@ii", len(data) * 8, len(data)) + data)
            fcntl.ioctl(device, _RNDRESEEDCRNG)
    except (OSError, ValueError) as error:
        raise BootError(f"the host's entropy cannot be used: {error}") from error


def _name_boot(boot_id: str) -> None:
    """What has been saved and is started again is another boot, whatever the kernel thinks: who asks it finds that."""
    path = f"{RUN}/boot_id"
    try:
        private(path, f"{uuid.UUID(boot_id)}\n")
        mount(path, _BOOT_ID, "", MS_BIND)
    except (OSError, ValueError) as error:
        raise BootError(f"the boot cannot be named: {error}") from error


def private(path: str, text: str) -> None:
    """Write a file of mode 0600."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
