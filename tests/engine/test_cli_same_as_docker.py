"""The same command with docker's CLI and with cove, on the same engine: same output, same errors, same exit status.

Commands that leave something behind run with docker and with cove in turn, each on objects of its own, whose names and ids are made
equal before comparing.

What the two programs say is the same before any engine, and one on this computer answers ten times as fast as the VM's. One command of
each kind, and whole lives of objects, are asked of the VM's: what is streamed, copied, limited and measured comes through the machine's
socket there, from the kernel that is shipped.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NATIVE = pytest.mark.native
HOST = "COVE_TEST_DOCKER_HOST"
"""Environment variable with the address of a test's engine."""


def but(in_vm: set[str], lines: Iterable[str]) -> list[Any]:
    """The lines, of which all but these are for this computer's engine."""
    assert in_vm <= set(lines)
    return [line if line in in_vm else pytest.param(line, marks=NATIVE) for line in lines]


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    native = request.config.getoption("--native") or request.node.get_closest_marker("native")
    made = request.getfixturevalue("native_engine" if native else "vm_engine")
    monkeypatch.setenv(HOST, made.url)
    return made


DOCKER = ("docker",)
COVE = (sys.executable, "-m", "cove")
# Each says its own name in usage texts.
OWN_NAME = re.compile(r"\b(?:cove|docker)\b")
OWN_VERBS = re.compile(r"^  (?:export|import) +(?:Export all|Import the) files of a .*\n", re.MULTILINE)
"""Of `volume`, which docker has not."""


@dataclass(frozen=True)
class Result:
    status: int
    stdout: str
    stderr: str


def call(program: tuple[str, ...], *words: str, stdin: bytes = b"", folder: Path | None = None) -> Result:
    environment = os.environ | {"DOCKER_HOST": os.environ[HOST], "COVE_HOST": os.environ[HOST]}
    if folder is not None:
        environment["PWD"] = str(folder)
    done = subprocess.run([*program, *words], env=environment, input=stdin, capture_output=True, timeout=60, cwd=folder)
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def same(result: Result, *own: str) -> Result:
    """`result` without what differs between two runs: names given by the test, ids, times."""

    def text(value: str) -> str:
        for index, name in enumerate(own):
            value = value.replace(name, f"NAME{index}")
        # docker may log that it stopped an archive in the middle, or be too fast for it.
        value = "".join(line for line in value.splitlines(keepends=True) if "closed pipe" not in line)
        value = re.sub(r"\b[0-9a-f]{64}\b", "<id>", value)
        value = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>", value)
        # Column widths follow the words for the time.
        value = re.sub(r"(Less than a second|\d+ seconds?) ago", "just now", value)
        value = re.sub(r"CREATED +SIZE", "CREATED SIZE", value)
        # Told from API 1.51 on, which docker 28.2 does not ask for yet.
        value = re.sub(r'"Containers":"\d+"', '"Containers":"N/A"', value)
        value = OWN_VERBS.sub("", value)
        return OWN_NAME.sub("PROGRAM", value)

    return Result(result.status, text(result.stdout), text(result.stderr))


@pytest.fixture(scope="module")
def names_in() -> Iterator[Callable[[str], tuple[str, str]]]:
    """Of the engine at an address."""
    found: dict[str, tuple[str, str]] = {}
    with ExitStack() as stack:

        def names(host: str) -> tuple[str, str]:
            if host not in found:
                found[host] = stack.enter_context(two_containers(host))
            return found[host]

        yield names


@pytest.fixture
def names(engine: Any, names_in: Callable[[str], tuple[str, str]]) -> tuple[str, str]:
    """A running container with ports, labels and output, and one that has ended."""
    return names_in(engine.url)


@contextmanager
def two_containers(host: str) -> Iterator[tuple[str, str]]:
    prefix = f"covetest-{uuid.uuid4().hex[:8]}"
    running, ended = f"{prefix}-a", f"{prefix}-b"
    script = "echo out; echo err >&2; exec sleep 1000"
    ports = ("-p", "127.0.0.1::80", "-p", "127.0.0.1::9/udp")
    labels = ("-l", "a=b", "-l", "c=<d>")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOST, host)
        up = call(DOCKER, "run", "-d", "--name", running, *labels, *ports, "busybox", "sh", "-c", script)
        assert up.status == 0, up.stderr
        call(DOCKER, "run", "--name", ended, "-e", "A=B", "busybox", "sh", "-c", "echo one; echo two; exit 3")
    try:
        yield running, ended
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(HOST, host)
            call(DOCKER, "rm", "-f", running, ended)


