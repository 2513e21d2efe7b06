"""The reference client of dev containers (@devcontainers/cli), with docker's client, buildx and compose, as editors drive it too."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from busybox_image import archive
from laptop import Laptop

pytestmark = [pytest.mark.root, pytest.mark.timeout(1500)]

NODE = Path(sys.executable).with_name("node")
CLI = Path(__file__).parent / "node_modules/@devcontainers/cli/devcontainer.js"


class Workspace:
    """A folder of sources with its dev container, which goes at the end."""

    def __init__(self, laptop: Laptop, folder: Path) -> None:
        self.laptop = laptop
        self.folder = folder
        self._as: list[str] = []

    def write(self, path: str, text: str | dict[str, Any], mode: int = 0o644) -> None:
        made = self.folder / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(text if isinstance(text, str) else json.dumps(text))
        made.chmod(mode)

    def feature(self, name: str, script: str, **more: Any) -> None:
        """A local one, below .devcontainer."""
        about = {"id": name, "version": "1.0.0", "name": name, **more}
        self.write(f".devcontainer/{name}/devcontainer-feature.json", about)
        self.write(f".devcontainer/{name}/install.sh", f"#!/bin/sh\nset -e\n{script}", 0o755)

    def devcontainer(self, *words: str, status: int = 0) -> str:
        return self.laptop.run(*self._as, NODE, CLI, *words, status=status).stdout

    def as_user(self, user: pwd.struct_passwd) -> None:
        """From here on by this one, who may read and write what is root's: the files of these tests."""
        able = "+dac_override,+dac_read_search"
        numbers = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
        self._as = ["setpriv", *numbers, f"--inh-caps={able}", f"--ambient-caps={able}"]
        self.laptop.run("chown", "-R", f"{user.pw_uid}:{user.pw_gid}", self.folder)

    def up(self, *words: str) -> dict[str, Any]:
        """What it says of the container."""
        said = self.devcontainer("up", "--workspace-folder", str(self.folder), *words)
        told: dict[str, Any] = json.loads(said.splitlines()[-1])
        assert told["outcome"] == "success"
        return told

    def exec(self, *words: str) -> str:
        return self.devcontainer("exec", "--workspace-folder", str(self.folder), *words)

    def containers(self, *words: str) -> list[str]:
        return self.laptop.docker(
            "ps", "-aq", "--filter", f"label=devcontainer.local_folder={self.folder}", *words
        ).split()

    def close(self) -> None:
        for one in self.containers():
            self.laptop.docker("rm", "-f", "-v", one)


