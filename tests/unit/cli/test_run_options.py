"""What `cove create` sends is what docker's CLI sends, recorded from the real one by `record_docker.py`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from cove.cli.command import Context
from cove.cli.errors import CliError, UsageError
from cove.cli.run import COMMANDS
from cove.cli.run_options import create_body

CASES = json.loads(Path(__file__).with_name("docker_create_requests.json").read_text())
UNUSED_ENDPOINT_FIELDS = {
    "NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address",
    "GlobalIPv6PrefixLen", "DNSNames",
}  # fmt: skip


def body_of(words: list[str]) -> dict[str, Any]:
    return create_body(COMMANDS["create"].parse(Context("cove create"), words))


def meaning(body: dict[str, Any]) -> dict[str, Any]:
    """The request without what only the engine fills in, and without an order where order means nothing."""
    body = json.loads(json.dumps(body))
    for endpoint in body["NetworkingConfig"]["EndpointsConfig"].values():
        for field in UNUSED_ENDPOINT_FIELDS & endpoint.keys():
            assert not endpoint.pop(field)
    body["Env"] = sorted(body["Env"] or [])
    body["HostConfig"]["Binds"] = sorted(body["HostConfig"]["Binds"] or [])
    body["HostConfig"]["Ulimits"].sort(key=lambda limit: limit["Name"])
    return body


@pytest.mark.parametrize("case", CASES, ids=lambda case: shlex.join(case["arguments"]))
def test_sends_what_docker_sends(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.delenv("UNSET_VARIABLE", raising=False)
    assert meaning(body_of(case["arguments"])) == meaning(case["body"])


# Docker's own words, each seen from docker 28.2.
NOSUCH = Path("/nosuch")  # with the slashes of the system
REFUSALS = {
    "-p foo busybox": "invalid containerPort: foo",
    "-p 1-3:5-6 busybox": "invalid ranges specified for container and host Ports: 5-6 and 1-3",
    "-p a:80 busybox": "invalid hostPort: a",
    "-p 99999:80 busybox": "invalid hostPort: 99999",
    "-p 1.2.3:80:80 busybox": "invalid IP address: 1.2.3",
    "-p target=80,mode busybox": "invalid publish opts format (should be name=value but got 'mode')",
    "-p =80 busybox": "invalid publish opts format (should be name=value but got '=80')",
    "-p published=80 busybox": "no port specified: 80:/tcp<empty>",
    "-p target=80,protocol=foo busybox": "invalid proto: foo",
    "-v '' busybox": "invalid empty volume spec",
    "-v /a:/b: busybox": "invalid spec: /a:/b:: empty section between colons",
    "-v /a:/b:ro:x busybox": "invalid spec: /a:/b:ro:x: too many colons",
    "--device foo:bar:baz:x busybox": "bad format for path: foo:bar:baz:x",
    "--no-healthcheck --health-cmd x busybox": "--no-healthcheck conflicts with --health-* options",
    "--env-file /nosuch busybox": f"open {NOSUCH}: no such file or directory",
    "--memory-swappiness 300 busybox": "invalid value: 300. Valid memory swappiness range is 0-100",
    "--mac-address x busybox": "x is not a valid mac address",
    "--network a --network a busybox": 'network "a" is specified multiple times',
    "--network host --network-alias q busybox": "network-scoped aliases are only supported for user-defined networks",
    "--pid foo busybox": "--pid: invalid PID mode",
    "--uts foo busybox": "--uts: invalid UTS mode",
    "--userns foo busybox": "--userns: invalid USER mode",
    "--cgroupns x busybox": "--cgroupns: invalid CGROUP mode",
    "--security-opt foo busybox": 'Invalid --security-opt: "foo"',
    "--security-opt seccomp=/nosuch busybox": (
        f"opening seccomp profile (/nosuch) failed: open {NOSUCH}: no such file or directory"
    ),
    "--storage-opt a busybox": "invalid storage option",
    "--rm --restart always busybox": "conflicting options: cannot specify both --restart and --rm",
    "--expose foo busybox": (
        'invalid range format for --expose: foo, error: strconv.ParseUint: parsing "foo": invalid syntax'
    ),
}
USAGE_ERRORS = {
    "--mount foo busybox": 'invalid argument "foo" for "--mount" flag: invalid field \'foo\' must be a key=value pair',
    "--mount type=bind,src=/x busybox": ('invalid argument "type=bind,src=/x" for "--mount" flag: target is required'),
    "--mount type=bind,src=/x,dst=/y,foo=1 busybox": (
        "invalid argument \"type=bind,src=/x,dst=/y,foo=1\" for \"--mount\" flag: unexpected key 'foo' in 'foo=1'"
    ),
    "--ulimit foo=1 busybox": 'invalid argument "foo=1" for "--ulimit" flag: invalid ulimit type: foo',
    "--ulimit nofile=3:2 busybox": (
        'invalid argument "nofile=3:2" for "--ulimit" flag: '
        "ulimit soft limit must be less than or equal to hard limit: 3 > 2"
    ),
    "--add-host foo busybox": 'invalid argument "foo" for "--add-host" flag: bad format for add-host: "foo"',
    "--dns foo busybox": 'invalid argument "foo" for "--dns" flag: IP address is not correctly formatted: foo',
    "--health-interval 3 busybox": (
        'invalid argument "3" for "--health-interval" flag: time: missing unit in duration "3"'
    ),
    "-e =x busybox": 'invalid argument "=x" for "-e, --env" flag: invalid environment variable: =x',
    "-l =x busybox": 'invalid argument "=x" for "-l, --label" flag: invalid label \'=x\': empty name',
    "--shm-size x busybox": 'invalid argument "x" for "--shm-size" flag: invalid size: \'x\'',
    "--cpus xx busybox": 'invalid argument "xx" for "--cpus" flag: failed to parse xx as a rational number',
    "--cpus 1.0000000001 busybox": 'invalid argument "1.0000000001" for "--cpus" flag: value is too precise',
    "--link a:b:c busybox": 'invalid argument "a:b:c" for "--link" flag: bad format for links: a:b:c',
    "--link= busybox": 'invalid argument "" for "--link" flag: empty string specified for links',
    "-a foo busybox": 'invalid argument "foo" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR',
    "--sysctl x busybox": 'invalid argument "x" for "--sysctl" flag: sysctl \'x\' is not allowed',
    "--blkio-weight-device x busybox": 'invalid argument "x" for "--blkio-weight-device" flag: bad format: x',
    "-t=xx busybox": ('invalid argument "xx" for "-t, --tty" flag: strconv.ParseBool: parsing "xx": invalid syntax'),
    "--gpus foo busybox": (
        'invalid argument "foo" for "--gpus" flag: '
        'invalid count (foo): value must be either "all" or an integer: invalid syntax'
    ),
    "--name": "flag needs an argument: --name",
    "--foo": "unknown flag: --foo",
    "-X": "unknown shorthand flag: 'X' in -X",
}


@pytest.mark.parametrize("line", REFUSALS)
def test_refuses_in_dockers_words(line: str) -> None:
    with pytest.raises(CliError) as caught:
        body_of(shlex.split(line))
    assert (caught.value.message, caught.value.status) == (REFUSALS[line], 125)


@pytest.mark.parametrize("line", USAGE_ERRORS)
def test_refuses_flags_in_dockers_words(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        body_of(shlex.split(line))
    assert (caught.value.message, caught.value.status) == (USAGE_ERRORS[line], 125)


def test_relative_host_paths_are_the_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split("-v ./a:/b:ro -v .:/c --mount type=bind,src=./x,dst=/y busybox")
    host = body_of(words)["HostConfig"]
    assert host["Binds"] == [f"{tmp_path / 'a'}:/b:ro", f"{tmp_path}:/c"]
    assert host["Mounts"][0]["Source"] == str(tmp_path / "x")


def test_files_of_variables_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_CLIENT", "yes")
    monkeypatch.delenv("NOT_THERE", raising=False)
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1\n  B=two words \nFROM_CLIENT\nNOT_THERE\n")
    body = body_of(["--env-file", str(file), "-e", "A=2", "--label-file", str(file), "busybox"])
    assert body["Env"] == ["A=1", "B=two words ", "FROM_CLIENT=yes", "A=2"]
    assert body["Labels"] == {"A": "1", "B": "two words ", "FROM_CLIENT": "", "NOT_THERE": ""}


def test_a_seccomp_profile_travels_with_the_request(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }')
    host = body_of(["--security-opt", f"seccomp={profile}", "busybox"])["HostConfig"]
    assert host["SecurityOpt"] == ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']
