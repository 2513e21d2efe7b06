"""The commands of docker compose, the real one, on the engine."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import tarfile
import time

import pytest

from compose_support import Project, compose_config, project
from life_support import eventually

__all__ = ["compose_config", "project"]
pytestmark = [pytest.mark.root, pytest.mark.native]

IDLE = "image: busybox, init: true, command: sleep 600"


def test_up_again_changes_what_changed_and_nothing_else(project: Project) -> None:
    project.write(f"""
        services:
          one: {{{IDLE}, environment: {{SEEN: "${{SEEN:-first}}"}}}}
          two: {{{IDLE}, depends_on: [one]}}
          three: {{{IDLE}}}
        """)
    project("create")
    assert {project.inspect(name)["State"]["Status"] for name in ("one", "two", "three")} == {"created"}
    project.up("--wait")
    first = project.ids()
    project.up("--wait")
    assert project.ids() == first
    project.up("--timeout", "0", SEEN="second")
    second = project.ids()
    assert {name for name in first if first[name] != second[name]} == {"one-1", "two-1"}  # and what depends on it
    assert project.sh("one", "echo $SEEN") == "second\n"
    project.up("--no-recreate")
    assert project.ids() == second
    project.up("--timeout", "0", "--force-recreate", "--no-deps", "two", SEEN="second")
    assert {name for name, one in project.ids().items() if second[name] != one} == {"two-1"}
    project.write(f"services:\n  one: {{{IDLE}}}\n")
    said = project.up("--timeout", "0")
    assert "Found orphan containers" in said.stderr
    project.up("--timeout", "0", "--remove-orphans")
    assert set(project.ids()) == {"one-1"}
    assert "DRY-RUN MODE" in project("--dry-run", "up", "-d", "--scale", "one=2").stderr
    assert set(project.ids()) == {"one-1"}


def test_exec_run_and_cp(project: Project) -> None:
    project.write(f"""
        services:
          one: {{{IDLE}, environment: [A=1], scale: 2, volumes: [data:/data]}}
          job:
            image: busybox
            entrypoint: [sh, -c]
            command: ['echo "$$0 $$HOSTNAME"; cat; exit 6']
            stdin_open: true
            ports: [7777]
            depends_on: [one]
        volumes: {{data: }}
        """)
    project.up("one")
    assert project("exec", "-T", "one", "cat", data="given\n").stdout == "given\n"
    assert project.sh("one", "echo $A $B; id -u; pwd", "-e", "B=2", "-u", "7", "-w", "/tmp") == "1 2\n7\n/tmp\n"
    assert project.sh("one", "hostname", "--index", "2") == f"{project.inspect('one', 2)['Config']['Hostname']}\n"
    assert project("exec", "-T", "one", "sh", "-c", "echo out; echo err >&2; exit 9", status=9).stderr == "err\n"
    project("exec", "-d", "one", "touch", "/data/by-exec")
    eventually(lambda: project.sh("one", "ls /data") == "by-exec\n")
    status, said = on_terminal(project, "exec", "one", "sh", "-c", "tty; stty size; exit 8")
    assert (status, said.split()) == (8, ["/dev/pts/0", "33", "99"])

    ran = project("run", "--rm", "-T", "job", data="in\n", status=6)
    assert ran.stdout.startswith("sh ")
    assert ran.stdout.endswith("\nin\n")
    assert project("run", "--rm", "-T", "--no-deps", "--entrypoint", "id", "-u", "12", "job", "-u").stdout == "12\n"
    assert (
        project("run", "--rm", "-T", "-v", "data:/d", "-e", "X=y", "one", "sh", "-c", "ls /d; echo $X").stdout
        == "by-exec\ny\n"
    )
    status, said = on_terminal(project, "run", "--rm", "--quiet-pull", "one", "tty")
    assert (status, said.split()[-1]) == (0, "/dev/pts/0")
    (project.folder / "tree").mkdir()
    (project.folder / "tree" / "file").write_text("of the host")
    project("cp", "tree", "one:/copied")
    for index in ("1", "2"):
        assert project.sh("one", "cat /copied/file", "--index", index) == "of the host"
    project("cp", "--index", "2", "one:/copied/file", "back")
    assert (project.folder / "back").read_text() == "of the host"
    archive = subprocess.run(
        [*project._compose, "cp", "one:/copied", "-"], cwd=project.folder, env=project.environment, capture_output=True,
        check=True, timeout=60,
    ).stdout  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert "copied/file" in tar.getnames()

    project("run", "-d", "--name", f"{project.name}-named", "--service-ports", "one")
    assert project.docker("inspect", "-f", "{{.State.Status}}", f"{project.name}-named") == "running\n"
    assert set(project.ids()) == {"one-1", "one-2", "named"}


def on_terminal(project: Project, *words: str) -> tuple[int, str]:
    """Status and output of docker compose on a terminal of 33 rows and 99 columns."""
    import fcntl
    import struct
    import termios

    pid, terminal = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 33, 99, 0, 0))
            os.chdir(project.folder)
            os.execve(project._compose[0], [*project._compose, *words], {**project.environment, "TERM": "xterm"})
        finally:
            os._exit(99)
    said = b""
    try:
        while piece := os.read(terminal, 65536):
            said += piece
    except OSError:
        pass  # the other side is closed
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()


def test_logs_of_several_services_are_followed(project: Project) -> None:
    project.write("""
        services:
          one:
            image: busybox
            command: sh -c 'for i in 1 2 3; do echo one $$i; done; until cat /go/on; do sleep 0.1; done 2>/dev/null; echo one last'
            volumes: [go:/go]
          two:
            image: busybox
            command: sh -c 'echo two first; echo two error >&2; until cat /go/on; do sleep 0.1; done 2>/dev/null; echo two last'
            volumes: [go:/go]
        volumes: {go: }
        """)
    with project.running("logs", "--follow") as early:
        assert early.end()[0] == 0  # there is nothing yet to follow
    project.up()
    with (
        project.running("logs", "--follow", "--no-color") as follow,
        project.running("logs", "-f", "--tail", "1", "one") as tail,
    ):
        for text in ("one 1", "one 2", "one 3"):
            assert "one-1  | " in follow.until(text)
        tail.until("one 3")
        eventually(lambda: "two error" in project.logs("two"))
        project.sh("two", "touch /go/on")
        for lines in (follow, tail):
            status, said = lines.end()
            assert status == 0
            assert said.count("one last") == 1
        assert {"two first", "two error", "two last"} <= {line.rpartition("| ")[2].strip() for line in follow.seen}
        assert "one 1" not in "".join(tail.seen)
    stamped = project("logs", "--timestamps", "--no-log-prefix", "--tail", "1", "one").stdout.replace("\x1b[2K", "")
    assert stamped.split(" ", 1)[1] == "one last\n"
    assert stamped.startswith("20")
    assert "one 1" not in project("logs", "--since", stamped.split()[0], "one").stdout


def test_what_runs_is_shown_paused_killed_and_removed(project: Project) -> None:
    project.write("""
        services:
          web:
            image: busybox
            init: true
            command: sh -c 'mkdir /www; echo page >/www/index.html; exec httpd -f -h /www'
            ports: ['127.0.0.1::80', '80/udp', {target: 81, host_ip: 127.0.0.1, protocol: tcp, mode: host}]
            labels: {of: this test}
          other: {image: busybox, init: true, command: sleep 601, stop_grace_period: 0s}
        """)
    with project.running("events", "--json") as events:
        project.up()
        seen = [json.loads(events.until('"start"')) for _ in range(2)]
        assert {(one["service"], one["action"], one["type"]) for one in seen} == {
            ("web", "start", "container"), ("other", "start", "container"),
        }  # fmt: skip
        assert seen[0]["attributes"]["image"] == "busybox"
        address = project("port", "web", "80").stdout.strip()
        assert project.get(address) == "page\n"
        assert project("port", "--protocol", "udp", "web", "80").stdout.startswith(("0.0.0.0:", "127.0.0.1:"))

        assert "sleep 601" in project("top", "other").stdout
        assert "httpd" in project("top").stdout
        table = project("ps").stdout.splitlines()
        assert table[0].split()[:4] == ["NAME", "IMAGE", "COMMAND", "SERVICE"]
        assert len(table) == 3
        assert set(project("ps", "--services").stdout.split()) == {"web", "other"}
        assert project("ps", "-q", "web").stdout.strip() == project.ids()["web-1"]
        assert "busybox" in project("images").stdout
        (listed,) = (one for one in json.loads(project("ls", "--format", "json").stdout) if one["Name"] == project.name)
        assert listed["Status"] == "running(2)"
        assert f"{project.name}-web-1" in project("stats", "--no-stream").stdout

        project("pause", "web")
        events.until('"pause"')
        assert project("ps", "--status", "paused", "--format", "{{.Service}}: {{.State}}").stdout == "web: paused\n"
        project("unpause", "web")
        events.until('"unpause"')
        assert project.get(address) == "page\n"

        before = project.inspect("web")["State"]["Pid"]
        project("restart", "--timeout", "0", "web")
        assert project.inspect("web")["State"]["Pid"] != before
        assert project.get(project("port", "web", "80").stdout.strip()) == "page\n"
        with project.running("wait", "other") as waiting:
            time.sleep(0.5)  # it says nothing of its having begun
            project("kill", "--signal", "KILL", "other")
            assert waiting.end()[0] == 137
        (row,) = [json.loads(line) for line in project("ps", "-a", "--format", "json", "other").stdout.splitlines()]
        assert (row["State"], row["ExitCode"]) == ("exited", 137)
        project("start", "other")
        project("stop", "--timeout", "0")
        assert project("ps", "-q").stdout == ""
        project("rm", "--force", "other")
        assert set(project.ids()) == {"web-1"}
        events.until('"destroy"')
    project("down", "--timeout", "0")
    assert f"{project.name}_default" not in project.docker("network", "ls", "--format", "{{.Name}}")


def test_up_in_the_foreground(project: Project) -> None:
    project.write("""
        services:
          server:
            image: busybox
            command: sh -c "trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
          test: {image: busybox, command: sh -c 'echo tested; exit 7', depends_on: [server], profiles: [test]}
        """)
    with project.running("up", "--no-color") as up:
        up.until("ready")
        up.process.send_signal(signal.SIGINT)
        status, said = up.end()
    assert status == 130
    assert "Gracefully stopping" in said
    assert project.logs("server") == "ready\nbye\n"
    assert project.inspect("server")["State"]["ExitCode"] == 0
    done = project("--profile", "test", "up", "--exit-code-from", "test", "--no-color", status=7)
    assert "tested" in done.stdout
    assert not project.inspect("server")["State"]["Running"]


def test_build(project: Project) -> None:
    project.write(
        """
        FROM busybox AS base
        ARG GREETING=none
        RUN --mount=type=secret,id=token echo "$GREETING $(cat /run/secrets/token) $(cat /etc/hosts | grep -c 10.1.1.1)" >/greeting
        COPY --from=other file /from-other
        FROM base AS short
        CMD ["cat", "/greeting", "/from-other"]
        FROM base
        CMD ["false"]
        """,
        "app/Dockerfile",
    )
    project.write("other\n", "other/file")
    project.write("secret", "token.txt")
    project.write("""
        services:
          app:
            build:
              context: app
              target: short
              args: {GREETING: hello}
              additional_contexts: {other: ./other}
              secrets: [token]
              extra_hosts: [some.host:10.1.1.1]
              labels: {of.the: build}
              tags: ['${NAME}:tagged']
          named: {image: '${NAME}-its-own', build: {context: app, dockerfile_inline: "FROM busybox\\nCMD echo inline\\n"}}
          never: {image: '${NAME}.invalid/absent', pull_policy: never, profiles: [never]}
        secrets: {token: {file: token.txt}}
        """)
    assert "load build definition" in project("build", "app").stdout
    done = project("up", "--no-color", "app", "named")
    assert "| hello secret 1\n" in done.stdout.replace("\x1b[2K", "")
    assert "| other\n" in done.stdout.replace("\x1b[2K", "")
    assert (
        project.docker("image", "inspect", "-f", '{{index .Config.Labels "of.the"}}', f"{project.name}:tagged")
        == "build\n"
    )
    first = project.ids()["app-1"]
    for _ in range(3):
        project.up("--build", "app")
        assert project.ids()["app-1"] == first
    project.write("changed\n", "other/file")
    project.up("--build", "app")
    assert project.ids()["app-1"] != first
    eventually(lambda: "changed\n" in project.logs("app"))
    assert "No such image" in project.up("never", status=1).stderr
    rows = json.loads(project("images", "--format", "json").stdout)
    assert {row["Repository"] for row in rows} == {f"{project.name}-app", f"{project.name}-its-own"}
    project.docker("rmi", f"{project.name}:tagged")
    project("down", "--rmi", "local")
    left = project.docker("images", "--format", "{{.Repository}}").split()
    assert not [one for one in left if one.startswith(project.name)]
    assert "busybox" in left


def test_watch_syncs_restarts_and_rebuilds(project: Project) -> None:
    project.write(
        "FROM busybox\nCOPY base /base\nCMD echo begun $(cat /src/restart 2>/dev/null); exec sleep 600\n",
        "app/Dockerfile",
    )
    project.write("base 1\n", "app/base")
    project.write("one\n", "app/src/file")
    project.write("one\n", "app/restart/restart")
    project.write("""
        services:
          app:
            init: true
            build: app
            stop_grace_period: 0s
            develop:
              watch:
                - {action: sync, path: app/src, target: /src, ignore: ['*.tmp']}
                - {action: sync+restart, path: app/restart, target: /src}
                - {action: rebuild, path: app/base}
        """)
    project.up("--build")
    eventually(lambda: project.logs("app") == "begun\n")
    with project.running("watch", "--no-up") as watching:
        watching.until("Watch enabled")
        project.write("ignored\n", "app/src/x.tmp")
        project.write("two\n", "app/src/file")
        project.write("new\n", "app/src/deep/new")
        eventually(
            lambda: (
                project.sh("app", "cat /src/file /src/deep/new 2>/dev/null; ls /src || true")
                == "two\nnew\ndeep\nfile\n"
            )
        )
        (project.folder / "app/src/deep/new").unlink()
        eventually(lambda: project.sh("app", "ls /src/deep || true") == "")
        project.write("restarted\n", "app/restart/restart")
        eventually(lambda: project.logs("app") == "begun\nbegun restarted\n")
        before = project.ids()
        project.write("base 2\n", "app/base")
        running = ("ps", "--quiet", "--status", "running", "app")
        eventually(lambda: project(*running).stdout.strip() not in ("", before["app-1"]))
        eventually(lambda: project.sh("app", "cat /base || true") == "base 2\n")