READ_ONLY = [
    "ps --filter name=%a",
    "ps -a --filter name=covetest",
    "ps -aq --no-trunc --filter name=covetest",
    "ps -q -f name=%a",
    "ps -a --no-trunc --filter name=covetest",
    "ps -s --filter name=%a",
    "ps -a --format json --filter name=%a",
    "ps -a --format {{.ID}}|{{.Names}}|{{.Image}}|{{.State}}|{{.Labels}} --filter name=covetest",
    'ps --format {{.Label_"a"}} --filter name=%a',
    "ps -n 1 -q",
    "ps -l -q",
    "container ls -q",
    "container list -q",
    "ps --format table_{{.Names}}\\t{{.Ports}} --filter name=%a",
    "ps --format {{.Foo}}",
    "ps --format {{",
    "ps --format {{foo}}",
    "ps --format {{upper_.Names}}-{{lower_.State}} --filter name=%a",
    "ps extra",
    "ps -f foo",
    "ps -n x",
    "ps --filter name=nobody",
    "logs %a",
    "logs %b",
    "logs --tail 1 %b",
    "logs -n 0 %b",
    "logs --since 1h %b",
    "logs -t %b",
    "logs --details %a",
    "logs --details -t %b",
    "logs -f %b",
    "logs -f -n 1 -t %b",
    "logs -n -1 %b",
    "logs -n x %b",
    "logs --until 1h %b",
    "logs --since 2020-01-01 %b",
    "logs --since 2020-01-01T10 %b",
    "logs --since 2020-01-01T10:00:00.5Z --until 2100-01-01T00:00+02:00 %b",
    "logs --since 1.5 %b",
    "logs --since x %b",
    "logs --since 2020-13-01 %b",
    "logs --until 2020-01-01T10:00:00+0200 %b",
    "logs --until 2020-01-01T10:00:00Zx %b",
    "logs %a %b",
    "logs --foo %a",
    "container logs %b",
    "logs nosuch",
    "logs",
    "inspect %a",
    "inspect nosuch",
    "inspect %b nosuch",
    "inspect --type container nosuch",
    "inspect --type foo nosuch",
    "inspect --type image busybox",
    "inspect -f {{.State.Status}} %a",
    "inspect -f {{json_.Config.Labels}} %a",
    'inspect -f {{index_.Config.Labels_"a"}} %a',
    "inspect -f {{range_.Config.Env}}{{.}},{{end}} %a",
    "inspect -f {{.Foo}} %a",
    "inspect -f {{if_.State.Running}}up{{else}}down{{end}} %b",
    "inspect -f {{len_.Config.Cmd}} %a",
    "inspect -f {{ %a",
    'inspect -f {{join_.Config.Cmd_"+"}} %a',
    "inspect -f {{println_.Name}} %a",
    "inspect -f {{.Config.Cmd}} %a",
    "inspect -f {{range_$k,_$v_:=_.Config.Labels}}{{$k}}={{$v}};{{end}} %a",
    "inspect -s -f {{.SizeRw}} %b",
    "inspect -f json %a",
    "inspect -f {{.State.ExitCode}}_{{.State.Running}} %b",
    'inspect -f {{printf_"%%s-%%d"_.Name_.State.ExitCode}} %b',
    "container inspect %a",
    "image inspect busybox",
    "network inspect nosuch",
    "volume inspect nosuch",
    "port %a",
    "port %a 80",
    "port %a 9/udp",
    "port %a 81",
    "port nosuch",
    "port",
    "port %b",
    "top %a",
    "top %a -o pid,comm",
    "top %a aux",
    "top %a -eo pid,ppid,user,args",
    "top %a -o comm",
    "top %a -o foo",
    "top %b",
    "top nosuch",
    "top",
    "stats --no-stream %b",
    "stats --no-stream --no-trunc %b",
    "stats --no-stream --format json %b",
    "stats --no-stream --format {{json_.}} %b",
    "stats --no-stream --format {{.Container}}|{{.ID}}|{{.Name}}|{{.PIDs}} %a %b %a",
    "stats --no-stream --format table_{{.Name}}\\t{{.MemPerc}} %b",
    "stats --no-stream --format {{.Name}}",
    "stats --no-stream --format raw %a",
    "container stats --no-stream %b",
    "stats --no-stream nosuch %a",
    "stats nosuch",
    "stats --foo",
    "stats --no-stream=maybe",
    "events --since 1h --until 0s --filter container=%a",
    "events --since 1h --until 0s --filter container=%a --format json",
    "events --since 1h --until 0s --filter container=%b --format {{json_.Actor}}",
    "events --since 1h --until 0s --filter container=%b --filter event=die --format {{.Actor.Attributes.exitCode}}",
    "events --since 1h --until 0s --filter container=%b --format {{.Type}}_{{.Action}}_{{.Actor.Attributes.nosuch}}",
    "events --since 1h --until 0s --filter label=a=b --filter type=container --format {{.Action}}",
    "events --since 1h --until 0s --filter type=network --filter scope=swarm",
    "events --since 0 --until 1",
    "events --since 10 --until 5",
    "events --since 2020-01-01 --until 2020-01-02",
    "events --until 0s --format {{.Foo}}",
    "events --until 0s --format {{",
    "events --until 0s --format {{foo}}",
    "events --since foo",
    "events --filter foo",
    "events extra",
    "system events --since 1h --until 0s --filter container=%b",
    "wait %b",
    "wait nosuch",
    "exec %a echo hi",
    "exec %a sh -c exit_3",
    "exec -e X=y %a env",
    "exec -w /tmp %a pwd",
    "exec -u 1 %a id -u",
    "exec %a nosuch",
    "exec nosuch true",
    "exec %b true",
    "exec %a",
    "exec -it %a true",
    "exec -d %a true",
    "exec -i %a cat",
    "images busybox",
    "images -q busybox",
    "images --digests busybox",
    "images --no-trunc busybox",
    "images --format json busybox",
    "images -f reference=busybox -q",
    "images --format {{.Repository}}:{{.Tag}} busybox",
    "image ls busybox",
    "history busybox",
    "history -q busybox",
    "history --no-trunc busybox",
    "history -H=false busybox",
    "history nosuch",
    "network ls",
    "network ls -q",
    "network ls --no-trunc",
    "network ls --format json",
    "network ls --format {{json_.}}",
    "ps -a -f name=%a --format {{json_.}}",
    "volume ls -f name=nobody",
    "version -f {{.Server.Os}}",
    "info -f {{.OSType}}",
    "rm",
    "rm nosuch",
    "rm -f nosuch",
    "rm %a",
    "start",
    "start nosuch",
    "stop nosuch",
    "kill nosuch",
    "kill %b",
    "kill -s FOO %a",
    "pause nosuch",
    "unpause %a",
    "update",
    "update nosuch",
    "update --restart always nosuch other",
    "update --restart foo:x nosuch",
    "update --restart always:3 %a",
    "update --memory x %a",
    "update --memory 1k %a",
    "update --cpus 900 %a",
    "update --cpu-period 5 %a",
    "update --cpuset-cpus x %a",
    "update --blkio-weight 70000 %a",
    "container update --pids-limit x %a",
    "pause nosuch other",
    "unpause nosuch other",
    "stop --time 1 nosuch",
    "stop --time 1 --timeout 2 nosuch",
    "stop -t x nosuch",
    "stop -s FOO %a",
    "restart --time 1 -t 2 nosuch",
    "wait nosuch other",
    "kill -s 99 %a",
    "kill nosuch other",
    "exec -w nosuch %a pwd",
    "exec -u nosuch %a true",
    "exec --detach-keys foo %a true",
    "exec --env-file /nosuch %a true",
    "exec --privileged %a sh -c grep_CapBnd_/proc/self/status",
    "exec -t %a tty",
    "rename",
    "rename %a a@b",
    "rename nosuch x",
    "rename %a %a",
    "restart nosuch",
    "rmi nosuch",
    "tag nosuch a",
    "tag busybox A",
    "load -i /nosuch",
    "import /nosuch",
    "save busybox -o /nosuch/x",
    "save nosuch",
    "attach nosuch",
    "attach %b",
    "cp",
    "cp a b",
    "cp a b c",
    "cp -x a b",
    "cp %a:/x %b:/y",
    "cp nosuch:/x .",
    "cp /etc/passwd nosuch:/",
    "cp /nosuch %a:/tmp",
    "cp /etc/passwd/ %a:/tmp",
    "cp %a:/nosuch .",
    "cp -L %a:/nosuch -",
    "cp %a:/etc/passwd -",
    "cp %b:/etc/. -",
    "cp %a:/etc/passwd /nosuch/x",
    "cp %a:/etc/passwd /dev/null",
    "cp %a:/etc/passwd /etc/passwd/",
    "cp - %a:/etc/passwd",
    "cp - %a:/nosuch",
    "cp %a: -",
    "container cp",
    "diff",
    "diff nosuch",
    "diff %a %b",
    "diff %b",
    "container diff --foo %a",
    "export",
    "export nosuch",
    "export %b",
    "export -o /nosuch/x %b",
    "export -o /tmp %b",
    "export -o /dev/null %b",
    "export -o /etc/passwd/x %b",
    "container export nosuch",
    "commit",
    "commit nosuch",
    "commit %b BAD",
    "commit %b a:b:c",
    "commit %b x --foo",
    "commit -p=x %b",
    "container commit -c FOO_x %b",
    "pull",
    "pull a b",
    "pull BAD",
    "pull -a busybox:x",
    "pull 127.0.0.1:1/x",
    "pull -q 127.0.0.1:1/x:1",
    "pull -a 127.0.0.1:1/x",
    "pull --platform foo 127.0.0.1:1/x",
    "image pull 127.0.0.1:1/x",
    "push",
    "push a b",
    "push BAD",
    "push -a busybox:x",
    "push 127.0.0.1:1/nosuch",
    "push -q 127.0.0.1:1/nosuch:1",
    "push -a 127.0.0.1:1/nosuch",
    "push busybox@sha256:6c1510efea6ddf124a692d86923040c9d72cd5582327814924c666b4082a76cb",
    "push --platform a/b/c/d busybox",
    "image push BAD",
    "search",
    "search a b",
    "search --limit x a",
    "search --limit 1000 a",
    "search -f foo a",
    "search -f nosuch=x a",
    "search 127.0.0.1:1/a",
    "run --pull always 127.0.0.1:1/x",
    "run 127.0.0.1:1/x",
    "create -q --pull always 127.0.0.1:1/x",
    "create --platform foo busybox",
    "run --platform a*b busybox",
    "history --format json busybox",
    "history --format {{.ID}} -q busybox",
    "history --platform foo busybox",
    "history --format {{.Foo}} busybox",
    "history --format {{ busybox",
    "images --format {{.Foo}}",
    "images --format {{",
    "network ls --format {{.Foo}}",
    "image history -q busybox",
    "rmi BAD",
    "rmi -f nosuch",
    "rmi -f BAD nosuch",
    "rmi --platform foo busybox",
    "image inspect --platform foo busybox",
    "image inspect nosuch busybox",
    "save --platform foo busybox",
    "save busybox nosuch -o /nosuch/x",
    "image save nosuch",
    "load --platform foo",
    "load -i -",
    "image load -i /nosuch",
    "image import -",
    "images push",
    "system df",
    "system df --format json",
    "system df --format {{.Type}}|{{.TotalCount}}|{{.Active}}",
    "system df --format {{.Foo}}",
    "system df -v --format {{range_.Containers}}{{.Names}}|{{.Image}}|{{.LocalVolumes}}{{println}}{{end}}",
    "system df -v --format {{.Foo}}",
    "system df -v --format {{",
    "system df x",
    "system info -f {{.OSType}}",
    "system prune --volumes --filter until=1h",
    "system prune x",
    "image prune x",
    "tag busybox -x",
    "pull x:y@z",
    "volume rm nosuch",
    "network rm nosuch",
    "network connect nosuch %a",
    "volume",
    "volume nosuch",
    "network nosuch",
    "image nosuch",
    "container nosuch",
    "system nosuch",
    "help nosuch",
    "help network nosuch",
    "help network ls",
    "--nosuch ps",
    "nosuch",
    "run",
    "run --foo",
    "run -X",
    "run --name",
    "run -t=xx busybox",
    "run -m xx busybox",
    "run --pull never nosuch:1",
    "run --name bad@name busybox true",
    "run -d -a stdout busybox true",
    "run -it busybox true",
    "run --pull foo busybox",
    "run BUSY",
    "create",
    "create BUSY",
    "create a:b:c",
    "create --name bad@name busybox",
]


