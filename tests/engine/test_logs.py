"""Log drivers and `docker logs` through the engine's socket."""

from __future__ import annotations

import calendar
import contextlib
import re
import shlex
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from isolation_support import shim_of
from life_support import eventually

pytestmark = [pytest.mark.root, pytest.mark.native]

Start = Callable[..., Any]


@pytest.fixture
def start(docker_client: Any) -> Iterator[Start]:
    with starting(docker_client) as run:
        yield run


@pytest.fixture
def native_start(native_engine: Any) -> Iterator[Start]:
    """For a hundred megabytes and more: under emulation they are minutes' work, and its seconds say nothing."""
    client = docker.DockerClient(native_engine.url, timeout=60)
    with starting(client) as run:
        yield run
    client.close()


@contextlib.contextmanager
def starting(client: Any) -> Iterator[Start]:
    """Run a shell script with a log driver and its options; every container is removed afterwards."""
    made: list[Any] = []

    def run(script: str, driver: str = "json-file", options: dict[str, str] | None = None, **more: Any) -> Any:
        config = {"Type": driver, "Config": options or {}}
        container = client.containers.create(
            "busybox", ["sh", "-c", script], name=f"t-{uuid.uuid4().hex[:12]}", log_config=config, **more
        )
        made.append(container)
        container.start()
        return container

    yield run
    for container in made:
        container.remove(force=True)


def ended(container: Any) -> Any:
    container.wait(timeout=60)
    return container


def folder(engine: Any, container: Any) -> Path:
    return Path(engine.root) / "containers" / container.id


def files(engine: Any, container: Any) -> list[str]:
    """The names of a container's log files."""
    look = f"cd {folder(engine, container)}; ls -d *-json.log* local-logs/* 2>/dev/null || true"
    return sorted(name.rpartition("/")[2].replace(f"{container.id}-json", "json") for name in engine.sh(look).split())


UNKNOWN = "unknown log opt 'x' for json-file log driver"
START = "failed to create task for container: failed to initialize logging driver: "
REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("json-file", {"x": "1"}, UNKNOWN),
    ("local", {"labels": "a"}, "unknown log opt 'labels' for log driver local"),
    ("syslog", {}, "logger: no log driver named 'syslog' is registered"),
    ("json-file", {"mode": "y"}, "logger: logging mode not supported: y"),
    (
        "json-file",
        {"max-buffer-size": "1m"},
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ),
    (
        "json-file",
        {"mode": "non-blocking", "max-buffer-size": "x"},
        "error parsing option max-buffer-size: invalid size: 'x'",
    ),
    ("json-file", {"cache-disabled": "x"}, "invalid value for option cache-disabled: x"),
    ("json-file", {"max-size": "x"}, f"{START}invalid size: 'x'"),
    ("json-file", {"max-size": "1q"}, f"{START}invalid suffix: 'q'"),
    ("json-file", {"max-size": "0"}, f"{START}max-size must be a positive number"),
    ("json-file", {"max-size": "-1"}, f"{START}invalid size: '-1'"),
    ("json-file", {"max-file": "x"}, f'{START}strconv.Atoi: parsing "x": invalid syntax'),
    ("json-file", {"max-file": "0"}, f"{START}max-file cannot be less than 1"),
    ("json-file", {"compress": "x"}, f'{START}strconv.ParseBool: parsing "x": invalid syntax'),
    (
        "json-file",
        {"compress": "true", "max-size": "1m"},
        f"{START}compress cannot be true when max-file is less than 2 or max-size is not set",
    ),
    ("json-file", {"labels-regex": "("}, f"{START}error parsing regexp: missing closing ): `(`"),
    ("json-file", {"env-regex": "["}, f"{START}error parsing regexp: missing closing ]: `[`"),
    ("json-file", {"tag": "{{"}, f"{START}template: log-tag:1: unclosed action"),
    (
        "json-file",
        {"tag": "{{.Foo}}"},
        f'{START}template: log-tag:1:2: executing "log-tag" at <.Foo>: can\'t evaluate field Foo in type *logger.Info',
    ),
    ("local", {"max-size": "x"}, f"{START}invalid value for max-size: x: invalid size: 'x'"),
    ("local", {"max-file": "x"}, f'{START}invalid value for max-file: x: strconv.Atoi: parsing "x": invalid syntax'),
    ("local", {"max-file": "-1"}, f"{START}max file count cannot be less than 0"),
    ("local", {"max-file": "1"}, f"{START}compression cannot be enabled when max file count is 1"),
    (
        "local",
        {"compress": "x"},
        f'{START}error reading compress log option: strconv.ParseBool: parsing "x": invalid syntax',
    ),
]


