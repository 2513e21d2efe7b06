"""Links between containers, through the engine's socket and with docker's own client; the words are those of dockerd 26.1."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from raw_client import ask_json

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def names(docker_client: Any, name: str) -> Iterator[Callable[[str], str]]:
    """Names of this test's own; containers and networks of these names are gone after it."""
    yield lambda short: f"{name}-{short}"
    for one in docker_client.containers.list(all=True, filters={"name": f"^/?{name}-"}):
        one.remove(force=True)
    for one in docker_client.networks.list(names=[name]):
        one.remove()


class Host:
    """docker's client and the API on one engine."""

    def __init__(self, engine: Any, client: Any) -> None:
        self.engine = engine
        self.client = client

    def docker(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_HOST": self.engine.url}
        return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, env=environment)

    def run(self, name: str, *options: str) -> None:
        done = self.docker("run", "-d", "--stop-timeout", "0", "--name", name, *options, "busybox", "sleep", "900")
        assert done.returncode == 0, done.stderr

    def hosts(self, name: str) -> list[list[str]]:
        """Lines of /etc/hosts but for the first six, which all containers have, and in the VM the one of the computer."""
        output = self.client.containers.get(name).exec_run(["cat", "/etc/hosts"]).output
        lines = [line.split() for line in output.decode().splitlines()[6:]]
        return [line for line in lines if "host.docker.internal" not in line]

    def address(self, name: str, network: str = "bridge") -> str:
        settings = self.client.api.inspect_container(name)["NetworkSettings"]["Networks"]
        return str(settings[network]["IPAddress"])

    def links(self, name: str) -> list[str] | None:
        found: list[str] | None = self.client.api.inspect_container(name)["HostConfig"]["Links"]
        return found

    def named(self, name: str) -> list[str]:
        identity = self.client.containers.get(name).id
        (one,) = self.client.api.containers(all=True, filters={"id": identity})
        found: list[str] = one["Names"]
        return found

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        answer = ask_json(str(self.engine.socket), method, path, body)
        return answer.status, answer.json()["message"]


@pytest.fixture
def host(engine: Any, docker_client: Any) -> Host:
    return Host(engine, docker_client)


def test_a_link_is_a_name_variables_and_a_line_in_hosts(host: Host, names: Any) -> None:
    db, web = names("db"), names("web")
    host.run(db, "--hostname", "dbhost", "-e", "A=b", "--expose", "80", "--expose", "53/udp")
    host.run(web, "--link", f"{db}:al", "--link", db, "-e", "AL_ENV_A=own")
    short = host.client.containers.get(web).id[:12]
    assert host.hosts(web) == [
        [host.address(db), "al", "dbhost", db],
        [host.address(db), db, "dbhost"],
        [host.address(web), short],
    ]
    assert host.links(web) == [f"/{db}:/{web}/al", f"/{db}:/{web}/{db}"]
    assert host.named(db) == sorted([f"/{db}", f"/{web}/al", f"/{web}/{db}"])
    for words in (["cat", "/proc/1/environ"], ["env", "-0"]):  # the container's process, and an exec
        output = host.client.containers.get(web).exec_run(words).output.decode()
        found = dict(entry.split("=", 1) for entry in output.split("\0") if "=" in entry)
        assert found["AL_PORT"] == f"udp://{host.address(db)}:53"
        assert found["AL_PORT_80_TCP_ADDR"] == host.address(db)
        assert (found["AL_NAME"], found["AL_ENV_A"]) == (f"/{web}/al", "own")
    assert not any(entry.startswith("AL_") for entry in host.client.api.inspect_container(web)["Config"]["Env"][1:])


def test_a_container_is_found_by_the_name_of_a_link(host: Host, names: Any) -> None:
    db, web = names("db"), names("web")
    host.run(db)
    host.run(web, "--link", f"{db}:al")
    identity = host.client.containers.get(db).id
    for path in ("json", "top", "changes", "stats?stream=0", "archive?path=/etc/hosts"):
        assert ask_json(str(host.engine.socket), "GET", f"/containers/{web}/al/{path}").status == 200, path
    assert host.docker("inspect", "--format", "{{.Id}}", f"{web}/al").stdout.strip() == identity
    assert host.docker("exec", f"{web}/al", "hostname").stdout.strip() == identity[:12]
    assert host.refused("GET", f"/containers/{web}/no/json") == (404, f"No such container: {web}/no")
    assert host.docker("ps", "--filter", f"name={db}$", "--format", "{{.Names}}").stdout == f"{db}\n"
    whole = host.docker("ps", "--no-trunc", "--filter", f"name={db}$", "--format", "{{.Names}}").stdout
    assert whole == f"{db},{web}/al\n"


