"""What can be said in a compose file, as the application sees it: docker's own compose 2 on the engine."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from compose_support import Project, compose_config, project
from life_support import eventually

__all__ = ["compose_config", "project"]
pytestmark = [pytest.mark.root, pytest.mark.native]


def test_services_start_when_what_they_depend_on_is_ready(project: Project) -> None:
    project.write("""
        services:
          migrate:
            image: busybox
            command: sh -c 'cat /data/state >/data/migrated'
            volumes: [data:/data]
            depends_on: {database: {condition: service_healthy}}
          web:
            image: busybox
            init: true
            command: sh -c 'cat /data/migrated; sleep 600'
            volumes: [data:/data]
            depends_on:
              migrate: {condition: service_completed_successfully}
              cache: {condition: service_started}
              absent: {condition: service_started, required: false}
          absent: {image: busybox, profiles: [never]}
          cache: {image: busybox, init: true, command: sleep 600}
          database:
            image: busybox
            init: true
            command: sh -c 'sleep 1; echo ready >/data/state; sleep 600'
            volumes: [data:/data]
            healthcheck: {test: grep ready /data/state, interval: 200ms, retries: 100}
        volumes: {data: }
        """)
    said = project.up("--wait", "web", "database", "cache").stderr
    assert re.search(r"database-1\s+Healthy", said)
    assert re.search(r"migrate-1\s+Exited", said)
    assert project.logs("web") == "ready\n"
    assert json.loads(project("ps", "database", "--format", "json").stdout)["Health"] == "healthy"

    # One that fails, and one that gets ill, keep those from starting that wait for them.
    project.write("""
        services:
          failing: {image: busybox, command: sh -c 'exit 3'}
          ill:
            image: busybox
            init: true
            command: sleep 600
            healthcheck: {test: 'false', interval: 100ms, retries: 2}
          one: {image: busybox, depends_on: {failing: {condition: service_completed_successfully}}}
          two: {image: busybox, depends_on: {ill: {condition: service_healthy}}}
        """)
    assert 'service "failing" didn\'t complete successfully: exit 3' in project.up("one", status=1).stderr
    assert "is unhealthy" in project.up("two", status=1).stderr
    assert project.inspect("one")["State"]["Status"] == "created"
    assert project.inspect("two")["State"]["Status"] == "created"


def test_networks_with_aliases_an_internal_one_and_one_from_outside(project: Project) -> None:
    outside = f"{project.name}-outside"
    project.docker("network", "create", "--subnet", "10.91.7.0/24", outside)
    project.write("""
        services:
          proxy:
            image: busybox
            init: true
            command: sleep 600
            hostname: front-door
            domainname: example.test
            extra_hosts: [host.docker.internal:host-gateway, "fixed:10.1.2.3", "six=fd00::1"]
            dns: 127.0.0.9  # nobody, who says so at once
            dns_search: [example.test]
            dns_opt: ["ndots:3"]
            networks: {front: , outside: {ipv4_address: 10.91.7.99, mac_address: '02:42:0a:00:00:09'}}
          web:
            image: busybox
            init: true
            command: sleep 600
            networks: {front: {aliases: [www]}, back: {priority: 100, ipv4_address: 10.92.8.10}}
          database:
            image: busybox
            init: true
            command: sleep 600
            networks: {back: {aliases: [store, store.internal]}}
          beside: {image: busybox, init: true, command: sleep 600, network_mode: 'service:web'}
          alone: {image: busybox, init: true, command: sleep 600, network_mode: none}
          default: {image: busybox, init: true, command: sleep 600, dns: 127.0.0.9}
        networks:
          front: {driver_opts: {com.docker.network.driver.mtu: 1400}}
          back: {internal: true, ipam: {config: [{subnet: 10.92.8.0/24, gateway: 10.92.8.250}]}}
          outside: {external: true, name: '${NAME}-outside'}
        """)
    try:
        project.up()
        look = "nslookup -type=a $1 127.0.0.11 | awk '/^Address/ && !/:53/ {print $NF}'"
        here = project.sh("web", "ip -4 -o address | awk '$2 != \"lo\" {print $2, $4}'").split()
        assert here[1::2].count("10.92.8.10/24") == 1
        front, front_address = next(
            pair for pair in zip(here[::2], here[1::2], strict=True) if "10.92.8." not in pair[1]
        )
        for alias in ("web", "www", f"{project.name}-web-1"):
            found = project.sh("proxy", look.replace("$1", alias)).split()
            assert found == [front_address.partition("/")[0]], alias
        for alias in ("database", "store", "store.internal"):
            assert project.sh("web", look.replace("$1", alias)).startswith("10.92.8.")
        assert project.sh("web", f"ping -c 1 -W 5 {project.name}-database-1")
        assert not project.sh("proxy", look.replace("$1", "database"))
        assert not project.sh("default", look.replace("$1", "web"))

        # The internal network leads nowhere; the other has the route out.
        assert "default" not in project.sh("database", "ip route")
        assert f"dev {front}" in project.sh("web", "ip route show default").strip()
        assert "mtu 1400" in project.sh("web", f"ip link show {front}")

        assert project.sh("proxy", "ip -o address").count("10.91.7.99/24") == 1
        assert "02:42:0a:00:00:09" in project.sh("proxy", "ip link")
        assert project.sh("proxy", "hostname; hostname -f").split() == ["front-door", "front-door.example.test"]
        hosts = project.sh("proxy", "cat /etc/hosts")
        assert re.search(r"^10\.1\.2\.3\s+fixed$", hosts, re.M)
        assert re.search(r"^fd00::1\s+six$", hosts, re.M)
        assert re.search(r"^[0-9.]+\s+host\.docker\.internal$", hosts, re.M)
        resolving = project.sh("proxy", "cat /etc/resolv.conf")
        assert "search example.test" in resolving
        assert "options ndots:3" in resolving
        assert project.sh("beside", "ip -4 -o address") == project.sh("web", "ip -4 -o address")
        assert project.sh("beside", "hostname") == project.sh("web", "hostname")
        assert project.sh("alone", "ip -o link | wc -l") == "1\n"
        project("down", "--timeout", "0")
        assert outside in project.docker("network", "ls", "--format", "{{.Name}}").split()
    finally:
        project("down", "--timeout", "0")
        project.docker("network", "rm", outside)


def test_volumes_of_all_kinds_and_what_becomes_of_them(project: Project) -> None:
    project.docker("volume", "create", f"{project.name}-kept")
    project.write("of the host\n", "host/file")
    project.write("""
        services:
          one:
            image: busybox
            init: true
            command: sleep 600
            read_only: true
            tmpfs: ['/run:size=1m,mode=1770', /tmp]
            volumes:
              - data:/data
              - {type: volume, source: data, target: /reading, read_only: true}
              - {type: volume, source: kept, target: /kept, volume: {nocopy: true}}
              - {type: bind, source: ./host, target: /host, read_only: true}
              - {type: tmpfs, target: /small, tmpfs: {size: 65536, mode: 0o1700}}
              - /anonymous
          two: {image: busybox, init: true, command: sleep 600, volumes_from: [one]}
        volumes:
          data: {labels: {of: this test}}
          kept: {external: true, name: '${NAME}-kept'}
          memory: {driver_opts: {type: tmpfs, device: tmpfs, o: size=64k}}
        """)
    try:
        project.up()
        assert project.sh("one", "echo 1 >/data/f; echo 2 >/anonymous/f; echo 3 >/kept/f; cat /reading/f /host/file")
        assert project.sh("two", "cat /data/f /anonymous/f /kept/f /reading/f") == "1\n2\n3\n1\n"
        for place in ("/x", "/reading/x", "/host/x"):
            assert "Read-only file system" in project("exec", "-T", "one", "touch", place, status=1).stderr
        assert project.sh("one", "grep ' /small ' /proc/mounts | tr ' ,' '\\n\\n' | grep size") == "size=64k\n"
        assert project.sh("one", "stat -c %a /run /small").split() == ["1770", "1700"]
        assert project.docker("volume", "inspect", "-f", "{{.Labels.of}}", f"{project.name}_data") == "this test\n"
        before = project.ids()

        # Made anew: named and anonymous volumes are kept, the latter only until they are renewed.
        project.up("--force-recreate", "--timeout", "0")
        assert not set(project.ids().values()) & set(before.values())
        assert project.sh("one", "cat /data/f /anonymous/f") == "1\n2\n"
        project.up("--force-recreate", "--renew-anon-volumes", "--timeout", "0")
        assert project.sh("one", "cat /data/f; ls /anonymous") == "1\n"
        project("down", "--timeout", "0")
        assert f"{project.name}_data" in project.docker("volume", "ls", "-q").split()
        project.up()
        assert project.sh("two", "cat /data/f /kept/f") == "1\n3\n"
        project("down", "--volumes", "--timeout", "0")
        left = [one for one in project.docker("volume", "ls", "-q").split() if project.name in one]
        assert left == [f"{project.name}-kept"]
    finally:
        project("down", "--volumes", "--timeout", "0")
        project.docker("volume", "rm", f"{project.name}-kept")


def test_configs_and_secrets_from_files_variables_and_the_file_itself(project: Project) -> None:
    project.write("in a file", "config.txt")
    project.write("hidden in a file", "secret.txt")
    project.write("""
        services:
          app:
            image: busybox
            init: true
            command: sleep 600
            configs:
              - from_file
              - {source: inline, target: /etc/app/inline.conf, mode: 0o440, uid: '7', gid: '8'}
              - {source: from_variable, target: /etc/variable}
            secrets:
              - from_file
              - {source: from_variable, target: renamed, mode: 0o400, uid: '65534'}
        configs:
          from_file: {file: ./config.txt}
          inline: {content: "name=${NAME}\\nprice=$$5\\n"}
          from_variable: {environment: CONFIGURED}
        secrets:
          from_file: {file: ./secret.txt}
          from_variable: {environment: HIDDEN}
        """)
    project.up(CONFIGURED="by a variable", HIDDEN="by a variable, too")
    assert project.sh("app", "cat /from_file /etc/variable") == "in a fileby a variable"
    assert project.sh("app", "cat /etc/app/inline.conf") == f"name={project.name}\nprice=$5\n"
    assert project.sh("app", "stat -c '%a %u %g' /etc/app/inline.conf") == "440 7 8\n"
    assert project.sh("app", "cat /run/secrets/from_file /run/secrets/renamed") == "hidden in a fileby a variable, too"
    assert project.sh("app", "stat -c '%a %u' /run/secrets/renamed") == "400 65534\n"
    assert project("exec", "-T", "-u", "65534", "app", "cat", "/run/secrets/renamed").stdout == "by a variable, too"
    assert "by a variable, too" not in project.docker("inspect", f"{project.name}-app-1")


def test_environment_profiles_extends_include_and_files_on_files(project: Project) -> None:
    project.write("FROM_FILE=1\nBOTH=file\nQUOTED='a # b'\n", "app.env")
    project.write("DEFAULTED=\nLEVEL=from .env\n", ".env")
    project.write("LEVEL=from other.env\n", "other.env")
    project.write(
        """
        services:
          base:
            image: busybox
            init: true
            command: sleep 600
            environment: {INHERITED: 'yes', BOTH: base}
            labels: {org.example.base: 'true'}
            working_dir: /srv
        """,
        "parts/base.yaml",
    )
    project.write("services:\n  included: {image: busybox, init: true, command: sleep 600}\n", "parts/more.yaml")
    project.write("""
        include: [parts/more.yaml]
        x-common: &common
          logging: {driver: json-file, options: {max-size: 1m, tag: '{{.Name}}'}}
        services:
          app:
            <<: *common
            extends: {file: parts/base.yaml, service: base}
            env_file: [app.env, {path: absent.env, required: false}]
            environment:
              - BOTH=here
              - LEVEL
              - PASSED
              - MADE=${DEFAULTED:-default}/${LEVEL:?}/${NAME}
          debug: {image: busybox, init: true, command: sleep 600, profiles: [debug]}
        """)
    project.write(
        "services:\n  app: {environment: {ADDED: 'by the other file'}, working_dir: !reset null}\n", "more.yaml"
    )
    show = "for name in FROM_FILE BOTH QUOTED LEVEL PASSED MADE INHERITED ADDED; do eval echo $name=\\$$name; done; pwd"
    project.up(PASSED="given")
    seen = project.sh("app", show).splitlines()
    assert seen == [
        "FROM_FILE=1", "BOTH=here", "QUOTED=a # b", "LEVEL=from .env", "PASSED=given",
        f"MADE=default/from .env/{project.name}", "INHERITED=yes", "ADDED=", "/srv",
    ]  # fmt: skip
    told = project.inspect("app")
    assert told["Config"]["Labels"]["org.example.base"] == "true"
    assert told["HostConfig"]["LogConfig"]["Config"] == {"max-size": "1m", "tag": "{{.Name}}"}
    assert set(project.ids()) == {"app-1", "included-1"}
    files = ("--env-file", "other.env", "-f", "compose.yaml", "-f", "more.yaml", "--profile", "debug")
    project(*files, "up", "--detach", "--timeout", "0")
    seen = project.sh("app", show).splitlines()
    assert seen[3:6] == [
        "LEVEL=from other.env",
        "PASSED=",
        f"MADE=/from other.env/{project.name}".replace("=/", "=default/"),
    ]
    assert seen[-2:] == ["ADDED=by the other file", "/"]
    assert set(project.ids()) == {"app-1", "included-1", "debug-1"}
    assert (
        "required variable LEVEL is missing a value" in project("--env-file", "/dev/null", "config", status=15).stderr
    )


def test_limits_privileges_and_namespaces(project: Project) -> None:
    project.write("""
        services:
          one:
            image: busybox
            init: true
            command: sleep 600
            user: '1000:1001'
            group_add: ['1234']
            ulimits: {nofile: {soft: 4000, hard: 5000}, nproc: 300, core: 0}
            sysctls: {net.ipv4.ip_default_ttl: 77, net.core.somaxconn: '2000'}
            cap_drop: [ALL]
            cap_add: [NET_BIND_SERVICE]
            security_opt: ['no-new-privileges:true']
            shm_size: 2m
            ipc: shareable
            oom_score_adj: 300
            devices: ['/dev/null:/dev/nothing:r']
            stop_signal: SIGUSR1
            platform: linux/amd64
            pull_policy: never
            annotations: {org.example.note: kept}
          two: {image: busybox, init: true, command: sleep 600, ipc: 'service:one', pid: 'service:one', cap_add: [ALL]}
          three: {image: busybox, command: sleep 600, privileged: true, uts: host, stop_grace_period: 0s}
        """)
    project.up()
    assert project.sh("one", "cat /proc/1/comm; id -u; id -g; id -G").split() == [
        "docker-init",
        "1000",
        "1001",
        "1001",
        "1234",
    ]
    assert project.sh("one", "ulimit -Sn; ulimit -Hn; ulimit -c").split() == ["4000", "5000", "0"]
    assert project.sh("one", "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/core/somaxconn").split() == [
        "77",
        "2000",
    ]
    status = project.sh("one", "cat /proc/self/status")
    assert re.search(r"^CapBnd:\t0000000000000400$", status, re.M)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
    assert project.sh("one", "cat /proc/1/oom_score_adj") == "300\n"
    assert project.sh("one", "df -k /dev/shm | awk 'END {print $2}'") == "2048\n"
    assert project.sh("one", "ls -l /dev/nothing").startswith("c")
    assert project.sh("two", "readlink /proc/self/ns/ipc") == project.sh("one", "readlink /proc/self/ns/ipc")
    assert project.sh("two", "readlink /proc/self/ns/pid") == project.sh("one", "readlink /proc/self/ns/pid")
    assert re.search(r"^CapEff:\t0+1ff", project.sh("three", "cat /proc/self/status"), re.M)
    told = project.inspect("one")
    assert told["Config"]["StopSignal"] == "SIGUSR1"
    assert told["HostConfig"]["Annotations"] == {"org.example.note": "kept"}


def test_restarts_stops_and_health_checks(project: Project) -> None:
    project.write("""
        services:
          failing: {image: busybox, command: sh -c 'echo begun; exit 4', restart: 'on-failure:2'}
          always: {image: busybox, init: true, command: sleep 600, restart: always}
          polite:
            image: busybox
            command: sh -c "trap 'echo bye; exit 5' USR2; echo ready; while true; do sleep 0.1; done"
            stop_signal: USR2
            stop_grace_period: 30s
          stubborn:
            image: busybox
            command: sh -c "trap '' TERM; echo ready; while true; do sleep 0.1; done"
            stop_grace_period: 1s
          unchecked: {image: checked, build: {dockerfile_inline: "FROM busybox\\nHEALTHCHECK CMD false\\nCMD sleep 600\\n"},
            healthcheck: {disable: true}, init: true, pull_policy: build}
        """)
    project.up()
    eventually(
        lambda: project.inspect("failing")["RestartCount"] == 2 and not project.inspect("failing")["State"]["Running"]
    )
    assert project.logs("failing") == "begun\n" * 3
    assert project.inspect("failing")["State"]["ExitCode"] == 4
    assert "Health" not in project.inspect("unchecked")["State"]
    assert project.inspect("unchecked")["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    pid = project.inspect("always")["State"]["Pid"]
    project.docker(
        "exec", "--detach", f"{project.name}-always-1", "kill", "-9", "-1"
    )  # which may end before it has told
    eventually(lambda: project.inspect("always")["State"]["Pid"] not in (0, pid))
    eventually(lambda: project.logs("polite") + project.logs("stubborn") == "ready\nready\n")
    project("stop", "polite", "stubborn")
    assert project.logs("polite") == "ready\nbye\n"
    assert project.inspect("polite")["State"]["ExitCode"] == 5
    assert project.inspect("stubborn")["State"]["ExitCode"] == 137


def replicas(project: Project, service: str) -> list[str]:
    look = f"nslookup -type=a {service} 127.0.0.11 | awk '/^Address/ && !/:53/ {{print $NF}}'"
    return sorted(project.sh("client", look).split())


def test_replicas_are_all_found_by_name(project: Project) -> None:
    project.write("""
        services:
          web:
            image: busybox
            init: true
            command: sh -c 'mkdir /www; hostname >/www/index.html; exec httpd -f -h /www'
            expose: [80]
            ports: ['80']
            deploy: {replicas: 2}
          client: {image: busybox, init: true, command: sleep 600}
        """)
    project.up("--scale", "web=3")
    addresses = replicas(project, "web")
    assert len(addresses) == 3
    names = {project.sh("client", f"wget -q -O - {address}") for address in addresses}
    assert len(names) == 3
    ports = [project("port", "--index", str(at), "web", "80").stdout.strip() for at in (1, 2, 3)]
    assert {project.get(port.replace("0.0.0.0", "127.0.0.1")) for port in ports} == names
    before = project.ids()
    project.up("--timeout", "0")
    assert set(project.ids().items()) < set(before.items())
    assert len(replicas(project, "web")) == 2
    project("scale", "web=1")
    assert len(replicas(project, "web")) == 1
    project("scale", "--no-deps", "web=4")
    assert len(replicas(project, "web")) == 4
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in project("ps", "--format", "json", "web").stdout.splitlines()
    ]
    assert {row["Name"].removeprefix(f"{project.name}-") for row in rows} == {f"web-{at}" for at in (1, 2, 3, 4)}
    assert {row["Publishers"][0]["TargetPort"] for row in rows} == {80}