READ_IN_VM = {
    "ps -a --filter name=covetest",
    "ps -s --filter name=%a",
    "logs -t %b",
    "logs -f %b",
    "inspect %a",
    "port %a",
    "top %a",
    "stats --no-stream %b",
    "stats --no-stream --format raw %a",
    "events --since 1h --until 0s --filter container=%a",
    "wait %b",
    "exec %a sh -c exit_3",
    "exec -i %a cat",
    "exec -t %a tty",
    "exec --privileged %a sh -c grep_CapBnd_/proc/self/status",
    "images --digests busybox",
    "history busybox",
    "network ls",
    "version -f {{.Server.Os}}",
    "info -f {{.OSType}}",
    "rm %a",
    "update --memory 1k %a",
    "update --cpus 900 %a",
    "rename %a %a",
    "cp %a:/etc/passwd -",
    "cp %b:/etc/. -",
    "diff %b",
    "export %b",
    "pull 127.0.0.1:1/x",
    "system df -v --format {{range_.Containers}}{{.Names}}|{{.Image}}|{{.LocalVolumes}}{{println}}{{end}}",
}


@pytest.mark.parametrize("line", but(READ_IN_VM, READ_ONLY))
def test_reads_alike(line: str, names: tuple[str, str]) -> None:
    words = [
        word.replace("%%", "\0").replace("%a", names[0]).replace("%b", names[1]).replace("_", " ").replace("\0", "%")
        for word in line.split(" ")
    ]
    for _ in range(5):  # "Up 2 seconds" and "Up 3 seconds": the clock may tick between the two, but not every time
        ours, theirs = same(call(COVE, *words)), same(call(DOCKER, *words))
        if ours == theirs:
            break
    assert ours == theirs


