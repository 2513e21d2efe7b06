"""Networks: what making and removing one takes, and a container's joining and leaving; how fast containers talk to each other.

Run as root: python tests/bench/bench_networks.py [--peer unix:///path/docker.sock], the socket of another engine with the image
busybox on this computer, which is measured in turn with Cove's.
"""

from __future__ import annotations

import subprocess
import sys

from bench_support import Api, beside_a_peer, goal, median_ms, table, timed_ms

SECONDS = 1.0
TIMES_FASTER = 3.0
PREFIX = "bench-networks"
PORT = 5001
SUBNETS = ("10.229.0.0/24", "fd00:229::/64")

PROGRAM = (
    f"""
PORT = {PORT}
"""
    + """
import socket, sys, threading, time
mode, address, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
if mode == "serve":
    def serve(one):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(1 << 20)
        kind = one.recv(1)
        while size := one.recv_into(buffer):
            if kind == b"r":
                one.sendall(buffer[:size])
        one.close()
    listener = socket.create_server((address, PORT), family=family, backlog=512)
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
def connected(kind):
    one = socket.create_connection((address, PORT))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.send(kind)
    return one
begun, count = time.monotonic(), 0
if mode == "bulk":
    stream, block = connected(b"b"), bytes(1 << 18)
    while time.monotonic() < begun + seconds:
        count += stream.send(block)
elif mode == "requests":
    stream, asked = connected(b"r"), bytes(64)
    while time.monotonic() < begun + seconds:
        stream.sendall(asked)
        assert len(stream.recv(64)) == 64
        count += 1
else:
    while time.monotonic() < begun + seconds:
        stream = connected(b"r")
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
        stream.close()
        count += 1
print(count / (time.monotonic() - begun))
"""
)


class Site:
    """A network of both families, and two containers on it, of one engine."""

    def __init__(self, url: str) -> None:
        self.api = Api(url)
        ipam = {"Config": [{"Subnet": one} for one in SUBNETS]}
        self.api.json("POST", "/v1.45/networks/create", {"Name": PREFIX, "EnableIPv6": True, "IPAM": ipam})
        self.made = [self.start(PREFIX) for _ in range(2)]
        states = [self.api.json("GET", f"/v1.45/containers/{one}/json") for one in self.made]
        self.pids = [str(state["State"]["Pid"]) for state in states]
        served = states[0]["NetworkSettings"]["Networks"][PREFIX]
        self.addresses = {4: served["IPAddress"], 6: served["GlobalIPv6Address"]}
        self.servers = [self._run(0, "serve", address) for address in self.addresses.values()]
        for server in self.servers:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"

    def start(self, network: str) -> str:
        made = self.api.create(["sleep", "900"], network)
        self.api.json("POST", f"/v1.45/containers/{made}/start")
        return made

    def _run(self, number: int, mode: str, address: str) -> subprocess.Popen[str]:
        """The program in a container's network, as a process of this computer: containers have no Python."""
        words = ["nsenter", "-t", self.pids[number], "-n", sys.executable, "-c", PROGRAM, mode, address, str(SECONDS)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def rate(self, mode: str, version: int) -> float:
        """Bytes, requests or connections a second, from one container to the other."""
        return float(self._run(1, mode, self.addresses[version]).communicate()[0])

    def times_ms(self) -> dict[str, float]:
        times, name, other = {}, f"{PREFIX}-x", self.made[1]
        for words, config in (("IPv4", {}), ("both families", {"EnableIPv6": True, "IPAM": {
            "Config": [{"Subnet": "fd00:228::/64"}]}})):  # fmt: skip
            body = {"Name": name, **config}
            times[f"create a network, {words}"] = self._timed("POST", "/networks/create", body)
            if not config:
                times["connect a container that runs"] = self._timed(
                    "POST", f"/networks/{name}/connect", {"Container": other}
                )
                times["disconnect it"] = self._timed("POST", f"/networks/{name}/disconnect", {"Container": other})
            times[f"remove it, {words}"] = self._timed("DELETE", f"/networks/{name}")
        for network in ("bridge", PREFIX):
            made = self.api.create(["sleep", "900"], network)
            words = "the default network" if network == "bridge" else "a network of both families"
            times[f"start `sleep` on {words}"] = self._timed("POST", f"/containers/{made}/start")
            self.api.json("DELETE", f"/v1.45/containers/{made}?force=1")
        return times

    def _timed(self, method: str, path: str, body: object = None) -> float:
        return timed_ms(lambda: self.api.json(method, f"/v1.45{path}", body))

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.communicate()
        for made in self.made:
            self.api.json("DELETE", f"/v1.45/containers/{made}?force=1")
        self.api.json("DELETE", f"/v1.45/networks/{PREFIX}")


def run(url: str, peer: str, rounds: int) -> None:
    sites = [Site(one) for one in (url, peer) if one]
    against = bool(peer)
    times: list[list[dict[str, float]]] = [[] for _ in sites]
    for _ in range(5 * rounds):
        for number, site in enumerate(sites):
            times[number].append(site.times_ms())
    rows: list[tuple[str, ...]] = [("median ms", "Cove", *(("peer", "peer / Cove", "goal") if against else ()))]
    for words in times[0][0]:
        ours, *theirs = (median_ms(one[words] for one in told) for told in times)
        wanted = None if words.startswith(("start", "disconnect")) else TIMES_FASTER
        cells = [
            cell for one in theirs
            for cell in (f"{one:.1f}", f"{one / ours:.1f}", goal(one / ours, wanted, least=True) if wanted else "")
        ]  # fmt: skip
        rows.append((words, f"{ours:.1f}", *cells))
    table(rows)
    print()
    head = ("peer", "Cove / peer", "goal") if against else ()
    rows = [("container to container, a second", "Cove", *head)]
    for mode, words, unit in (
        ("bulk", "MB", 1e6),
        ("requests", "requests, 64 bytes", 1),
        ("connects", "connections", 1),
    ):
        for version in (4, 6):
            told: list[list[float]] = [[] for _ in sites]
            for _ in range(rounds):
                for number, site in enumerate(sites):
                    told[number].append(site.rate(mode, version) / unit)
            ours, *theirs = (median_ms(one) for one in told)
            cells = [
                cell
                for one in theirs
                for cell in (f"{one:.0f}", f"{ours / one:.2f}", goal(ours / one, 1.0, least=True))
            ]
            rows.append((f"{words}, IPv{version}", f"{ours:.0f}", *cells))
    table(rows)
    for site in sites:
        site.close()


if __name__ == "__main__":
    beside_a_peer(__doc__, 5, run)