@pytest.mark.parametrize(
    ("link", "mode", "status", "words"),
    [
        ("nosuch:x", "", 400, "could not get container for nosuch: No such container: nosuch"),
        ("{self}:x", "", 400, "could not get container for {self}: No such container: {self}"),
        ("{db}:a:b", "", 500, "bad format for links: {db}:a:b"),
        ("", "", 500, "empty string specified for links"),
        (":x", "", 400, 'could not get container for : invalid name or ID supplied: ""'),
        ("{db}:a\nb", "", 400, "bad format for links: '{db}:a\\nb'"),
        ("{host}:x", "", 400, "conflicting options: host type networking can't be used with links. This would result in "
         "undefined behavior"),
        ("{db}:x", "host", 400, "conflicting options: host type networking can't be used with links. This would result in "
         "undefined behavior"),
        ("{db}:x", "container:{db}", 400, "conflicting options: container type network can't be used with links. This "
         "would result in undefined behavior"),
    ],
)  # fmt: skip
def test_what_cannot_be_linked_is_refused_with_the_create(
    host: Host, names: Any, link: str, mode: str, status: int, words: str
) -> None:
    given = {"db": names("db"), "self": names("self"), "host": names("host")}
    host.run(given["db"])
    if "{host}" in link:
        host.run(given["host"], "--network", "host")
    body = {
        "Image": "busybox",
        "HostConfig": {"Links": [link.format(**given)], "NetworkMode": mode.format(**given)},
    }
    refused = host.refused("POST", f"/containers/create?name={given['self']}", body)
    assert refused == (status, words.format(**given))
    with pytest.raises(docker.errors.NotFound):
        host.client.containers.get(given["self"])


def test_of_two_links_with_one_alias_the_first_counts(host: Host, names: Any) -> None:
    host.run(names("a"))
    host.run(names("b"))
    host.run(names("web"), "--link", f"{names('a')}:x", "--link", f"{names('b')}:x", "--link", f"{names('b')}:")
    assert host.links(names("web")) == [f"/{names('a')}:/{names('web')}/x"]
    assert host.named(names("b")) == [f"/{names('b')}"]


def test_what_is_not_there_keeps_a_container_from_starting(host: Host, names: Any) -> None:
    db, web, job = names("db"), names("web"), names("job")
    host.run(db)
    host.run(web, "--link", f"{db}:al")
    host.client.containers.get(db).stop(timeout=0)
    cannot = f"Cannot link to a non running container: /{db} AS /{{}}/al"
    done = host.docker("run", "--name", job, "--link", f"{db}:al", "busybox", "true")
    assert cannot.format(job) in done.stderr
    assert (done.returncode, host.client.api.inspect_container(job)["State"]["ExitCode"]) == (125, 128)
    assert host.refused("POST", f"/containers/{job}/start") == (500, cannot.format(job))
    exec_create = host.refused("POST", f"/containers/{web}/exec", {"Cmd": ["true"]})
    assert exec_create == (500, cannot.format(web))  # dockerd's answer as well
    host.client.networks.create(names("net"), driver="bridge")
    host.run(names("far"), "--network", names("net"))
    done = host.docker("run", "--name", names("last"), "--link", f"{names('far')}:al", "busybox", "true")
    assert f"Cannot link to /{names('far')}, as it does not belong to the default network" in done.stderr


def test_hosts_follow_a_container_that_starts_with_another_address(host: Host, names: Any) -> None:
    db, web, filler = names("db"), names("web"), names("filler")
    host.run(db, "--hostname", "dbhost")
    host.run(web, "--link", f"{db}:al", "--add-host", "fixed:1.2.3.4")
    host.client.containers.get(web).exec_run(["sh", "-c", "echo 5.5.5.5 mine >>/etc/hosts"])
    before, rest = host.address(db), host.hosts(web)[2:]
    assert ["5.5.5.5", "mine"] in rest
    host.client.containers.get(db).stop(timeout=0)
    host.run(filler)
    assert host.address(filler) == before
    host.client.containers.get(db).start()
    assert host.address(db) not in ("", before)
    assert host.hosts(web) == [["1.2.3.4", "fixed"], [host.address(db), "al", "dbhost", db], *rest]


