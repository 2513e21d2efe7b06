"""Records what docker's own CLI sends for `docker create`, the fixture that `test_run_options.py` compares Cove with.

Run by hand where a docker CLI is installed: python tests/unit/cli/record_docker.py
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

FIXTURE = Path(__file__).with_name("docker_create_requests.json")
HOME = "/home/user"

CASES = [
    "busybox",
    "busybox a b",
    "-it busybox sh",
    "-i -a stdin busybox",
    "-t -a stdout -a stderr busybox",
    "--tty=false -i=true busybox",
    "--entrypoint 'sh -c' busybox x",
    "--entrypoint '' -w /w -u 1:2 -h hh --domainname dd busybox",
    "-p 80 busybox",
    "-p=80:80 -p 127.0.0.1:81:80/udp -p '[::1]:5:5' -p 127.0.0.1::7 busybox",
    "-p 1000-1001:2000-2001 -p 81-85:80 -p 3000-3002 --expose 7-8 --expose 9/udp -P busybox",
    "-p target=80,published=8181,protocol=tcp,mode=host -p 83/ -p 84/udp/x busybox",
    "-p target=81-82,published=91-92,protocol=UDP -p target=7,published=[::1]:8-9,target=70 busybox",
    "-v : -v c: -v a:/b busybox",
    "-v /a:/b:ro -v vol:/c -v /anon -v ~/x:/y -v /s:/t:rshared,z busybox",
    "-v C:/x:/y -v a:/q --volumes-from zz:ro --volume-driver vd busybox",
    "--mount type=bind,src=/x,dst=/y,readonly,bind-propagation=rslave busybox",
    "--mount type=volume,src=v,target=/z,volume-nocopy,volume-opt=a=b,volume-label=c=d,volume-driver=dd busybox",
    "--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777 --mount dst=/a busybox",
    "--mount type=bind,src=/x,dst=/y,bind-recursive=writable,ro=true busybox",
    "--tmpfs /q:size=1m --tmpfs /r busybox",
    "-m 1.5g --memory-swap -1 --memory-reservation 6m --memory-swappiness 5 --kernel-memory 5m --shm-size 64M busybox",
    "--cpus 1.5 --cpu-shares 3 --cpuset-cpus 0 --cpuset-mems 0 --cpu-period 5 --cpu-quota 6 busybox",
    "--pids-limit 7 --oom-kill-disable --oom-score-adj 5 --blkio-weight 100 busybox",
    "--blkio-weight-device /dev/sda:100 --device-read-bps /dev/sda:1mb --device-write-iops /dev/sda:100 busybox",
    "--ulimit nofile=1:2 --ulimit nproc=5 --ulimit core=-1 busybox",
    "--device /dev/null:/dev/x:r --device /dev/zero --device /dev/a:rw --device-cgroup-rule 'c 1:3 mr' busybox",
    "--network n1 --network-alias foo --ip 10.0.0.5 --ip6 fd00::1 --link-local-ip 169.254.1.1 --link c1:al busybox",
    "--network n1 --network name=n2,alias=q,alias=r,ip=1.2.3.4,driver-opt=A=B,gw-priority=3 busybox",
    "--network host busybox",
    "--net none busybox",
    "--network container:abc busybox",
    "--network bridge --mac-address 92:d0:c6:0a:29:33 --link c1 busybox",
    "--dns 1.1.1.1 --dns-search a.b --dns-option b --dns-opt c --add-host a:1.2.3.4 --add-host b=::1 busybox",
    "--add-host h:host-gateway --add-host i=[fd00::2] busybox",
    "--health-cmd 'x y' --health-interval 1m30s --health-retries 3 --health-timeout 500ms busybox",
    "--health-start-period 1h --health-start-interval 1.5s busybox",
    "--no-healthcheck --restart on-failure:3 --init busybox",
    "--restart always --init=false --read-only --privileged busybox",
    "--restart unless-stopped --stop-signal TERM --stop-timeout 5 busybox",
    "--rm --stop-timeout 0 --name x --platform linux/amd64 busybox",
    "--cap-add NET_ADMIN --cap-add cap_sys_time --cap-drop all busybox",
    "--security-opt no-new-privileges --security-opt label=disable --security-opt seccomp=unconfined busybox",
    "--security-opt systempaths=unconfined busybox",
    "--log-driver json-file --log-opt max-size=1m --log-opt max-file=3 busybox",
    "--ipc host --pid host --uts host --userns host --cgroupns private --cgroup-parent /cg busybox",
    "--sysctl net.a=b --storage-opt size=1G --runtime runc --isolation default --annotation q=w busybox",
    "--gpus all busybox",
    "--gpus 2 --group-add audio --group-add 5 busybox",
    "--gpus '\"device=0,1\",capabilities=utility' busybox",
    "-l a -l b=c -l b=d busybox",
    "-e A=B -e HOME -e UNSET_VARIABLE -e E= busybox",
    "-- busybox -x --rm",
    "busybox --rm -it",
]


def _answer(connection: socket.socket, requests: list[dict[str, Any]]) -> None:
    stream = connection.makefile("rwb")
    while line := stream.readline():
        method, target, _ = line.decode().split()
        headers = {}
        while head := stream.readline().strip():
            name, _, value = head.decode().partition(": ")
            headers[name.lower()] = value
        body = stream.read(int(headers.get("content-length", 0)))
        if "/containers/create" in target:
            query = dict(parse_qsl(urlsplit(target).query))
            requests.append({"query": query, "body": json.loads(body)})
        data = b'{"Id":"abc"}'
        head_text = f"HTTP/1.1 201 Created\r\nApi-Version: 1.51\r\nOstype: linux\r\nContent-Length: {len(data)}\r\n\r\n"
        stream.write(head_text.encode() + (b"" if method == "HEAD" else data))
        stream.flush()


def record(cases: list[str]) -> list[dict[str, Any]]:
    """Run `docker create` for every case against a socket of ours; the requests it made."""
    import shlex

    requests: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/docker.sock"
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_answer, args=(connection, requests), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        recorded = []
        for case in cases:
            words = shlex.split(case.replace("~", HOME))
            environment = os.environ | {"DOCKER_HOST": f"unix://{path}", "HOME": HOME}
            done = subprocess.run(
                ["docker", "create", *words], env=environment, capture_output=True, text=True, timeout=20
            )
            if done.returncode:
                raise SystemExit(f"docker create {case}: {done.stderr}")
            recorded.append({"arguments": words, **requests.pop()})
        return recorded


if __name__ == "__main__":
    FIXTURE.write_text(json.dumps(record(CASES), indent=1, sort_keys=True) + "\n")