# Not images and rmi: docker 28.5 shows experimental options there that 28.2 does not know.
HELP = [
    "attach", "commit", "container_attach", "container_ls", "container_list", "container_ps", "container_prune",
    "container_remove", "container_rm", "cp", "diff", "events", "exec", "export", "history",
    "image_history", "image_import", "image_inspect", "image_load", "image_prune", "image_pull", "image_push",
    "image_save", "image_tag", "import",
    "info", "inspect", "kill", "load", "login", "logout", "logs", "network_connect", "network_create", "network_list",
    "network_rm", "pause", "port", "ps", "pull", "push", "rename", "restart", "rm", "save", "search", "stop", "system_df", "system_events",
    "system_info", "system_prune", "tag",
    "top", "unpause", "update", "version", "volume_create", "volume_prune", "volume_remove", "volume_update", "wait",
]  # fmt: skip


@NATIVE
@pytest.mark.parametrize("command", HELP)
def test_helps_alike(command: str) -> None:
    ours, theirs = (same(call(program, *command.split("_"), "--help")) for program in (COVE, DOCKER))
    assert (ours.status, ours.stdout.rstrip()) == (theirs.status, theirs.stdout.rstrip())


# WORDS, and what comes on stdin after "<". Nothing answers at 127.0.0.1:1.
LOGINS = [
    "login",
    "login 127.0.0.1:1",
    "login -u x 127.0.0.1:1",
    "login -u x -p y 127.0.0.1:1",
    "login -u x --password-stdin https://127.0.0.1:1/v2/ < y",
    "login --password-stdin 127.0.0.1:1 < y",
    "login -u x -p y --password-stdin 127.0.0.1:1",
    "login --username= 127.0.0.1:1",
    "login --password= 127.0.0.1:1",
    "login -u",
    "login --foo",
    "login known.example",
    "logout",
    "logout known.example",
    "logout https://known.example/v1/",
    "logout old.example",
    "logout 127.0.0.1:1",
    "logout --foo",
    "pull 127.0.0.1:1/x",
    "pull known.example/x",
]
CONFIGURATIONS = {
    "none": "",
    "one": '{"auths": {"known.example": {"auth": "bWU6cHc="}, "https://old.example/v1/": {"auth": "bWU6cHc="}}}',
    "helper": '{"auths": {}, "credsStore": "covetest-nosuch"}',
}