def test_a_renamed_container_keeps_its_links(host: Host, names: Any) -> None:
    db, web = names("db"), names("web")
    host.run(db)
    host.run(web, "--link", f"{db}:al")
    host.client.containers.get(db).rename(names("db2"))
    assert host.links(web) == [f"/{names('db2')}:/{web}/al"]
    assert host.named(names("db2")) == [f"/{names('db2')}", f"/{web}/al"]
    host.client.containers.get(web).rename(names("web2"))
    assert host.links(names("web2")) == [f"/{names('db2')}:/{names('web2')}/al"]
    assert host.client.containers.get(f"{names('web2')}/al").name == names("db2")
    assert host.refused("GET", f"/containers/{web}/al/json") == (404, f"No such container: {web}/al")
    output = host.client.containers.get(names("web2")).exec_run(["env"]).output
    assert f"AL_NAME=/{names('web2')}/al\n".encode() in output


def test_a_link_is_removed_and_nothing_else(host: Host, names: Any) -> None:
    db, web = names("db"), names("web")
    host.run(db)
    host.run(web, "--link", f"{db}:al", "--link", f"{db}:bl")
    own = "Conflict, cannot remove the default link name of the container"
    assert host.refused("DELETE", f"/containers/{web}?link=1&force=1") == (500, own)
    assert host.refused("DELETE", f"/containers/{web}/no?link=1") == (404, f"No such container: {web}/no")
    assert host.refused("DELETE", f"/containers/{names('no')}/al?link=1")[0] == 404
    assert host.docker("rm", "--force", "--link", f"{web}/al").stdout == f"{web}/al\n"
    assert host.links(web) == [f"/{db}:/{web}/bl"]
    assert host.named(db) == [f"/{db}", f"/{web}/bl"]
    assert host.hosts(web)[0][1] == "bl"
    assert host.client.containers.get(db).status == "running"
    host.client.api.remove_container(f"{web}/bl", link=True)
    assert host.links(web) is None
    host.client.containers.get(web).restart(timeout=0)
    assert len(host.hosts(web)) == 1


def test_what_is_removed_leaves_dockers_traces(host: Host, names: Any) -> None:
    db, web, job = names("db"), names("web"), names("job")
    host.run(db)
    host.run(web, "--link", f"{db}:al")
    host.run(job, "--link", f"{db}:al")
    host.client.containers.get(job).remove(force=True)
    assert host.named(db) == [f"/{db}", f"/{web}/al"]
    host.client.containers.get(db).remove(force=True)
    host.run(db)  # another one of the name
    assert host.links(web) == [f"/{db}:/{web}/al"]
    assert host.named(db) == [f"/{db}"]
    assert host.refused("DELETE", f"/containers/{web}/al?link=1") == (404, f"No such container: {web}/al")
    host.client.containers.get(web).stop(timeout=0)
    cannot = f"Cannot link to a non running container: /{db} AS /{web}/al"
    assert host.refused("POST", f"/containers/{web}/start") == (500, cannot)


def test_links_outlive_the_engine_and_policies_start_targets_first(engine_with: Any, name: str) -> None:
    with engine_with() as engine:
        client = docker.DockerClient(engine.url, timeout=60)
        host = Host(engine, client)
        host.run("db", "--restart", "always", "--hostname", "dbhost")
        host.run("web", "--restart", "always", "--link", "db:al", "--link", "db:gone")
        client.api.remove_container("web/gone", link=True)
        client.containers.get("db").rename("store")
        engine.kill()
        engine.start()
        assert host.links("web") == ["/store:/web/al"]
        assert client.containers.get("web/al").name == "store"
        assert host.hosts("web")[0] == [host.address("store"), "al", "dbhost", "db"]
        pids = [client.api.inspect_container(one)["State"]["Pid"] for one in ("store", "web")]
        shims = [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids]
        engine.kill()
        for process in (*shims, *pids):  # as after the machine's end: nobody has seen how they came to theirs
            os.kill(process, signal.SIGKILL)
        engine.start()
        assert [client.containers.get(one).status for one in ("web", "store")] == ["running", "running"]
        assert host.hosts("web")[0] == [host.address("store"), "al", "dbhost", "store"]
        client.close()


