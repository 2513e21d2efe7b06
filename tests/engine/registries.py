"""Docker's own registry, as Debian packages it, in the network namespace of an engine on this computer."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import bcrypt

from debian_files import registry_program
from engines import Engine

START_S = 20


class Registry:
    """``host`` is what images are called by. It ends with ``close``."""

    def __init__(
        self, engine: Engine, folder: Path, address: str, *, tls: tuple[Path, Path] | None = None, users: bool = False
    ):
        """``users``: joe, whose password is secret, and nobody else."""
        self.host = address
        self._engine = engine
        self.store = folder / "store"
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.store)}, "delete": {"enabled": True}},
            "http": {"addr": address, "secret": "of a test"},
        }
        folder.mkdir(parents=True, exist_ok=True)
        if tls is not None:
            config["http"]["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        if users:
            file = folder / "htpasswd"
            file.write_text(f"joe:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(file)}}
        # What is JSON is YAML.
        (folder / "config.yml").write_text(json.dumps(config))
        self._log = (folder / "log").open("ab")
        words = engine.in_network(str(registry_program()), "serve", str(folder / "config.yml"))
        self.process = subprocess.Popen(words, stdout=self._log, stderr=self._log)
        self._scheme = "http" if tls is None else "https"
        deadline = time.monotonic() + START_S
        while self.curl("/v2/", check=False).returncode:
            assert self.process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)

    def curl(self, path: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        words = self._engine.in_network("curl", "-sk", "-m", "10", *options, f"{self._scheme}://{self.host}{path}")
        return subprocess.run(words, capture_output=True, text=True, check=check)

    def requests(self) -> list[str]:
        """What has been asked for, such as ``GET /v2/``."""
        self._log.flush()
        lines = Path(self._log.name).read_text().splitlines()
        return [line.split('"')[1].rpartition(" ")[0] for line in lines if ' HTTP/1.1" ' in line and "cove/" in line]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._log.close()


def authority(folder: Path, address: str) -> tuple[Path, Path, Path]:
    """A CA of its own: its certificate, and certificate and key for an IP address."""
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "3", "-subj", "/CN=Cove's test")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=registry")
    (folder / "names").write_text(f"subjectAltName=IP:{address}\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-out", "server.crt", "-days", "3", "-extfile", "names",
    )  # fmt: skip
    return folder / "ca.crt", folder / "server.crt", folder / "server.key"
