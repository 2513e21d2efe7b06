"""Images on the move on this computer, from Docker's own registry and in archives, as root:
python tests/bench/bench_images.py [--peer unix:///docker.sock --peer-pid PID]

The image has ten layers of 30 MB each, half of it noise and half words. A peer must be in a network namespace where a second
registry, of the same files, can be started: ``--peer-pid`` is a process in it.
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
import tarfile
import tempfile
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


def docker(url: str, *words: str) -> float:
    """Milliseconds of the unmodified CLI. Ends the benchmark when it fails."""

    def work() -> None:
        done = subprocess.run(["docker", "-H", url, *words], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise SystemExit(f"docker {' '.join(words)}: {done.stderr}")

    return timed_ms(work)


Times = dict[str, list[float]]
"""Milliseconds by operation."""


def measured(url: str, folder: Path, rounds: int) -> Times:
    """Pulls of the whole, pulls of what is there already, and the way into an archive and back."""
    api, archive = Api(url), folder / "archive.tar"
    times: Times = {"pull of 300 MB": [], "again": [], "save": [], "load": []}
    for _ in range(rounds):
        os.sync()
        times["pull of 300 MB"].append(pull(api))
        times["again"].append(pull(api))
        os.sync()
        times["save"].append(docker(url, "save", "-o", str(archive), NAME))
        docker(url, "rmi", "-f", NAME)
        os.sync()
        times["load"].append(docker(url, "load", "-q", "-i", str(archive)))
        docker(url, "rmi", "-f", NAME)
        archive.unlink()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", default=os.environ.get(PEER_VARIABLE, ""))
    parser.add_argument("--peer-pid", default="", help="of a process in the peer's network namespace")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with running_engine() as engine, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        registry = Registry(engine, folder, "127.0.0.1:5000")
        publish(registry, folder)
        ours = measured(engine.url, folder, options.rounds)
        memory = kilobytes(engine.pid, "status", "VmHWM") / 1024
        peers: Times = {}
        if options.peer:
            peers = measured_peer(options.peer, options.peer_pid, folder, options.rounds)
        registry.close()
    rows = [["image of ten layers", "Cove ms", "peer ms", "peer / Cove", "goal"]]
    for operation, times in ours.items():
        mine = median_ms(times)
        row = [operation, f"{mine:.0f}", "", "", ""]
        if peers:
            ratio = median_ms(peers[operation]) / mine
            wanted = goal(ratio, GOAL, least=True) if operation != "again" else ""
            row[2:] = [f"{ratio * mine:.0f}", f"{ratio:.1f}", wanted]
        rows.append(row)
    table(rows)
    print(f"\nThe engine's most memory: {memory:.0f} MB, of {goal(memory, MEMORY_GOAL_MB)}")


def measured_peer(url: str, pid: str, folder: Path, rounds: int) -> Times:
    words = ["nsenter", "-t", pid, "-n", str(registry_program()), "serve", str(folder / "config.yml")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        answers = [
            "nsenter",
            "-t",
            pid,
            "-n",
            "curl",
            "-sf",
            "--retry",
            "30",
            "--retry-connrefused",
            "--retry-delay",
            "1",
        ]
        subprocess.run([*answers, "http://127.0.0.1:5000/v2/"], stdout=subprocess.DEVNULL, timeout=60, check=True)
        return measured(url, folder, rounds)
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
