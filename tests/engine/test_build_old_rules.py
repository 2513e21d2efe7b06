"""Where the builder of before BuildKit, which ``POST /build`` is, goes by rules of its own; and the configuration's rules for both.

The real dockerd was asked what it makes of each of these."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import docker
import pytest

from test_build_classic import context

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def build(docker_client: Any) -> Any:
    def run(dockerfile: str, files: dict[str, str | bytes] | None = None, archive: bytes = b"") -> Any:
        """The image, or what went wrong."""
        sent = io.BytesIO(archive or context(dockerfile, **(files or {})))
        messages = [*docker_client.api.build(fileobj=sent, custom_context=True, decode=True)]
        if "error" in messages[-1]:
            return messages[-1]["error"]
        return docker_client.images.get([one["aux"]["ID"] for one in messages if "aux" in one][-1])

    return run


@pytest.fixture
def config(build: Any) -> Any:
    def of(dockerfile: str) -> dict[str, Any]:
        found: dict[str, Any] = build(dockerfile, {"file": "x"}).attrs["Config"]
        return found

    return of


@pytest.fixture
def says(docker_client: Any) -> Any:
    def run(image: Any, script: str) -> str:
        command = ["sh", "-c", script]
        return str(docker_client.containers.run(image.id, command, remove=True, network_mode="none").decode())

    return run


def test_an_entrypoint_takes_the_base_images_command_away(config: Any) -> None:
    assert config('FROM busybox\nCMD ["one"]\n')["Cmd"] == ["one"]
    assert config('FROM busybox\nCMD ["one"]\nENTRYPOINT ["/run"]\nENTRYPOINT ["/other"]\n')["Cmd"] == ["one"]
    assert not config('FROM busybox AS base\nCMD ["one"]\nFROM base\nENTRYPOINT ["/run"]\n')["Cmd"]
    assert config('FROM busybox AS base\nCMD ["one"]\nFROM base\nENTRYPOINT ["/run"]\nCMD two\n')["Cmd"][-1] == "two"


def test_only_what_instructions_say_is_in_the_configuration(config: Any) -> None:
    found = config('FROM scratch\nCOPY file /\nCMD ["one"]\n')
    assert not found.get("WorkingDir")
    assert not found.get("ArgsEscaped")
    assert found["Env"] == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def test_what_run_changes_in_a_volume_is_lost(build: Any, says: Any) -> None:
    image = build(
        """\
        FROM busybox
        RUN mkdir /there && echo before > /there/one && chown -R 5:6 /there
        VOLUME /there
        VOLUME ["/not/there", "/there"]
        RUN echo changed > /there/one; touch /there/two /not/there/three; ls -n /there/one > /seen; cat /there/one >> /seen
        COPY file /there/
        RUN ls /there /not/there > /listing
        """,
        {"file": "copied"},
    )
    seen = says(image, "cat /seen").split()
    assert seen[2:4] == ["5", "6"]
    assert seen[-1] == "changed"
    assert says(image, "cat /listing") == "/not/there:\n\n/there:\nfile\none\n"
    # A volume of a container is made of the image's files.
    assert says(image, "cat /there/one /there/file; ls /not/there") == "before\ncopied"


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM busybox\nCOPY nothing /\n", "COPY failed: file not found in build context or excluded by .dockerignore: stat nothing: "
         "file does not exist"),
        ("FROM busybox\nCOPY --from=busybox /nothing /\n", "COPY failed: stat nothing: file does not exist"),
        ("FROM busybox\nADD no* /\n", "ADD failed: no source files were specified"),
        ("FROM busybox\nCOPY file other /one\n", "When using COPY with more than one source file, the destination must be a "
         "directory and end with a /"),
        ("FROM busybox\nADD * /one\n", "When using ADD with more than one source file, the destination must be a directory and end "
         "with a /"),
        ("FROM busybox\nCOPY --chown=nobody-here file /\n", "unable to convert uid/gid chown string to host mapping: can't find "
         "uid for user nobody-here: no such user: nobody-here"),
        ("FROM busybox\nCOPY --chown=root:none file /\n", "unable to convert uid/gid chown string to host mapping: can't find gid "
         "for group none: no such group: none"),
        ("FROM busybox\nCOPY --chown=1:2:3 file /\n", "unable to convert uid/gid chown string to host mapping: "
         "invalid chown string format: 1:2:3"),
        ('FROM busybox\nRUN ["/nothing"]\n', "failed to create task for container: failed to create shim task: OCI runtime create "
         'failed: runc create failed: unable to start container process: exec: "/nothing": stat /nothing: no such file or '
         "directory: unknown"),
        ("FROM busybox\nUSER nobody-here\nRUN id\n", "unable to find user nobody-here: no matching entries in passwd file"),
        ("FROM busybox\nSTOPSIGNAL foo\n", "invalid signal: foo"),
        ("FROM scratch\n", "No image was generated. Is your Dockerfile empty?"),
        ("FROM Bad:NAME:x\n", "invalid reference format: repository name (library/Bad) must be lowercase"),
    ],
)  # fmt: skip
def test_it_says_so_in_its_own_words(build: Any, dockerfile: str, words: str) -> None:
    assert build(dockerfile, {"file": "x", "other": "y"}) == words


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("# nothing\n", "failed to parse Dockerfile: file with no instructions"),
        ("FROM busybox\nENV a\n", "failed to parse Dockerfile: ENV must have two arguments"),
        ("FROM busybox\nENV\n", "dockerfile parse error on line 2: ENV requires at least one argument"),
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
    ],
)
def test_a_file_that_is_no_dockerfile_is_refused(build: Any, dockerfile: str, words: str) -> None:
    with pytest.raises(docker.errors.APIError) as refused:
        build(dockerfile)
    assert refused.value.explanation == words


def test_it_knows_no_platforms_arguments(build: Any, says: Any) -> None:
    image = build("FROM busybox\nARG TARGETARCH\nARG BUILDPLATFORM\nRUN echo $TARGETARCH-$BUILDPLATFORM- > /seen\n")
    assert says(image, "cat /seen") == "--\n"


def test_what_is_in_the_way_of_a_copy_is_replaced(build: Any, says: Any) -> None:
    image = build(
        """\
        FROM busybox
        RUN mkdir -p /tree/a/below && ln -s /etc /tree/b && touch /tree/c
        COPY tree /tree/
        """,
        {"tree__a": "file", "tree__b__file": "in b", "tree__c__file": "in c"},
    )
    assert says(
        image, "cd /tree; cat a b/file c/file; echo; [ -e /etc/file ] || echo none; [ -L b ] || echo no link"
    ) == ("filein bin c\nnone\nno link\n")


def test_set_id_bits_do_not_outlive_a_copy_from_the_context(build: Any, says: Any) -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        dockerfile = b"""FROM busybox AS other
RUN cp /bin/busybox /kept && chmod 6755 /kept
FROM busybox
COPY set /one
COPY --from=other /kept /kept
COPY --from=other --chown=1:2 /kept /given
"""
        for name, mode, data in (("Dockerfile", 0o644, dockerfile), ("set", 0o6755, b"x")):
            member = tarfile.TarInfo(name)
            member.mode, member.size = mode, len(data)
            archive.addfile(member, io.BytesIO(data))
    image = build("", archive=output.getvalue())
    assert says(image, "stat -c '%a %u:%g' /one /kept /given") == "755 0:0\n6755 0:0\n755 1:2\n"


def test_a_user_alone_is_the_groups_name_too(build: Any, says: Any) -> None:
    image = build(
        """\
        FROM busybox
        RUN echo 'odd:x:7:8::/:' >> /etc/passwd; echo 'odd:x:9:' >> /etc/group
        COPY --chown=odd file /
        """,
        {"file": "x"},
    )
    assert says(image, "stat -c %u:%g /file") == "7:9\n"


def test_folders_are_written_clean(config: Any) -> None:
    """BuildKit leaves what is absolute as it is written."""
    assert config("FROM busybox\nWORKDIR /a/../b//c/\n")["WorkingDir"] == "/b/c"
