"""Pulls on this computer, from Docker's own registry: python tests/bench/bench_images.py [--peer unix:///docker.sock --peer-pid PID]

Run as root. The image has ten layers of 30 MB each, half of it noise and half words. A peer must be in a network namespace
where a second registry, of the same files, can be started: ``--peer-pid`` is a process in it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_support import PEER_VARIABLE, Api, goal, kilobytes, median_ms, running_engine, table, timed_ms
from debian_files import registry_program
from registries import Registry

GOAL = 1.5
"""Times as fast as the peer."""
MEMORY_GOAL_MB = 150
LAYERS, FILES, FILE = 10, 300, 100_000
NAME = "127.0.0.1:5000/big"


def layer(number: int, noise: random.Random) -> bytes:
    """An archive of many files."""
    words = [noise.randbytes(5).hex().encode() for _ in range(4000)]
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for count in range(FILES):
            data = (noise.randbytes(FILE // 2) + b" ".join(noise.choices(words, k=FILE // 20)))[:FILE]
            member = tarfile.TarInfo(f"data/{number}/{count % 10}/{count}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


def publish(registry: Registry, folder: Path) -> None:
    """Puts the image into the registry as files of its store, without an engine that could have it cached."""
    noise = random.Random(7)
    diff_ids, layers = [], []
    for number in range(LAYERS):
        plain = layer(number, noise)
        diff_ids.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
        layers.append(_blob(registry, folder, gzip.compress(plain, 6), "image.rootfs.diff.tar.gzip"))
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _blob(registry, folder, json.dumps(config).encode(), "container.image.v1+json"),
        "layers": layers,
    }
    file = folder / "manifest"
    file.write_text(json.dumps(manifest))
    registry.curl(
        "/v2/big/manifests/latest",
        "-f",
        "-X",
        "PUT",
        "-H",
        f"Content-Type: {manifest['mediaType']}",
        "--data-binary",
        f"@{file}",
    )


def _blob(registry: Registry, folder: Path, data: bytes, kind: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    file = folder / "blob"
    file.write_bytes(data)
    head = registry.curl("/v2/big/blobs/uploads/", "-f", "-i", "-X", "POST", "-d", "").stdout
    (location,) = [
        line.partition(": ")[2].strip() for line in head.splitlines() if line.lower().startswith("location:")
    ]
    path = location.removeprefix(f"http://{registry.host}")
    options = ("-f", "-X", "PUT", "-H", "Content-Type: application/octet-stream", "--data-binary", f"@{file}")
    registry.curl(f"{path}&digest={digest}", *options)
    return {"mediaType": f"application/vnd.docker.{kind}", "size": len(data), "digest": digest}


def pull(api: Api) -> float:
    """Milliseconds. Ends the benchmark when it fails."""

    def work() -> None:
        lines = api.call("POST", f"/v1.45/images/create?fromImage={NAME}&tag=latest").read().splitlines()
        if b'"error"' in lines[-1]:
            raise SystemExit(lines[-1].decode())

    return timed_ms(work)


def measured(url: str, rounds: int) -> tuple[list[float], list[float]]:
    """Pulls of the whole, and pulls of what is there already."""
    api, whole, again = Api(url), [], []
    for _ in range(rounds):
        os.sync()
        whole.append(pull(api))
        again.append(pull(api))
        api.call("DELETE", f"/v1.45/images/{NAME}?force=1").read()
    return whole, again


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", default=os.environ.get(PEER_VARIABLE, ""))
    parser.add_argument("--peer-pid", default="")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with running_engine() as engine, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        registry = Registry(engine, folder, "127.0.0.1:5000")
        publish(registry, folder)
        whole, again = measured(engine.url, options.rounds)
        memory = kilobytes(engine.pid, "status", "VmHWM") / 1024
        rows = [
            ["", "pull of 300 MB (ms)", "again (ms)"],
            ["Cove", f"{median_ms(whole):.0f}", f"{median_ms(again):.0f}"],
        ]
        fine = memory <= MEMORY_GOAL_MB
        if options.peer:
            peer = measured_peer(options.peer, options.peer_pid, folder, options.rounds)
            rows.append(["peer", f"{median_ms(peer[0]):.0f}", f"{median_ms(peer[1]):.0f}"])
            ratio = median_ms(peer[0]) / median_ms(whole)
            print(f"times as fast as the peer: {ratio:.2f}, of {goal(ratio, GOAL, least=True)}")
            fine = fine and ratio >= GOAL
        print(f"the engine's most memory: {memory:.0f} MB, of {goal(memory, MEMORY_GOAL_MB)}")
        table(rows)
        registry.close()
    sys.exit(0 if fine else 1)


def measured_peer(url: str, pid: str, folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    words = ["nsenter", "-t", pid, "-n", str(registry_program()), "serve", str(folder / "config.yml")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        return measured(url, rounds)
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
