"""What the host tells the VM at boot: who it is, and who may come in."""

import json
import os
import socket

from coved.boot.console import BootError
from coved.boot.places import CERTIFICATES, REGISTRIES, RUN

FW_CFG = "/sys/firmware/qemu_fw_cfg/by_name/opt/cove/seed/raw"
_MAX = 1 << 20


def parse(data: bytes) -> dict[str, str]:
    """The seed's texts. Raises ``BootError`` when it is not what a host of this version writes."""
    try:
        seed = json.loads(data)
        if seed["version"] != 1:
            raise ValueError(f"version {seed['version']}")
        fields = ("boot_id", "machine", "hostname", "authorized_key", "host_key")
        result = {name: seed[name] for name in fields}
        if not all(isinstance(value, str) and value and "\0" not in value for value in result.values()):
            raise ValueError("a field is not a text")
    except (ValueError, KeyError, TypeError) as error:
        raise BootError(f"the host's seed is not right: {error}") from error
    return result


def registries(data: bytes) -> tuple[str, dict[str, str]]:
    """What the engine is told of registries, as JSON, and certificates: texts by ``HOST/FILE``. Raises ``BootError``."""
    try:
        told = json.loads(data).get("registries") or {}
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


def apply(path: str = FW_CFG) -> None:
    """Read the seed, and keep what others need of it where only root can read. Raises ``BootError``."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX)
        seed = parse(data)
        told, certificates = registries(data)
    except OSError as error:
        raise BootError(f"the host gave no seed: {error.strerror}") from error
    os.makedirs(f"{RUN}/ssh", 0o700, exist_ok=True)
    private(f"{RUN}/seed.json", json.dumps({name: seed[name] for name in ("boot_id", "machine", "hostname")}))
    private(f"{RUN}/ssh/host_key", seed["host_key"].rstrip("\n") + "\n")
    private(f"{RUN}/ssh/authorized_keys", seed["authorized_key"].rstrip("\n") + "\n")
    private(REGISTRIES, told)
    for name, text in certificates.items():
        os.makedirs(f"{CERTIFICATES}/{os.path.dirname(name)}", 0o700, exist_ok=True)
        private(f"{CERTIFICATES}/{name}", text)
    socket.sethostname(seed["hostname"])
    with open("/etc/hosts", "a") as file:
        file.write(f"127.0.1.1 {seed['hostname']}\n")


def private(path: str, text: str) -> None:
    """Write a file of mode 0600."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