@pytest.mark.parametrize(("driver", "options", "message"), REFUSED)
def test_options_are_refused_in_dockerds_words(
    docker_client: Any, driver: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(docker.errors.APIError) as error:
        docker_client.containers.create("busybox", log_config={"Type": driver, "Config": options})
    assert (error.value.status_code, error.value.explanation) == (400, message)


def test_options_that_docker_takes_are_taken(start: Start) -> None:
    options = {
        "max-size": "1.5k", "max-file": "3", "compress": "T", "labels": "a", "labels-regex": "^b", "env": "A",
        "env-regex": "B$", "tag": "{{.ImageName | upper}}", "mode": "non-blocking", "max-buffer-size": "4m",
        "cache-disabled": "true",
    }  # fmt: skip
    container = ended(start("echo hi", options=options))
    assert container.logs() == b"hi\n"
    container.reload()
    assert container.attrs["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": options}


def test_none_keeps_nothing_and_cannot_be_read(start: Start, engine: Any) -> None:
    container = ended(start("echo hi", "none", {"anything": "goes"}))
    with pytest.raises(docker.errors.APIError) as error:
        container.logs()
    assert error.value.status_code == 501
    assert error.value.explanation == "configured logging driver does not support reading"
    assert files(engine, container) == []


def test_attributes_come_with_details_sorted_and_escaped(engine: Any, start: Start) -> None:
    options = {"labels": "zz,aa,nope", "labels-regex": "^com\\.", "env": "FOO,BAR", "tag": "{{.Name}}/{{.ID}}"}
    environment, labels = {"FOO": "b r", "BAR": "<&>é", "BAZ": "no"}, {"zz": "1", "aa": "x,y=z w", "com.x": "2"}
    container = ended(start("echo out; printf tail", options=options, environment=environment, labels=labels))
    tag = f"{container.name}%2F{container.id[:12]}"
    details = f"BAR=%3C%26%3E%C3%A9,FOO=b+r,aa=x%2Cy%3Dz+w,com.x=2,tag={tag},zz=1"
    raw = b"".join(_frames(container, details=1))
    assert raw.decode() == f"{details} out\n{details} tail"
    stored = engine.read(_log_path(container)).splitlines()[0]
    attrs = '"attrs":{"BAR":"\\u003c\\u0026\\u003eé","FOO":"b r","aa":"x,y=z w","com.x":"2","tag":"'
    assert stored.startswith('{"log":"out\\n","stream":"stdout",' + attrs)
    stamped = b"".join(_frames(container, details=1, timestamps=1)).decode().splitlines()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z " + re.escape(f"{details} out"), stamped)


def _log_path(container: Any) -> str:
    container.reload()
    return str(container.attrs["LogPath"])


def _frames(container: Any, **query: int) -> list[bytes]:
    """The frames' contents of both streams, with options that the SDK has no name for."""
    api = container.client.api
    answer = api._get(api._url("/containers/{0}/logs", container.id), params={"stdout": 1, "stderr": 1, **query})
    data, parts = answer.content, []
    while data:
        length = int.from_bytes(data[4:8], "big")
        parts.append(data[8 : 8 + length])
        data = data[8 + length :]
    return parts


def test_an_expression_that_would_take_for_ever_does_not_stop_the_engine(start: Start, docker_client: Any) -> None:
    begun = time.monotonic()
    with pytest.raises(docker.errors.APIError, match="takes too long"):
        start("true", options={"labels-regex": "^(a+)+$"}, labels={"a" * 60 + "!": "x"})
    assert time.monotonic() - begun < 50


NUMBERS = "i=0; while [ $i -lt 20 ]; do seq $((i * 1000 + 1)) $((i * 1000 + 1000)); i=$((i + 1)); done"


@pytest.mark.parametrize("driver", ["json-file", "local"])
@pytest.mark.parametrize("compress", ["true", "false"])
def test_reading_goes_across_rotated_files(engine: Any, start: Start, driver: str, compress: str) -> None:
    size = "100k" if driver == "json-file" else "10k"
    options = {"max-size": size, "max-file": "4", "compress": compress}
    container = start(f"{NUMBERS}; read x", driver, options, stdin_open=True)
    suffix = ".gz" if compress == "true" else ""
    first = "json.log" if driver == "json-file" else "container.log"
    expected = [first, *(f"{first}.{number}{suffix}" for number in (1, 2, 3))]
    eventually(lambda: container.logs(tail=1) == b"20000\n" and files(engine, container) == expected)
    container.kill()
    ended(container)
    found = files(engine, container)
    assert found == expected
    limit = 100_000 if driver == "json-file" else 10_000
    unpack = "case $file in *.gz) zcat $file;; *) cat $file;; esac | wc -c"
    look = (
        f"cd {folder(engine, container)}; for file in *-json.log* local-logs/*; do [ -e $file ] && {unpack}; done; true"
    )
    sizes = [int(word) for word in engine.sh(look).split()]
    assert len(sizes) == 4
    assert max(sizes) <= limit + 200
    lines = [int(line) for line in container.logs().split()]
    assert lines == list(range(lines[0], 20001))
    assert len(lines) > 3000
    for tail in (1, 10, len(lines) // 2, len(lines) - 1, len(lines) + 5):
        assert [int(line) for line in container.logs(tail=tail).split()] == lines[-tail:]
    stamped = _frames(container, timestamps=1)
    middle = stamped[len(stamped) // 2].split()[0].decode()
    api = container.client.api
    seconds, fraction = time.strptime(middle[:19], "%Y-%m-%dT%H:%M:%S"), middle[20:29]
    unix = f"{calendar.timegm(seconds)}.{fraction}"
    for name, expected in (
        ("since", [one for one in stamped if one.split()[0].decode() >= middle]),
        ("until", [one for one in stamped if one.split()[0].decode() <= middle]),
    ):
        url = api._url("/containers/{0}/logs", container.id)
        got = api._get(url, params={"stdout": 1, "timestamps": 1, name: unix}).content
        assert got.count(b"Z ") == len(expected)
        assert expected[0] in got
        assert expected[-1] in got


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_follow_goes_on_across_rotations_for_two_at_once(start: Start, driver: str) -> None:
    script = "i=0; while [ $i -lt 100 ]; do seq $((i * 100 + 1)) $((i * 100 + 100)); i=$((i + 1)); usleep 10000; done"
    options = {"max-size": "30k" if driver == "json-file" else "3k", "max-file": "3", "compress": "true"}
    container = start(script, driver, options)
    results: dict[int, bytes] = {}

    def follow(number: int) -> None:
        results[number] = b"".join(container.logs(stream=True, follow=True))

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = b"".join(b"%d\n" % number for number in range(1, 10001))
    assert results == {0: expected, 1: expected}


def test_follow_of_a_container_that_does_not_run_ends_at_once(start: Start) -> None:
    container = ended(start("echo once"))
    begun = time.monotonic()
    assert b"".join(container.logs(stream=True, follow=True)) == b"once\n"
    assert time.monotonic() - begun < 50


def test_follow_ends_with_the_container_though_it_is_started_again(start: Start) -> None:
    container = start("echo begin; exec sleep 100")
    stream = container.logs(stream=True, follow=True)
    assert next(stream) == b"begin\n"
    container.restart(timeout=0)
    assert list(stream) == []
    eventually(lambda: container.logs() == b"begin\nbegin\n")
    container.kill()
    container.wait(timeout=60)


def test_follow_begins_with_the_tail(start: Start) -> None:
    container = start("seq 5; read x; echo later", stdin_open=True)
    eventually(lambda: container.logs().count(b"\n") == 5)
    stream = container.logs(stream=True, follow=True, tail=2)
    assert [next(stream), next(stream)] == [b"4\n", b"5\n"]
    sock = container.attach_socket(params={"stdin": 1, "stream": 1})
    sock._sock.sendall(b"go\n")
    assert list(stream) == [b"later\n"]
    sock.close()


def test_bytes_of_any_value_come_back_as_dockerd_gives_them(start: Start) -> None:
    script = "printf '\\000\\001\\377\\376\\n'; printf 'a\\rb\\tc\\033[1m<&>\"\\\\\\342\\200\\250\\n'; printf '\\303'"
    expected = b"\x00\x01\xff\xfe\n" + b'a\rb\tc\x1b[1m<&>"\\\xe2\x80\xa8\n' + b"\xc3"
    assert ended(start(script, "local")).logs() == expected
    assert ended(start(script)).logs() == expected.replace(b"\xff\xfe", "\ufffd\ufffd".encode()).replace(
        b"\xc3", "\ufffd".encode()
    )


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_long_lines_come_in_pieces_of_16_kib_with_the_time_of_the_first(start: Start, driver: str) -> None:
    container = ended(start("head -c 40000 /dev/zero | tr '\\0' x; echo; printf tail", driver))
    frames = _frames(container)
    assert [len(one) for one in frames] == [16384, 16384, 40000 - 2 * 16384 + 1, 4]
    stamps = [one.split(b" ")[0] for one in _frames(container, timestamps=1)]
    assert stamps[0] == stamps[1] == stamps[2] <= stamps[3]
    assert container.logs(tail=2) == frames[2] + b"tail"


def test_local_keeps_five_compressed_files_by_default(native_engine: Any, native_start: Start) -> None:
    container = ended(native_start("yes 0123456789012345678901234567890123456789 | head -c 110000000", "local"))
    found = files(native_engine, container)
    assert found[0] == "container.log"
    assert len(found) == 5
    assert "container.log.4.gz" in found
    assert _log_path(container) == ""
    assert container.logs(tail=2).startswith(b"0123456789012345678901234567890123456789\n0")


WATCH = """
import os, time
seen = lean = 0
namespaces = set()
deadline = time.monotonic() + 40
while (seen < 3 or not lean) and time.monotonic() < deadline:
    for child in open("/proc/{shim}/task/{shim}/children").read().split():
        try:
            name = open(f"/proc/{{child}}/comm").read()
            namespace = os.stat(f"/proc/{{child}}/ns/pid").st_ino
            descriptors = len(os.listdir(f"/proc/{{child}}/fd"))
        except OSError:
            continue
        if name.startswith("shim:"):
            namespaces.add(namespace)
            lean += descriptors <= 5
            seen += 1
print(seen, lean, *namespaces)
"""
"""Looks at a shim's children as fast as it can: a compressor is soon gone."""


def test_the_compressor_is_none_of_the_containers_processes(engine: Any, start: Start) -> None:
    """Root in a container could trace it, and it sees the machine's files."""
    container = start(
        "while :; do head -c 4000000 /dev/urandom | od; done",
        options={"max-size": "4m", "max-file": "3", "compress": "true"},
    )
    inside = int(engine.sh(f"stat -L -c %i /proc/{_pid(container)}/ns/pid"))
    shim = shim_of(engine, container)
    machines = int(engine.sh(f"stat -L -c %i /proc/{shim}/ns/pid"))
    seen, lean, *namespaces = map(int, engine.sh(f"python3 -c {shlex.quote(WATCH.format(shim=shim))}").split())
    assert namespaces == [machines]
    assert machines != inside
    assert seen >= 3
    assert lean > 0  # it lets go of the container's streams and clients first of all
    # What is executed afterwards is the container's again.
    assert container.exec_run(["sh", "-c", "readlink /proc/self/ns/pid"]).output == b"pid:[%d]\n" % inside
    assert b"shim" not in container.exec_run(["ps"]).output


def _pid(container: Any) -> int:
    container.reload()
    return int(container.attrs["State"]["Pid"])


def test_a_container_cannot_reach_its_log(engine: Any, start: Start) -> None:
    container = start("echo secret; exec sleep 100", privileged=False)
    assert container.exec_run(["sh", "-c", "find / -name '*json.log*' 2>/dev/null"]).output == b""
    assert (
        str(folder(engine, container)).encode()
        not in container.exec_run(["cat", "/proc/self/mountinfo"])
        .output.replace(b"upperdir", b"")
        .replace(b"workdir", b"")
        .split(b" - ")[0]
    )
    for process in ("1", "self"):
        links = container.exec_run(["ls", "-l", f"/proc/{process}/fd"]).output
        assert b"json.log" not in links
    assert engine.sh(f"stat -c %a {_log_path(container)}") == "640\n"


def test_a_link_in_place_of_the_log_is_not_followed(engine: Any, start: Start, scratch: Path) -> None:
    container = ended(start("echo one"))
    log, target = _log_path(container), scratch / "target"
    engine.sh(f"printf untouched >{target}; rm {log}; ln -s {target} {log}")
    with pytest.raises(docker.errors.APIError):
        container.start()
    assert engine.read(target) == "untouched"


def test_a_full_disk_holds_up_nobody_and_losses_are_told(engine: Any, docker_client: Any, start: Start) -> None:
    container = start("echo first; read x; seq 200000; echo end > /end; read x; echo after", "local", stdin_open=True)
    logs = folder(engine, container) / "local-logs"
    container.kill()
    container.wait(timeout=60)
    engine.sh(f"mount -t tmpfs -o size=256k tmpfs {logs} && head -c 100000 /dev/zero >{logs}/filler")
    try:
        container.start()
        sock = container.attach_socket(params={"stdin": 1, "stream": 1})
        sock._sock.sendall(b"go\n")
        eventually(lambda: container.exec_run(["cat", "/end"]).output == b"end\n")
        engine.sh(f"rm {logs}/filler")
        sock._sock.sendall(b"go\n")
        assert container.wait(timeout=60)["StatusCode"] == 0
        sock.close()
        lines = container.logs().decode().splitlines()
    finally:
        engine.sh(f"umount {logs}")
    assert lines[:3] == ["first", "1", "2"]
    assert lines[-1] == "after"
    notes = [
        re.fullmatch(r"\[cove: (\d+) lines of this log were lost: No space left on device\]", one) for one in lines
    ]
    lost = [int(note[1]) for note in notes if note is not None]
    assert notes[-2] is not None
    assert sum(lost) + len(lines) - len(lost) - 2 == 200_000


def test_a_chatty_container_grows_neither_engine_nor_shim(native_engine: Any, native_start: Start) -> None:
    """200 MB of output, rotated and compressed, with a client that follows and does not read."""
    script = "read x; yes 0123456789012345678901234567890123456789 | head -c 200000000; echo; echo end; read x"
    options = {"max-size": "20m", "max-file": "3", "compress": "true"}
    container = native_start(script, options=options, stdin_open=True)
    stalled = container.logs(stream=True, follow=True)  # nobody takes what it sends
    shim = shim_of(native_engine, container)
    pid = native_engine.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew, proc_pid_clear_refs(5)
    before, shim_before = _memory(pid, "status", "VmRSS"), _memory(shim, "smaps_rollup", "Private_Dirty")
    sock = container.attach_socket(params={"stdin": 1, "stream": 1})
    begun = time.monotonic()
    sock._sock.sendall(b"go\n")
    times, highest = [], 0
    while b"end\n" not in container.logs(tail=2) and time.monotonic() - begun < 200:
        asked = time.monotonic()
        container.client.ping()
        times.append(time.monotonic() - asked)
        highest = max(highest, _memory(shim, "smaps_rollup", "Private_Dirty"))
    took = time.monotonic() - begun
    peak = _memory(pid, "status", "VmHWM")
    sock._sock.sendall(b"go\n")
    container.wait(timeout=60)
    stalled.close()
    sock.close()
    print(f"200 MB in {took:.1f} s; engine {before} kB, peak {peak}; shim's own {shim_before} kB, peak {highest}")
    print(f"slowest answer to a ping meanwhile: {max(times) * 1000:.0f} ms")
    assert took < 200
    assert peak - before < 16_000
    # Its own pages: how much of the interpreter's it is charged for depends on how many share them.
    assert highest - shim_before < 1_500
    # Those moments do not count at which the computer itself stands still.
    assert statistics.quantiles(times, n=20)[-1] < 1


def _memory(pid: int, file: str, field: str) -> int:
    """kB."""
    text = Path(f"/proc/{pid}/{file}").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(f"{field}:")).split()[1])


def test_info_lists_the_drivers_that_there_are(engine: Any, docker_client: Any, start: Start) -> None:
    info = docker_client.info()
    assert (info["Plugins"]["Log"], info["LoggingDriver"]) == (["json-file", "local"], "json-file")
    for driver in info["Plugins"]["Log"]:
        assert ended(start("echo hi", driver)).logs() == b"hi\n"
    shown = subprocess.run(
        [sys.executable, "-m", "cove", "--host", engine.url, "info"], capture_output=True, text=True, timeout=60
    ).stdout
    assert " Logging Driver: json-file\n" in shown
    assert "  Log: json-file local\n" in shown


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({}, 400, "Bad parameters: you must choose at least one stream"),
        ({"stdout": 1, "since": "10m"}, 400, 'strconv.ParseInt: parsing "10m": invalid syntax'),
        ({"stdout": 1, "until": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ({"stdout": 1, "tail": "x", "since": "1.5", "until": "99999999999.123"}, 200, ""),
        ({"stdout": 1, "tail": "-3", "since": "-1"}, 200, ""),
        ({"stdout": 1, "tail": "9" * 5000}, 200, ""),
    ],
)
def test_questions_for_logs_are_checked(start: Start, query: dict[str, Any], status: int, message: str) -> None:
    container = ended(start("echo hi"))
    api = container.client.api
    answer = api._get(api._url("/containers/{0}/logs", container.id), params=query)
    assert answer.status_code == status
    if status == 200:
        assert answer.content.endswith(b"hi\n")
    else:
        assert answer.json()["message"] == message