@pytest.fixture
def workspace(laptop: Laptop, base: str, request: pytest.FixtureRequest) -> Iterator[Workspace]:
    folder = laptop.home / request.node.name.replace("test_", "src-")
    folder.mkdir()
    made = Workspace(laptop, folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def base(laptop: Laptop) -> str:
    """A small image that a project's Dockerfile begins with."""
    laptop.has_image("tools:1", archive(), 'CMD ["sh"]')
    return "tools:1"


@pytest.mark.short
def test_a_dev_container(laptop: Laptop, workspace: Workspace, base: str) -> None:
    workspace.write(
        ".devcontainer/devcontainer.json",
        {
            "name": "one",
            "build": {"dockerfile": "Dockerfile", "args": {"COLOUR": "green"}},
            "features": {"./hello": {"greeting": "moin"}},
            "containerEnv": {"INSIDE": "yes"},
            "remoteEnv": {"REMOTE": "${containerEnv:INSIDE}, ${localWorkspaceFolderBasename}"},
            "remoteUser": "dev",
            "mounts": [
                "source=one-${devcontainerId},target=/cache,type=volume",
                {"type": "bind", "source": "${localWorkspaceFolder}/data", "target": "/data"},
                "source=${localEnv:HOME}/.docker/run/docker.sock,target=/var/run/docker.sock,type=bind",
            ],
            "initializeCommand": "mkdir -p data && echo laptop >data/from",
            "onCreateCommand": "echo create >>.order",
            "updateContentCommand": ["sh", "-c", "echo content >>.order"],
            "postCreateCommand": {"a": "cat /data/from >>.order"},
            "postStartCommand": "echo start >>.order",
            "postAttachCommand": "echo attach >>.order",
        },
    )
    workspace.write(
        ".devcontainer/Dockerfile",
        f"FROM {base}\nARG COLOUR\nRUN echo $COLOUR >/colour\n"
        "RUN echo dev:x:1000:1000::/home/dev:/bin/sh >>/etc/passwd && echo dev:x:1000: >>/etc/group && mkdir -p /home/dev /cache "
        "&& chown 1000:1000 /home/dev /cache\n",
    )
    workspace.feature(
        "hello",
        'printf \'#!/bin/sh\\necho "%s, $(id -un)"\\n\' "$GREETING" >/bin/hello\nchmod +x /bin/hello\n',
        options={"greeting": {"type": "string", "default": "hey"}}, containerEnv={"FEATURE": "1"},
    )  # fmt: skip
    workspace.folder.chmod(0o777)
    told = workspace.up()
    assert told["remoteUser"] == "dev"
    assert workspace.exec("hello") == "moin, dev\n"
    assert workspace.exec("sh", "-c", "cat /colour; echo $INSIDE; echo $FEATURE; echo $REMOTE; pwd") == (
        f"green\nyes\n1\nyes, {workspace.folder.name}\n/workspaces/{workspace.folder.name}\n"
    )
    assert (workspace.folder / ".order").read_text().split() == ["create", "content", "laptop", "start", "attach"]
    assert workspace.exec("stat", "-c", "%F", "/var/run/docker.sock") == "socket\n"
    workspace.exec("sh", "-c", "echo kept >/cache/file")
    workspace.devcontainer("exec", "--workspace-folder", str(workspace.folder), "sh", "-c", "exit 3", status=3)


def test_it_is_stopped_started_and_made_anew(laptop: Laptop, workspace: Workspace, base: str) -> None:
    workspace.write(
        ".devcontainer.json",
        {
            "image": base,
            "mounts": ["source=of-${devcontainerId},target=/cache,type=volume"],
            "postCreateCommand": "echo create >>/cache/order",
            "postStartCommand": "echo start >>/cache/order",
            "overrideCommand": True, "init": True, "capAdd": ["SYS_PTRACE"], "securityOpt": ["seccomp=unconfined"],
            "runArgs": ["--hostname", "devbox"], "hostRequirements": {"gpu": "optional"},
        },
    )  # fmt: skip
    first = workspace.up()["containerId"]
    assert workspace.up()["containerId"] == first
    laptop.docker("stop", first)
    assert workspace.up("--expect-existing-container")["containerId"] == first
    assert workspace.exec("cat", "/cache/order").split() == ["create", "start", "start"]
    second = workspace.up("--remove-existing-container")["containerId"]
    assert second != first
    assert len(workspace.containers()) == 1
    assert workspace.exec("sh", "-c", "hostname; cat /cache/order").split() == [
        "devbox", "create", "start", "start", "create", "start",
    ]  # fmt: skip
    laptop.docker("stop", second)
    laptop.docker("rm", second)
    assert not workspace.containers()


def test_features_of_a_registry(laptop: Laptop, workspace: Workspace, base: str) -> None:
    if not laptop.registry:
        pytest.skip("there is no registry here; it is the client that speaks to it, and not the engine")
    for name, more in (("low", {}), ("high", {"dependsOn": {f"{laptop.registry}/tools/low:1": {}}})):
        workspace.write(f"src/{name}/devcontainer-feature.json", {"id": name, "version": "1.2.0", "name": name, **more})
        workspace.write(f"src/{name}/install.sh", f"#!/bin/sh\necho {name} >>/features\n", 0o755)
    workspace.devcontainer(
        "features", "publish", "--registry", laptop.registry, "--namespace", "tools", str(workspace.folder / "src")
    )
    features = {f"{laptop.registry}/tools/high:1": {}}
    workspace.write(".devcontainer/devcontainer.json", {"image": base, "features": features})
    workspace.up()
    assert workspace.exec("cat", "/features").split() == ["low", "high"]


@pytest.fixture
def user(request: pytest.FixtureRequest) -> Iterator[pwd.struct_passwd]:
    """Somebody whose files are shown as theirs. The tests are root's, as whom the machine runs: it is told the other's numbers."""
    user = pwd.getpwnam("games")
    if request.config.getoption("--native"):
        yield user
        return
    machine = request.getfixturevalue("machine")
    machine.cove("config", "set", "folder_owner", f"{user.pw_uid}:{user.pw_gid}")
    machine.cove("machine", "restart", timeout_s=400)
    yield user
    machine.cove("config", "unset", "folder_owner")
    machine.cove("machine", "restart", timeout_s=400)


def test_the_remote_user_gets_the_laptops_numbers(
    user: pwd.struct_passwd, workspace: Workspace, base: str, request: pytest.FixtureRequest
) -> None:
    """So that what is made in the sources is the user's."""
    workspace.write(
        ".devcontainer/Dockerfile",
        f"FROM {base}\nRUN echo dev:x:1000:1000::/home/dev:/bin/sh >>/etc/passwd && echo dev:x:1000: >>/etc/group "
        "&& mkdir -p /home/dev && chown 1000:1000 /home/dev\n",
    )
    workspace.write(
        ".devcontainer/devcontainer.json",
        {"build": {"dockerfile": "Dockerfile"}, "remoteUser": "dev", "updateRemoteUserUID": True},
    )
    workspace.as_user(user)
    workspace.up()
    told = workspace.exec("sh", "-c", "id -u; id -g; stat -c %u:%g /home/dev; echo x >made").split()
    assert told == [str(user.pw_uid), str(user.pw_gid), f"{user.pw_uid}:{user.pw_gid}"]
    runs_cove = user.pw_uid if request.config.getoption("--native") else os.getuid()
    assert (workspace.folder / "made").stat().st_uid == runs_cove


def test_a_service_of_compose(laptop: Laptop, workspace: Workspace, base: str) -> None:
    workspace.feature("mark", "echo marked >/mark\n")
    workspace.write(
        ".devcontainer/devcontainer.json",
        {
            "dockerComposeFile": "compose.yaml", "service": "app", "workspaceFolder": "/workspace", "features": {"./mark": {}},
            "postCreateCommand": "wget -q -O /from-db http://db", "overrideCommand": True, "runServices": ["db"],
        },
    )  # fmt: skip
    workspace.write(
        ".devcontainer/compose.yaml",
        f"""services:
  app:
    build: .
    volumes: ["..:/workspace"]
    depends_on: {{db: {{condition: service_healthy}}}}
  db:
    image: {base}
    command: sh -c "mkdir /www; echo stored >/www/index.html; exec httpd -f -h /www"
    healthcheck: {{test: wget -q -O /dev/null localhost, interval: 1s, retries: 60}}
    stop_grace_period: 0s
  other: {{image: {base}}}
""",
    )
    workspace.write(".devcontainer/Dockerfile", f"FROM {base}\n")
    told = workspace.up()
    project = told["composeProjectName"]
    assert workspace.exec("sh", "-c", "cat /mark /from-db; ls -d /workspace/.devcontainer").split() == [
        "marked", "stored", "/workspace/.devcontainer",
    ]  # fmt: skip
    names = laptop.docker("compose", "-p", project, "ps", "-a", "--format", "{{.Service}}").split()
    assert sorted(names) == ["app", "db"]
    laptop.docker("compose", "-p", project, "stop", "-t", "0")
    assert workspace.up()["containerId"] == told["containerId"]
    laptop.docker("compose", "-p", project, "down", "-v", "-t", "0")


@pytest.mark.parametrize("buildkit", ["auto", "never"])
def test_an_image_for_others_to_begin_with(buildkit: str, workspace: Workspace, base: str) -> None:
    """`devcontainer build`, by BuildKit and by the classic builder; what the image says of its dev container is heeded."""
    name = f"prebuilt-{buildkit}:1"
    workspace.feature("mark", "echo marked >/mark\n", containerEnv={"MARK": "here"})
    config = {
        "build": {"dockerfile": "Dockerfile", "target": "wanted", "cacheFrom": "tools:1"},
        "features": {"./mark": {}}, "remoteEnv": {"FROM_IMAGE": "yes"},
    }  # fmt: skip
    workspace.write(".devcontainer/devcontainer.json", config)
    workspace.write(".devcontainer/Dockerfile", f"FROM {base} AS wanted\nRUN true\nFROM wanted\nRUN false\n")
    workspace.devcontainer(
        "build", "--workspace-folder", str(workspace.folder), "--image-name", name, "--buildkit", buildkit
    )
    workspace.write(".devcontainer/devcontainer.json", {"image": name})
    workspace.up()
    assert workspace.exec("sh", "-c", "cat /mark; echo $MARK $FROM_IMAGE").split() == ["marked", "here", "yes"]


def test_what_fails_says_why(workspace: Workspace, base: str) -> None:
    workspace.feature("wrong", "echo no such thing >&2; exit 7\n")
    workspace.write(".devcontainer/devcontainer.json", {"image": base, "features": {"./wrong": {}}})
    said = workspace.devcontainer("up", "--workspace-folder", str(workspace.folder), status=1)
    assert json.loads(said.splitlines()[-1])["outcome"] == "error"
    workspace.write(".devcontainer/devcontainer.json", {"image": base})
    # What VS Code asks for on a desktop, and does without when it reads this.
    mount = "type=bind,source=/run/user/1000/wayland-7,target=/tmp/wayland.sock"
    done = workspace.laptop.run(NODE, CLI, "up", "--workspace-folder", workspace.folder, "--mount", mount, status=1)
    assert (
        'invalid mount config for type "bind": bind source path does not exist: /run/user/1000/wayland-7' in done.stderr
    )
    workspace.write(".devcontainer/devcontainer.json", {"image": base, "postCreateCommand": "exit 8"})
    said = workspace.devcontainer("up", "--workspace-folder", str(workspace.folder), status=1)
    assert "postCreateCommand" in json.loads(said.splitlines()[-1])["description"]
