"""Requests that nobody would make, of the API's description and against it: the engine answers, and stays as it was.

COVE_FUZZ_REQUESTS is how many there are, COVE_FUZZ_SEED which. Without them it is a short run that is always the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation

from api_description import Description
from raw_client import ask, ask_json, connect, descriptors, log_of, settled

pytestmark = pytest.mark.root

REQUESTS = int(os.environ.get("COVE_FUZZ_REQUESTS", "0"))
SEED = int(os.environ.get("COVE_FUZZ_SEED", "1"))
SECONDS = 30.0
PATIENCE_S = 20.0
PER_TURN = 8
# So often, in turns, what earlier requests removed is made again.
FURNISHED_EVERY = 10
# Containers, execs and streams that are there afterwards and were not before have descriptors of their own.
SLACK = 20
# What dockerd answers with 500 as well, so that the status alone does not make it a fault.
NO_FAULTS = (
    "it is neither a git repository nor a URL",
    "dial tcp",
    "Invalid escape keys",
    "no upgrade proto in request",
    "configured logging driver does not support reading",
    "is not paused",
    '"ps: ',
    ": invalid signal: ",
    "timeout waiting for exec session ready",
    "cannot remove the default link name",
    "bad format for links",
    "empty string specified for links",
    "Cannot link to ",
    "http: no Host in request URL",
    "unsupported protocol scheme",
)
HANDSHAKE = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
# What has the most to go wrong.
OFTEN = ("containers", "exec", "images", "volumes", "networks", "events")
# They take as long as they are told to.
SLOW = (b"/stop", b"/restart")
SETTINGS = {
    "deadline": None,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
    "print_blob": False,
}
# Paths of the host would be made or mounted by what starts; nothing here is to depend on the machine's own files.
HOSTILE = [
    "",
    "\0",
    "..",
    "../../etc",
    "/",
    "a" * 5000,
    "-1",
    "1e999",
    "9" * 30,
    "%",
    "\ud800",
    "\u202e",
    "{}",
    "[]",
    "null",
    "☃",
]


def furnish(path: str) -> dict[str, list[str]]:
    """Makes what requests are to be about, as far as it is not there; the names by the first word of their path."""
    ask(path, "POST", "/images/create?fromSrc=-&repo=fuzzed", _archive())
    # Runs all the time under a name that no request knows, and so keeps busybox from being pruned.
    ask_json(path, "POST", "/containers/create?name=keeper", {"Image": "busybox", "Cmd": ["sleep", "9999"]})
    ask(path, "POST", "/containers/keeper/start")
    for number in range(3):
        body = {"Image": "busybox", "Cmd": ["sleep", "3600"], "Tty": number == 1, "OpenStdin": number == 2}
        body["StopSignal"] = "KILL"  # sleep(1) as init takes no notice of TERM
        ask_json(path, "POST", f"/containers/create?name=fuzzed{number}", body)
    ask(path, "POST", "/containers/fuzzed0/start")
    ask_json(path, "POST", "/volumes/create", {"Name": "fuzzed"})
    ask_json(path, "POST", "/networks/create", {"Name": "fuzzed"})
    answers = [ask_json(path, "POST", "/containers/fuzzed0/exec", {"Cmd": ["sleep", "1"]}) for _ in range(2)]
    return {
        "containers": ["fuzzed0", "fuzzed1", "fuzzed2"],
        "exec": [answer.json()["Id"] for answer in answers if answer.status == 201],
        "images": ["fuzzed", "fuzzed:latest"],
        "volumes": ["fuzzed"],
        "networks": ["fuzzed", "bridge", "host"],
    }


def _archive() -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    return output.getvalue()


def operations() -> list[APIOperation[Any, Any, Any, Any]]:
    document = Description().document
    for path in document["paths"].values():
        for operation in path.values():
            if "application/x-tar" in operation.get("consumes", ()):
                operation["consumes"] = ["application/octet-stream"]  # schemathesis makes no tar archives
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(document, default=str)))
    return [result.ok() for result in schema.get_all_operations() if result.ok() is not None]


def requests(operation: APIOperation[Any, Any, Any, Any], names: dict[str, list[str]]) -> st.SearchStrategy[bytes]:
    """The bytes of requests for an operation: as described, not as described, and about things that there are."""

    @st.composite
    def request(draw: st.DrawFn) -> bytes:
        mode = draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
        case = draw(operation.as_strategy(generation_mode=mode))
        path = operation.path
        kind = path.split("/")[1]
        for name, value in (case.path_parameters or {}).items():
            there = draw(st.sampled_from([*names.get(kind, []), *names.get(kind, []), None, None, *HOSTILE[1:]]))
            path = path.replace(
                f"{{{name}}}", quote(str(there if there is not None else value).encode("utf-8", "replace"), safe="/:")
            )
        query = {str(key): _text(value) for key, value in (case.query or {}).items()}
        for key in query:
            if draw(st.integers(0, 4)) == 0:
                query[key] = _text(draw(st.sampled_from(HOSTILE)))
        version = draw(st.sampled_from(["", "/v1.51", "/v1.51", "/v1.41", "/v1.24", "/v1.30"]))
        target = f"{version}{path}" + (f"?{urlencode(query, errors='replace')}" if query else "")
        if path == "/containers/create" and isinstance(case.body, dict) and draw(st.integers(0, 3)):
            case.body["Image"] = "busybox"
        body = _body(case.body)
        lines = [f"{operation.method.upper()} {target} HTTP/1.1", "Host: docker", f"Content-Length: {len(body)}"]
        if body:
            lines.append(f"Content-Type: {case.media_type or 'application/json'}")
        for key, value in (case.headers or {}).items():
            text = "".join(c for c in str(value) if c.isprintable()).encode("latin-1", "replace").decode("latin-1")
            if key.lower() not in ("host", "content-length", "content-type", "transfer-encoding"):
                lines.append(f"{key}: {text.strip()}")
        if path.endswith("/attach/ws") and draw(st.booleans()):
            lines += HANDSHAKE
            body += draw(st.binary(max_size=300))  # frames, or what a client takes for them
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body

    return request()


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "replace").decode()


def _body(body: Any) -> bytes:
    if type(body).__name__ == "NotSet" or body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return json.dumps(body, default=str).encode("utf-8", "replace")


def answer_to(path: str, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer; of a stream as much as comes at once."""
    with connect(path, PATIENCE_S) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = client.recv(65536)
            if not chunk:
                raise AssertionError(f"no answer but {data!r} to {request[:2000]!r}")
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        if not request.startswith(b"HEAD "):
            with contextlib.suppress(TimeoutError):
                while len(body) < length and (chunk := client.recv(65536)):
                    body += chunk
    return int(head.split()[1]), body