@NATIVE
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("line", LOGINS)
def test_logins_alike(line: str, configuration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.json"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    words, _, stdin = line.partition(" < ")
    results = []
    for program in (DOCKER, COVE):
        file.write_text(CONFIGURATIONS[configuration])
        file.chmod(0o600)
        result = same(call(program, *words.split(" "), stdin=stdin.encode()), str(tmp_path))
        results.append((result, json.loads(file.read_text() or "{}"), file.stat().st_mode))
    # docker asks its helper for what its web login may have left, and once more for a name that it has tried.
    told = [result.stderr.splitlines() for result, _, _ in results]
    if configuration == "helper" and words.startswith("logout"):
        assert results[1][0].stdout == results[0][0].stdout
        assert set(told[1]) >= set(told[0]) - {told[0][0] if told[0] else ""}
        return
    assert results[1] == results[0]


@NATIVE
@pytest.mark.parametrize("kind", ["container", "image", "network", "volume", "system"])
def test_a_refused_prune_ends_alike(kind: str) -> None:
    for words in ([kind, "prune"], [kind, "prune", "--filter", "label=a10", "--filter", "label=a9"]):
        assert same(call(COVE, *words, stdin=b"no\n")) == same(call(DOCKER, *words, stdin=b"no\n"))


# The tree that stands at both ends of a copy, each beneath a directory of its own.
TREE = (
    "mkdir -p dir/sub other/f; echo file >f; echo a >dir/a; ln dir/a dir/hard; echo b >dir/sub/b; ln -s a dir/link;"
    " ln -s /etc/passwd dir/absolute; ln -s dir to_dir; ln -s f to_file; ln -s nowhere dangling; ln -s loop loop;"
    " mkfifo dir/pipe; chmod 4755 f; chmod 700 dir/sub; : >dir/empty; chmod 0 dir/empty"
)
# SOURCE DESTINATION [FLAG...], done from the container and into it.
COPIES = [
    "f new", "f new/", "f f", "f f/", "f dir", "f dir/.", "f no/such", "f other", "f to_dir", "f to_file", "f dangling",
    "f loop", "f/ new", "f/. new", "dir new", "dir new/", "dir dir", "dir f", "dir other", "dir/ other", "dir/. other",
    "dir/. new", "dir/sub dir/sub/b", "to_dir new", "to_dir new -L", "to_dir/ new", "to_dir/. new", "to_file new",
    "to_file new -L", "to_file other -L", "dangling new", "dangling new -L", "loop new", "loop new -L", "nosuch new",
    "nosuch/x new", ". other", "dir/sub/.. new", "dir/pipe new", "dir/empty new", "dir/hard new -a", "dir new -q",
    "f .", "f ..", "dir new -a -q=false",
]  # fmt: skip


@pytest.mark.parametrize("into", [True, False], ids=["into", "from"])
@pytest.mark.parametrize("line", but({"dir/hard new -a", "to_file other -L"}, COPIES))
def test_copies_alike(line: str, into: bool, names: tuple[str, str], tmp_path: Path) -> None:
    source, destination, *more = line.split(" ")
    results = []
    for program in (DOCKER, COVE):
        work = f"{tmp_path.name}-{program[-1]}"
        here, there = tmp_path / work, f"/copies/{work}"
        here.mkdir()
        subprocess.run(["sh", "-c", TREE], cwd=here, check=True, timeout=60)
        made = call(DOCKER, "exec", names[0], "sh", "-c", f"mkdir -p {there}; cd {there}; {TREE}")
        assert made.status == 0, made.stderr
        container = f"{names[0]}:{there}/"
        ends = (source, container + destination) if into else (container + source, destination)
        result = same(call(program, "cp", "-q=false", *more, *ends, folder=here), work)
        # How far docker got with an archive that it stops in the middle differs from run to run.
        error = re.sub(r"copied \S+ to", "copied <n> to", result.stderr) if result.status else result.stderr
        # docker 28.2 says the whole path of what is in the way, 28.5 its last part.
        error = re.sub(r'(cannot overwrite \S+) "(?:[^"]*/)?([^"/]*)"', r'\1 "\2"', error)
        shown = "find . -mindepth 1 -exec stat -c '%n %F %a %h %N' {} + | sort"
        inside = call(DOCKER, "exec", names[0], "sh", "-c", f"cd {there}; {shown}")
        local = subprocess.run(["sh", "-c", shown], cwd=here, capture_output=True, text=True, timeout=60)
        results.append((result.status, result.stdout, error, inside.stdout, local.stdout))
    assert results[1] == results[0]


def test_archives_are_streamed_alike(names: tuple[str, str], tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", TREE], cwd=tmp_path, check=True, timeout=60)
    archive = subprocess.run(["tar", "c", "."], cwd=tmp_path, capture_output=True, check=True, timeout=60).stdout
    for words in (["-"], ["-a", "-q=false", "-"]):
        trees = []
        for program in (DOCKER, COVE):
            there = f"/stream-{uuid.uuid4().hex[:8]}"
            call(DOCKER, "exec", names[0], "mkdir", there)
            done = same(call(program, "cp", *words, f"{names[0]}:{there}", stdin=archive), there)
            broken = same(call(program, "cp", *words, f"{names[0]}:{there}", stdin=b"no archive" * 100), there)
            tree = call(DOCKER, "exec", names[0], "sh", "-c", f"cd {there}; find . | sort")
            trees.append((done, broken, tree))
        assert trees[1] == trees[0]


def test_files_are_exported_alike(names: tuple[str, str], tmp_path: Path) -> None:
    for program in (DOCKER, COVE):
        target = tmp_path / program[-1]
        assert call(program, "export", "-o", str(target), names[1]) == Result(0, "", "")
        assert target.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / DOCKER[-1]).read_bytes() == (tmp_path / COVE[-1]).read_bytes()
    (tmp_path / "link").symlink_to("nowhere")
    words = ("export", "-o", str(tmp_path / "link"), names[1])
    assert same(call(COVE, *words)) == same(call(DOCKER, *words))


RUNS = [
    "--rm busybox echo hello",
    "--rm busybox sh -c exit_7",
    "--rm busybox sh -c echo_out;echo_err>&2;exit_1",
    "--rm -i busybox cat",
    "--rm -t busybox echo tty",
    "--rm busybox nosuch",
    "--rm busybox /etc",
    "--rm busybox cat",
    "--rm -i busybox sh -c head_-c_3",
    "--rm busybox sh -c kill_-9_$$",
    "--rm -e A=b -w /tmp -u 1 busybox sh -c echo_$A;pwd;id_-u",
    "--rm -h box busybox hostname",
    "--rm --entrypoint echo busybox a b",
    "--rm --log-driver none busybox echo hi",
    "--rm --log-driver none --log-opt max-size=1m busybox echo hi",
    "--rm --log-driver local --log-opt max-size=1m --log-opt max-file=2 busybox echo hi",
    "--rm --log-driver local --log-opt labels=a busybox echo hi",
    "--rm --log-driver local --log-opt max-file=1 busybox echo hi",
    "--rm --log-driver nosuch busybox echo hi",
    "--rm --log-opt nosuch=1 busybox echo hi",
    "--rm --log-opt max-size busybox echo hi",
    "--rm --log-opt max-size=x busybox echo hi",
    "--rm --log-opt max-file=0 busybox echo hi",
    "--rm --log-opt compress=true busybox echo hi",
    "--rm --log-opt mode=x busybox echo hi",
    "--rm --log-opt tag={{.Nosuch}} busybox echo hi",
    "--rm --log-opt labels-regex=( busybox echo hi",
    "--rm -a stderr busybox sh -c echo_o;echo_e>&2",
    "--rm --network none busybox true",
    "--rm -v /nosuchvolume busybox true",
    "--rm -m 1k busybox true",
    "--rm --sig-proxy=false busybox true",
    "--rm busybox seq 20000",
]


RUN_IN_VM = {
    "--rm -i busybox cat",
    "--rm -t busybox echo tty",
    "--rm busybox nosuch",
    "--rm busybox sh -c kill_-9_$$",
    "--rm -e A=b -w /tmp -u 1 busybox sh -c echo_$A;pwd;id_-u",
    "--rm --network none busybox true",
    "--rm -m 1k busybox true",
    "--rm busybox seq 20000",
}


@pytest.mark.parametrize("line", but(RUN_IN_VM, RUNS))
def test_runs_alike(line: str) -> None:
    words = ["run", *(word.replace("_", " ") for word in line.split(" "))]
    stdin = b"some input\n" * 1000
    assert same(call(COVE, *words, stdin=stdin)) == same(call(DOCKER, *words, stdin=stdin))


LIVES = {
    "create and start": ["create --name %n busybox echo hi", "start -a %n", "start %n", "wait %n", "logs %n", "rm %n"],
    "run detached": [
        "run -d --name %n busybox sleep 100",
        "pause %n",
        "unpause %n",
        "stop -t 0 %n",
        "start %n nosuch",
        "restart -t 0 %n",
        "kill %n",
        "wait %n",
        "rm %n",
    ],
    "log drivers": [
        "create --name %n --log-driver local --log-opt max-size=5k busybox seq 3000",
        "inspect -f {{.HostConfig.LogConfig.Type}}|{{.HostConfig.LogConfig.Config}}|{{.LogPath}} %n",
        "start -a %n",
        "logs -n 3 %n",
        "logs --details -n 2 %n",
        "rm %n",
        "run --name %n -l x=y -e E=f --log-opt labels=x --log-opt env=E --log-opt tag={{.ImageName}} busybox echo hi",
        "logs --details %n",
        "rm %n",
        "run --name %n --log-driver none busybox echo hi",
        "logs %n",
        "rm %n",
    ],
    "force and rename": ["run -d --name %n busybox sleep 100", "rm %n", "rename %n %n-2", "rm -f %n-2"],
    "tags": ["tag busybox %n:1", "images %n", "rmi %n:1", "rmi %n:1"],
    "volumes": [
        "volume create --label a=b %n",
        "volume create %n",
        "volume ls -f name=%n",
        "volume ls -q -f name=%n",
        "volume inspect -f {{.Name}}{{.Labels}} %n",
        "volume rm %n",
        "volume rm %n",
    ],
    "networks": [
        "network create --label a=b %n",
        "network create %n",
        "run -d --name %n --network %n busybox sleep 100",
        "network rm %n",
        "network disconnect -f %n %n",
        "network connect %n %n",
        "rm -f %n",
        "network rm %n",
    ],
    "updates": [
        "run -d --name %n busybox sleep 100",
        "update --restart on-failure:3 %n",
        "inspect -f {{.HostConfig.RestartPolicy.Name}}{{.HostConfig.RestartPolicy.MaximumRetryCount}} %n",
        "update --memory 100m --memory-swap 200m %n",
        "update --memory 300m %n",
        "update --cpus 0.5 %n",
        "update --cpu-quota 5000 %n",
        "update --pids-limit 50 %n nosuch",
        "inspect -f {{.HostConfig.Memory}}_{{.HostConfig.NanoCpus}}_{{.HostConfig.PidsLimit}} %n",
        "pause %n",
        "pause %n",
        "exec %n true",
        "start %n",
        "rm %n",
        "unpause %n",
        "rename %n %n-2",
        "stop -t 0 -s KILL %n-2",
        "wait %n-2",
        "rm %n-2",
    ],
    "health": [
        "create --name %n --health-cmd exit_1 --health-interval 1s --health-timeout 2s --health-retries 4"
        " --health-start-period 5s --health-start-interval 100ms --stop-signal USR1 --stop-timeout 3 busybox sleep 9",
        "inspect -f {{json_.Config.Healthcheck}}_{{.Config.StopSignal}}_{{.Config.StopTimeout}} %n",
        "rm %n",
        "create --name %n --no-healthcheck --health-cmd x busybox",
        "create --name %n --health-interval 10us busybox",
        "create --name %n --health-timeout -1s busybox",
        "create --name %n --stop-signal FOO busybox",
        "create --name %n --restart always --rm busybox",
    ],
    "names taken": ["create --name %n busybox", "create --name %n busybox", "run --name %n busybox", "rm %n"],
    "commit": [
        "run --name %n busybox sh -c echo_x>/x;rm_/etc/group",
        "diff %n",
        "commit -a me -m message -c CMD_x -c ENV_A=b -p=false %n %n:2",
        "images %n",
        "inspect -f {{.Author}}|{{.Comment}}|{{.Config.Cmd}}|{{.Config.Env}} %n:2",
        "container commit %n %n",
        "rmi %n %n:2",
        "rm %n",
    ],
}


@pytest.mark.parametrize("life", LIVES)
def test_lives_alike(life: str) -> None:
    results = []
    for program in (DOCKER, COVE):
        name = f"covelife{uuid.uuid4().hex[:8]}"
        lines = []
        for line in LIVES[life]:
            words = [word.replace("_", " ") for word in line.split(" ")]
            result = same(call(program, *(word.replace("%n", name) for word in words)), name)
            lines.append((line, result.status, _without_short_ids(result.stdout), _without_short_ids(result.stderr)))
        results.append(lines)
    assert results[1] == results[0]


def _without_short_ids(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{12}\b", "<short id>", text)


def test_a_saved_image_loads_again(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    assert call(COVE, "save", "-o", str(archive), "busybox").status == 0
    loads = [call(program, "load", "-i", str(archive)) for program in (DOCKER, COVE)]
    assert loads[0] == loads[1]
    piped = [call(program, "load", "-q", stdin=archive.read_bytes()) for program in (DOCKER, COVE)]
    assert piped[0] == piped[1]
    assert call(COVE, "save", "busybox").status == 0


def test_ps_into_a_closed_pipe_is_quiet() -> None:
    environment = os.environ | {"COVE_HOST": os.environ[HOST]}
    script = f"{sys.executable} -m cove run --rm busybox seq 100000 2>&1 | head -n 1"
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1\n", "")