def test_links_on_a_users_network_are_names_for_one_container(host: Host, names: Any) -> None:
    db, web, net = names("db"), names("web"), names("net")
    host.client.networks.create(net, driver="bridge")
    host.run(db, "--network", net, "--network-alias", "store")
    # Names of one label that nobody has are not to be asked for elsewhere: from the engine's namespace there is no way to a DNS
    # server, and each query would wait for one.
    few = ("--network", net, "--dns-option", "ndots:1")
    host.run(web, *few, "--link", f"{db}:al", "--link", "store:bl", "--link", f"{names('late')}:cl")
    settings = host.client.api.inspect_container(web)
    assert settings["HostConfig"]["Links"] is None
    links = [f"{db}:al", "store:bl", f"{names('late')}:cl"]
    assert settings["NetworkSettings"]["Networks"][net]["Links"] == links
    assert host.named(db) == [f"/{db}"]

    def known() -> dict[str, str]:
        """What its resolver finds, as ping writes it before anything is sent."""
        found = {}
        for alias in ("al", "bl", "cl", "dl"):
            said = host.client.containers.get(web).exec_run(["ping", "-c1", "-W1", alias]).output.decode()
            if said.startswith("PING "):
                found[alias] = said.partition("(")[2].partition(")")[0]
        return found

    first = host.address(db, net)
    other = names("other")  # who shares the network has no such names
    host.run(other, *few)
    assert host.client.containers.get(other).exec_run(["ping", "-c1", "-W1", "al"]).exit_code == 1
    assert known() == {"al": first, "bl": first}
    assert b"AL_" not in host.client.containers.get(web).exec_run(["env"]).output
    host.run(names("late"), "--network", net)
    late = host.address(names("late"), net)
    assert known()["cl"] == late
    host.client.containers.get(db).stop(timeout=0)
    assert known().keys() == {"cl"}
    host.run(names("filler"), "--network", net)
    host.client.containers.get(db).start()
    assert host.address(db, net) != first
    assert known() == {"al": host.address(db, net), "bl": host.address(db, net), "cl": late}
    host.client.containers.get(db).rename(names("db2"))  # the name in the link is nobody's now; the alias holds
    assert known().keys() == {"bl", "cl"}
    assert host.client.containers.get(web).exec_run(["ping", "-c1", "-W2", "bl"]).exit_code == 0

    second = host.client.networks.create(names("net2"), driver="bridge")
    host.run(names("far"), "--network", names("net2"))
    second.connect(web, links=[(names("far"), "dl")])
    assert known()["dl"] == host.address(names("far"), names("net2"))
    second.disconnect(web)
    assert known().keys() == {"bl", "cl"}


def test_a_link_that_is_none_keeps_a_container_from_a_users_network(host: Host, names: Any) -> None:
    net = names("net")
    host.client.networks.create(net, driver="bridge")
    body = {"Image": "busybox", "HostConfig": {"NetworkMode": net}}
    body["NetworkingConfig"] = {"EndpointsConfig": {net: {"Links": ["a:b:c"]}}}
    answer = ask_json(str(host.engine.socket), "POST", f"/containers/create?name={names('web')}", body)
    assert answer.status == 201
    bad = (500, "bad format for links: a:b:c")
    assert host.refused("POST", f"/containers/{names('web')}/start") == bad
    host.run(names("db"))
    body = {"Container": names("db"), "EndpointConfig": {"Links": ["a:b:c"]}}
    assert host.refused("POST", f"/networks/{net}/connect", body) == bad
    body = {"Container": names("db"), "EndpointConfig": {"Links": "x"}}
    assert host.refused("POST", f"/networks/{net}/connect", body)[0] == 400


def test_a_hosts_file_that_has_grown_is_left_alone(host: Host, names: Any) -> None:
    db, web = names("db"), names("web")
    host.run(db)
    host.run(web, "--link", f"{db}:al")
    container = host.client.containers.get(web)
    container.exec_run(["sh", "-c", "yes '# filler' | head -c 2000000 >>/etc/hosts"])
    before = container.exec_run(["md5sum", "/etc/hosts"]).output
    host.client.containers.get(db).stop(timeout=0)
    host.run(names("filler"))
    host.client.containers.get(db).start()
    assert container.exec_run(["md5sum", "/etc/hosts"]).output == before