def test_no_request_brings_the_engine_down(own_engine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(own_engine.socket)
    names = furnish(path)
    before = len(descriptors(own_engine))
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    slowest: list[tuple[float, str]] = []
    deadline = time.monotonic() + (1e9 if REQUESTS else SECONDS)
    turns = [(operation, requests(operation, names)) for operation in operations()]
    turns += [turn for turn in turns if turn[0].path.split("/")[1] in OFTEN] * 3
    random.Random(SEED).shuffle(turns)

    def turn(strategy: st.SearchStrategy[bytes], number: int) -> None:
        @seed(SEED + number)
        @settings(max_examples=PER_TURN, **SETTINGS)
        @given(strategy)
        def send(request: bytes) -> None:
            if time.monotonic() > deadline:
                return
            started = time.monotonic()
            try:
                status, body = answer_to(path, request)
            except (AssertionError, TimeoutError, ConnectionError) as error:
                if not any(word in request.partition(b"?")[0] for word in SLOW):
                    faults.append(f"{request[:1500]!r}\n    -> {error!r:.300}")
                return
            statuses[status] += 1
            slowest.append((time.monotonic() - started, request.partition(b" HTTP/")[0].decode()))
            slowest.sort(reverse=True)
            del slowest[5:]
            if status == 500 and not any(words in body.decode("utf-8", "replace") for words in NO_FAULTS):
                faults.append(f"{request[:1500]!r}\n    -> {body[:500]!r}")

        send()

    for number, (_operation, strategy) in enumerate(_endless(turns)):
        if time.monotonic() > deadline or (REQUESTS and statuses.total() >= REQUESTS):
            break
        if number % FURNISHED_EVERY == 0:
            names.update(furnish(path))
        turn(strategy, number)
    with capsys.disabled():
        print(f"\n{statuses.total()} requests (seed {SEED}): {dict(sorted(statuses.items()))}")
        print("\n".join(f"  {seconds:.2f} s  {line[:150]}" for seconds, line in slowest))
    assert own_engine.process.poll() is None
    assert ask(path, "GET", "/_ping").body == b"OK"
    assert not faults, f"{len(faults)} faults, seed {SEED}:\n" + "\n".join(faults[:40])
    assert "Traceback" not in log_of(own_engine), log_of(own_engine)[-6000:]
    assert settled(own_engine, before + SLACK) <= before + SLACK, descriptors(own_engine)
    # The engine's own end would give each ten seconds: sleep(1) as init takes no notice of TERM.
    for container in ask(path, "GET", "/containers/json").json():
        ask(path, "DELETE", f"/containers/{container['Id']}?force=1")


def _endless(turns: list[Any]) -> Iterator[Any]:
    while True:
        yield from turns
