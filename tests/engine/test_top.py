"""The processes of a container, as ps of their machine shows them."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest

from life_support import ask, events_of, eventually

pytestmark = [pytest.mark.root, pytest.mark.native]

SCRIPT = "sleep 500 & sleep 600 & setsid sh -c 'exec sleep 700' & exec sleep 600"


@pytest.fixture(scope="module")
def container(engine: Any) -> Iterator[Any]:
    """One with seven processes, two users, a terminal and an odd command line."""
    client = docker.DockerClient(engine.url, timeout=60)
    made = client.containers.run(
        "busybox", ["sh", "-c", SCRIPT], name=f"t-{uuid.uuid4().hex[:12]}", detach=True, tty=True
    )
    api = client.api
    for words, user in ((["sh", "-c", "exec sleep 800"], "nobody"), (["sh", "-c", "sleep 900; :", "a\n\x1bé  b"], "0")):
        api.exec_start(api.exec_create(made.id, words, user=user)["Id"], detach=True)
    eventually(lambda: str(made.top(ps_args="-o pid,comm")["Processes"]).count("sleep") == 6)
    yield made
    made.remove(force=True)
    client.close()


@pytest.fixture(scope="module")
def ps(engine: Any) -> Iterator[str]:
    """The command for procps' ps on the engine's machine: this computer's, with its libraries, where there is only busybox."""
    if "procps" in engine.sh("ps --version 2>&1 || true"):
        yield "COLUMNS=4096 LC_ALL=C.UTF-8 ps"
        return
    program = shutil.which("ps")
    assert program is not None
    used = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, timeout=20).stdout
    files = [program, *re.findall(r"(/\S+) \(0x", used)]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as archive:
        for file in files:
            archive.add(file, Path(file).name)
        archive.add("/usr/lib/locale/C.utf8", "C.utf8")
    client = docker.DockerClient(engine.url, timeout=60)
    carrier = client.containers.create("busybox", name=f"t-{uuid.uuid4().hex[:12]}", volumes=["/ps"])
    carrier.put_archive("/ps", packed.getvalue())
    folder = carrier.attrs["Mounts"][0]["Source"]
    (loader,) = (Path(file).name for file in files if Path(file).name.startswith("ld-"))
    yield f"COLUMNS=4096 LOCPATH={folder} LC_ALL=C.UTF-8 {folder}/{loader} --library-path {folder} {folder}/ps"
    carrier.remove(v=True)
    client.close()


def ps_of_its_machine(engine: Any, ps: str, arguments: str, pids: list[str]) -> tuple[list[str], list[list[str]]]:
    """What dockerd would answer: ps of these processes, or of all, and of that the lines of these."""
    command = f"{ps} {shlex.join(arguments.split())}"
    lines = [line.split() for line in engine.sh(f"{command} -q {','.join(pids)} 2>/dev/null || {command}").splitlines()]
    titles = lines[0]
    at, most = titles.index("PID"), len(titles) - 1
    return titles, [[*line[:most], " ".join(line[most:])] for line in lines[1:] if line and line[at] in pids]


SAME = [
    "-ef", "-eF", "aux", "-aux", "ax", "x", "-l", "-ely", "-efl", "-j", "-jf", "axj", "axl", "axs", "axv", "-c", "-efc",
    "-eP", "-efL", "-eT", "axH", "-eM", "auxww", "axc", "axn", "-e a", "-ef a", "-O rss", "-C sleep", "-u nobody",
    "-o pid,comm", "-opid,args", "-eo pid,user,%cpu,%mem,command", "o pid,args", "--format pid,stat,time",
    "-o pid,user=WHO,wchan:3,args", "-o pid -o ppid,pgid,sid,tpgid", "-o pid,ruser,suser,fuser,group,rgroup,supgrp",
    "-o pid,uid,euid,ruid,gid,egid,rgid", "-o pid,s,state,stat,f,pri,opri,intpri,priority,ni,cls,policy,rtprio,sched",
    "-o pid,nlwp,thcount,lwp,tid,spid,tgid", "-o pid,tty,tt,tname,lstart", "-o pid,start,bsdstart,stime,start_time",
    "-o pid,rss,rsz,vsz,sz,size,trs,drs,pmem", "-o pid,cgroup", "-o pid,exe", "-o pid,pending,blocked,ignored,caught",
    "-o pid,pidns,netns,mntns,utsns,ipcns,userns", "-o pid,oom,oomadj", "-o pid,ucmd,ucomm,comm,cmd", "-eo pid --sort -pid",
]  # fmt: skip


@pytest.mark.parametrize("arguments", SAME)
def test_columns_are_those_of_ps(engine: Any, ps: str, container: Any, arguments: str) -> None:
    pids = [line[0] for line in container.top(ps_args="-o pid")["Processes"]]
    assert len(pids) == 7

    def lines_of(processes: list[list[str]]) -> list[list[str]]:
        # ps shows "?" for a terminal that its own /dev has no device for.
        return sorted([re.sub(r"^pts/\d+$", "?", word) for word in line] for line in processes)

    before = container.top(ps_args=arguments)
    titles, lines = ps_of_its_machine(engine, ps, arguments, pids)
    after = container.top(ps_args=arguments)
    assert before["Titles"] == titles == after["Titles"]
    theirs = lines_of(lines)
    rows = [*zip(lines_of(before["Processes"]), theirs, lines_of(after["Processes"]), strict=True)]
    assert len(rows) >= 1
    # Time has passed between the three, and a share of it is another then.
    for row in rows:
        assert all(map(between, *row)), row


