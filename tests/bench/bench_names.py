"""Names of containers: queries a second, how many are lost, and what they cost a container's start.

Run as root: python tests/bench/bench_names.py [--peer unix:///path/docker.sock], the socket of another engine with the image
busybox on this computer, whose queries come in turn with Cove's.
"""

from __future__ import annotations

import subprocess
import sys

from bench_support import Api, beside_a_peer, goal, median_ms, table, timed_ms

CONTAINERS = 10
SECONDS = 2.0
GOAL_QPS = 5000.0
PREFIX = "bench-names"

CLIENT = """
import socket, sys, time
mode, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
question = bytes((len(name),)) + name.encode() + b"\\0\\0\\1\\0\\1"
def query(number):
    return (number & 0xFFFF).to_bytes(2, "big") + b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + question
def answered(reply):
    assert reply[3] & 15 == 0 and reply[7] == 1, reply
started = time.monotonic()
sent = got = 0
if mode == "tcp":
    stream = None
    while time.monotonic() < started + seconds:
        if stream is None:
            stream = socket.create_connection(("127.0.0.11", 53))
            reader = stream.makefile("rb")
        asked = query(sent)
        try:
            stream.sendall(len(asked).to_bytes(2, "big") + asked)
            size = reader.read(2)
        except ConnectionError:
            size = b""
        if not size:  # dockerd answers 128 on one connection
            stream = None
            continue
        answered(reader.read(int.from_bytes(size, "big")))
        sent += 1
        got += 1
else:
    window = int(mode)
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.connect(("127.0.0.11", 53))
    udp.settimeout(1)
    while time.monotonic() < started + seconds or got < sent:
        while sent - got < window and time.monotonic() < started + seconds:
            udp.send(query(sent))
            sent += 1
        try:
            answered(udp.recv(512))
            got += 1
        except TimeoutError:
            break
print(got / (time.monotonic() - started), sent - got)
"""


class Site:
    """Containers on a network of one engine."""

    def __init__(self, url: str) -> None:
        self.api = Api(url)
        self.network = str(self.api.json("POST", "/v1.45/networks/create", {"Name": PREFIX})["Id"])
        self.made = [self.start(f"{PREFIX}-{number}") for number in range(CONTAINERS)]
        state = self.api.json("GET", f"/v1.45/containers/{self.made[0]}/json")
        self.pid = str(state["State"]["Pid"])

    def start(self, name: str) -> str:
        body = {"Image": "busybox", "Cmd": ["sleep", "900"], "HostConfig": {"NetworkMode": PREFIX}}
        made = str(self.api.json("POST", f"/v1.45/containers/create?name={name}", body)["Id"])
        self.api.json("POST", f"/v1.45/containers/{made}/start")
        return made

    def ask(self, mode: str) -> tuple[float, int]:
        """Queries a second that are answered, and how many are not."""
        words = ["nsenter", "-t", self.pid, "-n", sys.executable, "-c", CLIENT, mode, f"{PREFIX}-5", str(SECONDS)]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        return float(said[0]), int(said[1])

    def start_ms(self, network: str) -> float:
        made = self.api.create(["sleep", "900"], network)
        taken = timed_ms(lambda: self.api.json("POST", f"/v1.45/containers/{made}/start"))
        self.api.json("DELETE", f"/v1.45/containers/{made}?force=1")
        return taken

    def close(self) -> None:
        for made in self.made:
            self.api.json("DELETE", f"/v1.45/containers/{made}?force=1")
        self.api.json("DELETE", f"/v1.45/networks/{self.network}")


def run(url: str, peer: str, rounds: int) -> None:
    sites = [Site(one) for one in (url, peer) if one]
    head = ("peer", "peer lost", "Cove / peer") if peer else ()
    rows: list[tuple[str, ...]] = [("queries a second", "Cove", "lost", *head, "goal")]
    for mode, words in (("1", "one at a time, UDP"), ("32", "32 at a time, UDP"), ("tcp", "one at a time, TCP")):
        told: list[list[tuple[float, int]]] = [[] for _ in sites]
        for _ in range(rounds):
            for number, site in enumerate(sites):
                told[number].append(site.ask(mode))
        (ours, lost), *theirs = ((median_ms(rate for rate, _ in one), sum(gone for _, gone in one)) for one in told)
        against = [cell for rate, gone in theirs for cell in (f"{rate:.0f}", str(gone), f"{ours / rate:.1f}")]
        wanted = goal(ours, GOAL_QPS, least=True) if mode != "tcp" else ""
        rows.append((words, f"{ours:.0f}", str(lost), *against, wanted))
    table(rows)
    print()
    rows = [("start of `sleep`", "Cove ms", *(("peer ms",) if peer else ()))]
    for network, words in (("bridge", "on the default network"), (PREFIX, "on a network with names")):
        times: list[list[float]] = [[] for _ in sites]
        for _ in range(5 * rounds):
            for number, site in enumerate(sites):
                times[number].append(site.start_ms(network))
        rows.append((words, *(f"{median_ms(one):.1f}" for one in times)))
    table(rows)
    for site in sites:
        site.close()


if __name__ == "__main__":
    beside_a_peer(__doc__, 5, run)
