"""Builds by ``POST /build``: what their clients are told, and what comes of them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import docker
import pytest

from life_support import eventually

pytestmark = [pytest.mark.root, pytest.mark.native]


def context(dockerfile: str, **files: str | bytes) -> bytes:
    """An archive; a double underscore in a name stands for a slash, a single one at its beginning for a dot."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in {"Dockerfile": textwrap.dedent(dockerfile), **files}.items():
            data = content.encode() if isinstance(content, str) else content
            path = name.replace("__", "/")
            member = tarfile.TarInfo(f".{path[1:]}" if path.startswith("_") else path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


@pytest.fixture
def told(docker_client: Any) -> Any:
    def build(text: str, files: dict[str, str | bytes] | None = None, **options: Any) -> list[dict[str, Any]]:
        """The messages of a build."""
        archive = io.BytesIO(context(text, **(files or {})))
        lines = docker_client.api.build(fileobj=archive, custom_context=True, decode=True, **options)
        return [*lines]

    return build


@pytest.fixture
def built(told: Any) -> Any:
    def build(dockerfile: str, files: dict[str, str | bytes] | None = None, **options: Any) -> str:
        """The id of the image."""
        messages = told(dockerfile, files, **options)
        assert not [one for one in messages if "error" in one], messages
        return next(one["aux"]["ID"] for one in messages if "aux" in one)

    return build


def test_a_dockerfile_from_outside_the_context(engine: Any, tmp_path: Path) -> None:
    """By docker's client, which then ends its archive without what fills the last block."""
    (tmp_path / "outside").write_text("FROM busybox\nCOPY there /there\nRUN cat /there\n")
    (tmp_path / "context").mkdir()
    (tmp_path / "context/there").write_text("from the context\n")
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    for file, given in (("outside", None), ("-", (tmp_path / "outside").read_text())):
        words = ["docker", "-H", engine.url, "build", "--no-cache", "-f", file, "context"]
        done = subprocess.run(
            words, input=given, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "from the context" in done.stdout


@pytest.fixture
def says(docker_client: Any) -> Any:
    def run(image: str, *command: str) -> str:
        return str(docker_client.containers.run(image, [*command], remove=True, network_mode="none").decode())

    return run


def text(messages: list[dict[str, Any]]) -> str:
    return "".join(one.get("stream", "") for one in messages)


def test_each_step_is_told(told: Any) -> None:
    messages = told(
        f"""\
        FROM busybox
        ENV WHEN={time.time()}
        RUN echo said && echo complained >&2
        """,
        tag="told:one",
    )
    lines = text(messages).splitlines()
    assert lines[0] == "Step 1/3 : FROM busybox"
    assert lines[1].startswith(" ---> ")
    assert "Step 3/3 : RUN echo said && echo complained >&2" in lines
    assert any(line.startswith(" ---> Running in ") for line in lines)
    assert "said" in lines
    assert "\x1b[91mcomplained" in lines
    assert lines[-2].startswith("Successfully built ")
    assert lines[-1] == "Successfully tagged told:one"


def test_the_same_build_gives_the_same_image_and_runs_nothing(told: Any, built: Any) -> None:
    dockerfile = f'FROM busybox\nCOPY file /\nRUN date > /then && echo {time.time()}\nCMD ["cat", "/then"]\n'
    first = built(dockerfile, {"file": "a"})
    again = told(dockerfile, {"file": "a"})
    assert {"aux": {"ID": first}} in again
    assert text(again).count(" ---> Using cache") == 3
    assert built(dockerfile, {"file": "b"}) != first
    assert text(told(dockerfile, {"file": "a"}, nocache=True)).count("Using cache") == 0


def test_stages_arguments_and_ignored_files(built: Any, says: Any) -> None:
    image = built(
        """\
        ARG BASE=busybox
        FROM $BASE AS first
        ARG GREETING=hello
        ENV PLACE=/made
        WORKDIR $PLACE
        RUN echo "$GREETING" > greeting
        FROM first AS second
        RUN echo "unused" > /unused
        FROM ${BASE}
        COPY --from=first /made/greeting /from-first
        COPY . /all
        CMD ["sh", "-c", "cat /from-first; ls /all"]
        """,
        {"_dockerignore": "secret*\n!secret.not\n", "secret.txt": "x", "secret.not": "x", "kept": "x", "dir__a": "x"},
        buildargs={"GREETING": "good day"},
    )
    assert says(image) == "good day\nDockerfile\ndir\nkept\nsecret.not\n"


def test_a_target_ends_the_build(built: Any, says: Any, docker_client: Any) -> None:
    image = built(
        """\
        FROM busybox AS wanted
        LABEL of=dockerfile
        RUN echo wanted > /which
        FROM wanted
        RUN exit 7
        """,
        target="wanted",
        labels={"of": "request", "more": "1"},
    )
    assert says(image, "cat", "/which") == "wanted\n"
    assert docker_client.images.get(image).labels == {"of": "request", "more": "1"}


def test_labels_alone_make_an_image(built: Any, docker_client: Any) -> None:
    assert docker_client.images.get(built("FROM scratch\n", labels={"a": "b"})).labels == {"a": "b"}


def test_triggers_of_the_base_image_are_followed_once(built: Any, says: Any, docker_client: Any) -> None:
    built("FROM busybox\nONBUILD COPY name /name\nONBUILD RUN cat /name > /heard\n", tag="trigger:one")
    image = built('FROM trigger:one\nCMD ["cat", "/heard"]\n', {"name": "triggered"})
    assert says(image) == "triggered"
    assert not docker_client.images.get(image).attrs["Config"]["OnBuild"]


def test_the_configuration_is_what_the_instructions_say(built: Any, docker_client: Any) -> None:
    image = built(
        """\
        FROM busybox
        ENV A=1 B="two words"
        ENV C $A
        EXPOSE 80 53/udp 7000-7001
        VOLUME ["/data", "/more"]
        USER 7:8
        WORKDIR /one
        WORKDIR two
        LABEL k="v w"
        STOPSIGNAL SIGQUIT
        HEALTHCHECK --interval=5s --retries=2 CMD true
        SHELL ["/bin/ash", "-e", "-c"]
        ENTRYPOINT echo $A
        CMD ["x"]
        MAINTAINER somebody
        """
    )
    attrs = docker_client.images.get(image).attrs
    config = attrs["Config"]
    assert [one for one in config["Env"] if not one.startswith("PATH=")] == ["A=1", "B=two words", "C=1"]
    assert sorted(config["ExposedPorts"]) == ["53/udp", "7000/tcp", "7001/tcp", "80/tcp"]
    assert sorted(config["Volumes"]) == ["/data", "/more"]
    assert (config["User"], config["WorkingDir"], config["StopSignal"]) == ("7:8", "/one/two", "SIGQUIT")
    assert config["Labels"] == {"k": "v w"}
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Retries": 2}
    assert config["Entrypoint"] == ["/bin/ash", "-e", "-c", "echo $A"]
    assert config["Cmd"] == ["x"]
    assert attrs["Author"] == "somebody"


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM busybox\nRUN exit 3\n", "The command '/bin/sh -c exit 3' returned a non-zero code: 3"),
        ("FROM busybox\nCOPY nothing /\n", "nothing"),
        ("FROM nowhere.invalid/image\n", "nowhere.invalid/image"),
        ("FROM busybox\nCOPY --from=nobody /a /b\n", "nobody"),
    ],
)
def test_a_step_that_fails_is_the_last_message(told: Any, dockerfile: str, words: str) -> None:
    last = told(dockerfile)[-1]
    assert words in last["error"]
    assert last["errorDetail"]["message"] == last["error"]