def between(first: str, word: str, last: str) -> bool:
    if word in (first, last):
        return True
    try:
        low, high = sorted((float(first), float(last)))
        return low <= float(word) <= high
    except ValueError:
        return False


def test_without_arguments_it_is_ef(container: Any) -> None:
    told = container.top()
    assert told["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    container.reload()
    init = next(line for line in told["Processes"] if line[1] == str(container.attrs["State"]["Pid"]))
    assert (init[0], init[5], init[7]) == ("root", "pts/0", "sleep 600")
    assert {line[0] for line in told["Processes"]} == {"root", "nobody"}


def test_a_tree_has_children_below_their_parents(container: Any) -> None:
    lines = container.top(ps_args="axf -o pid,ppid,args")["Processes"]
    container.reload()
    init = str(container.attrs["State"]["Pid"])
    at = next(index for index, line in enumerate(lines) if line[0] == init)
    below = [line for line in lines if line[1] == init]
    assert len(below) == 3
    assert lines[at + 1 : at + 4] == below
    assert all(line[2].endswith("\\_ sleep " + line[2].split()[-1]) for line in below)


def test_the_order_is_as_asked_for(container: Any) -> None:
    def pids(arguments: str) -> list[int]:
        return [int(line[0]) for line in container.top(ps_args=arguments)["Processes"]]

    ascending = pids("-o pid")
    assert ascending == sorted(ascending)
    assert pids("-o pid --sort=-pid") == ascending[::-1]
    assert pids("-o pid k -pid") == ascending[::-1]


def test_a_command_cannot_move_the_cursor(container: Any) -> None:
    words = [line[-1] for line in container.top(ps_args="-o pid,args")["Processes"]]
    assert "sh -c sleep 900; : a ?é b" in words


REFUSED = {
    "-o comm": "Couldn't find PID field in ps output",
    "-o pid h": "Couldn't find PID field in ps output",
    "-o foo": 'ps: error: unknown user-defined format specifier "foo"',
    "-o pid,,comm": "ps: error: improper format list",
    "-o": "ps: error: format specification must follow -o",
    "--foo": "ps: error: unknown gnu long option",
    "-y": "ps: error: modifier -y without format -l makes no sense",
    "-k": "ps: error: unsupported SysV option",
    "Q": "ps: error: unsupported option (BSD syntax)",
    "-": "ps: error: garbage option",
    "ul": "ps: error: conflicting format options",
    "-LT": "ps: error: thread flags conflict; can't use both -L and -T",
    "-u nosuch": "ps: error: user name does not exist",
    "-p x": "ps: error: process ID list syntax error",
    "-C nosuch": "ps: exit status 1",
    "--sort": "ps: error: long sort specification must follow --sort",
    "--sort foo": "ps: error: unknown sort specifier",
    " -o comm=PID": 'specifying "comm=PID" is not allowed',
    "-m": "ps: error: -m is not supported here: the engine reads /proc itself, as ps does for -ef, aux and -o",
    "-o pid:99999999999999999999999,args:0": "ps: error: column widths must be unsigned decimal numbers",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_cannot_be_done_is_told(engine: Any, container: Any, arguments: str) -> None:
    path = f"/containers/{container.id}/top?ps_args={quote(arguments)}"
    assert ask(engine, "GET", path) == (500, {"message": REFUSED[arguments]})


def test_there_is_a_limit_to_what_is_asked_for(engine: Any, container: Any) -> None:
    path = f"/containers/{container.id}/top?ps_args={quote(' ' * 5000)}"
    assert ask(engine, "GET", path) == (500, {"message": "ps: argument list too long"})


def test_it_must_run(engine: Any, docker_client: Any, name: str) -> None:
    made = docker_client.containers.create("busybox", "true", name=name)
    assert ask(engine, "GET", f"/containers/{name}/top") == (409, {"message": f"container {made.id} is not running"})
    assert ask(engine, "GET", "/containers/nosuch/top") == (404, {"message": "No such container: nosuch"})


def test_a_paused_one_is_shown(docker_client: Any, name: str) -> None:
    made = docker_client.containers.run("busybox", "sleep 600", name=name, detach=True)
    made.pause()
    assert [line[-1] for line in made.top()["Processes"]] == ["sleep 600"]


def test_it_is_an_event(engine: Any, docker_client: Any, name: str) -> None:
    made = docker_client.containers.run("busybox", "sleep 600", name=name, detach=True)
    with events_of(engine, made) as events:
        made.top()
        assert events.until("top")["Actor"]["Attributes"] == {"image": "busybox", "name": name}