@pytest.mark.parametrize(
    ("dockerfile", "options", "words"),
    [
        ("FROM busybox\nHURRY\n", {}, "unknown instruction: HURRY"),
        ("", {}, "the Dockerfile (Dockerfile) cannot be empty"),
        ("# nothing\n", {}, "file with no instructions"),
        ("FROM busybox\n", {"dockerfile": "Other"}, "Cannot locate specified Dockerfile: Other"),
        ("FROM busybox\n", {"target": "nobody"}, 'target stage "nobody" could not be found'),
        ("FROM busybox\n", {"platform": "foobar"}, "unknown operating system or architecture"),
    ],
)
def test_what_cannot_be_built_is_refused(told: Any, dockerfile: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(docker.errors.APIError) as refused:
        told(dockerfile, **options)
    assert refused.value.is_client_error(), refused.value
    assert words in refused.value.explanation


def test_the_layers_of_a_build_become_one(built: Any, says: Any, docker_client: Any) -> None:
    built("FROM busybox\nRUN mkdir -p /media/old && echo 1 > /bottom\n", tag="squash:base")
    base = docker_client.images.get("squash:base").attrs["RootFS"]["Layers"]
    dockerfile = """\
        FROM squash:base
        RUN mkdir /d /e && echo 1 > /d/one && echo 1 > /gone && rm /bottom
        RUN rm /gone && echo 2 > /d/two && chmod 700 /d && rm -r /media
        RUN rm -r /d/one /e && mkdir -p /e/new /media/new
        """
    image = built(dockerfile, squash=True)
    layers = docker_client.images.get(image).attrs["RootFS"]["Layers"]
    assert layers[: len(base)] == base
    assert len(layers) == len(base) + 1
    script = "ls -R /d /e /media; ls -d /gone /bottom 2>/dev/null; stat -c %a /d"
    assert says(image, "sh", "-c", script) == says(built(dockerfile), "sh", "-c", script)


def test_a_client_that_goes_ends_its_build(engine: Any) -> None:
    marker = f"{4000 + time.time() % 1000:.3f}"
    archive = io.BytesIO(context(f"FROM busybox\nRUN echo begun && sleep {marker}\n"))
    client = docker.APIClient(base_url=engine.url)
    lines = client.build(fileobj=archive, custom_context=True, decode=True)
    for line in lines:
        if "begun" in line.get("stream", ""):
            break
    running = f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep[ ]{marker} ' || true"
    eventually(lambda: int(engine.sh(running)) > 0)
    lines.close()
    client.close()
    eventually(lambda: int(engine.sh(running)) == 0)
    eventually(lambda: not engine.sh(f"ls {engine.root}/build/drafts").strip())


def test_two_builds_of_the_same_step_carry_it_out_once(built: Any, says: Any) -> None:
    dockerfile = f"FROM busybox\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /id # {time.time()}\n"
    images: list[str] = []
    threads = [threading.Thread(target=lambda: images.append(built(dockerfile))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(images) == 2
    assert len(set(images)) == 1


def test_a_document_that_says_what_runs_it(built: Any, says: Any) -> None:
    image = built(
        """\
        FROM busybox
        RUN <<EOF
        #!/bin/sh
        echo "$0 ran" > /ran
        EOF
        """
    )
    assert says(image, "cat", "/ran") == "/dev/pipes/EOF ran\n"


def test_the_cache_is_shown_and_pruned(built: Any, docker_client: Any) -> None:
    marker = f"{time.time()}"
    built(f"FROM busybox\nRUN head -c 1000000 /dev/urandom > /data # {marker}\n", tag="cached:one")
    mine = [one for one in docker_client.df()["BuildCache"] if marker in one["Description"]]
    assert [one["Size"] for one in mine] == [1000000]
    docker_client.images.remove("cached:one")
    again = built(f"FROM busybox\nRUN head -c 1000000 /dev/urandom > /data # {marker}\n")
    docker_client.images.remove(again)
    url = f"{docker_client.api.base_url}/v{docker_client.api.api_version}/build/prune"
    gone = docker_client.api.post(url, params={"all": "true"}).json()
    assert mine[0]["ID"] in gone["CachesDeleted"]
    assert gone["SpaceReclaimed"] >= 1000000
    assert not [one for one in docker_client.df()["BuildCache"] if marker in one["Description"]]


def test_no_more_of_the_cache_is_pruned_than_is_meant(built: Any, docker_client: Any) -> None:
    marker = f"{time.time()}"
    image = built(f"FROM busybox\nRUN head -c 1000000 /dev/urandom > /data # {marker}\n")
    docker_client.images.remove(image)

    def prune(filters: dict[str, list[str]], **others: int) -> tuple[int, dict[str, Any]]:
        url = f"{docker_client.api.base_url}/v{docker_client.api.api_version}/build/prune"
        answer = docker_client.api.post(url, params={"all": "true", "filters": json.dumps(filters), **others})
        return answer.status_code, answer.json()

    def there() -> list[str]:
        return [one["ID"] for one in docker_client.df()["BuildCache"] if marker in one["Description"]]

    assert prune({"kind": ["regular"]}) == (400, {"message": "invalid filter 'kind'"})
    (mine,) = there()
    for filters, others in [
        ({"type": ["exec.cachemount"]}, {}),
        ({"id": [mine], "type": ["source.local"]}, {}),
        ({"id": [mine]}, {"max-used-space": 1 << 60}),
        ({"id": [mine]}, {"min-free-space": 1}),
        ({"id": [mine], "until": ["1h"]}, {}),
    ]:
        status, answer = prune(filters, **others)
        assert status == 200
        assert mine not in (answer["CachesDeleted"] or [])
        assert there() == [mine]
    assert prune({"id": [mine]}, **{"max-used-space": 1}) == (
        200,
        {"CachesDeleted": [mine], "SpaceReclaimed": 1000000},
    )


def test_only_the_id_is_told_to_whoever_wants_quiet(told: Any) -> None:
    messages = told("FROM busybox\nRUN echo loud\n", quiet=True)
    (last,) = [one["stream"] for one in messages if "stream" in one]
    assert last.startswith("sha256:")
    assert "loud" not in json.dumps(messages)
