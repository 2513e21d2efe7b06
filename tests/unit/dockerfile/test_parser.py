"""Dockerfiles read: what instructions come out, and what is said of those that are none."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from coved.dockerfile.directives import syntax
from coved.dockerfile.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    Device,
    DockerfileError,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Location,
    Maintainer,
    Mount,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from coved.dockerfile.parser import parse, parse_instruction
from hypothesis import given
from hypothesis import strategies as st


def _one(text: str) -> Instruction:
    """The instruction below a FROM."""
    [instruction] = parse(f"FROM a\n{text}".encode()).stages[0].instructions
    return instruction


def _refused(text: str | bytes) -> tuple[str, Location | None]:
    with pytest.raises(DockerfileError) as caught:
        parse(text.encode() if isinstance(text, str) else text)
    return str(caught.value), caught.value.location


def test_stages_and_arguments_before_them() -> None:
    dockerfile = parse(b"ARG V=1 W\n\n# c\nFROM --platform=$P base:$V AS First\nUSER x\nfrom first\n")
    [arg] = dockerfile.meta_args
    assert arg.pairs == (("V", "1"), ("W", None))
    first, second = dockerfile.stages
    assert first.base == From(
        "FROM",
        "FROM --platform=$P base:$V AS First",
        Location(4, 4),
        "base:$V",
        platform="$P",
        name="first",
        comments=("c",),
    )
    assert first.name == "first"
    assert [type(step) for step in first.instructions] == [User]
    assert (second.base.image, second.base.name, second.base.keyword, second.base.source) == (
        "first",
        "",
        "FROM",
        "from first",
    )
    assert second.instructions == ()


def test_bytes_that_are_not_text() -> None:
    dockerfile = parse(b"\xef\xbb\xbf# escape=`\r\nFROM a\r\nENV a=\xff`\r\n b=c\r\n")
    assert dockerfile.escape == "`"
    [env] = dockerfile.stages[0].instructions
    assert isinstance(env, Env)
    assert env.pairs == (("a", "\ufffd"), ("b", "c"))


@pytest.mark.parametrize(
    ("text", "directives"),
    [
        ("# syntax = docker/dockerfile:1 \n#ESCAPE=\\\n", {"syntax": "docker/dockerfile:1", "escape": "\\"}),
        ("# check=skip=all;error=true\n", {"check": "skip=all;error=true"}),
        ("\n# syntax=x\n", {}),
        ("# comment\n# syntax=x\n", {}),
        ("# other=x\n# syntax=x\n", {}),
        ("# syntax=\n", {}),
    ],
)
def test_directives(text: str, directives: dict[str, str]) -> None:
    assert parse(f"{text}FROM a".encode()).directives == directives


@pytest.mark.parametrize(
    ("data", "image"),
    [
        (b"# syntax=a/b:1 more\nFROM x", "a/b:1"),
        (b"\xef\xbb\xbf#!/usr/bin/env x\r\n# syntax=a\r\n", "a"),
        (b"// escape=`\n// syntax=a\nwhatever", "a"),
        (b'{"syntax": "a", "other": [1]}', "a"),
        (b'{"syntax": 1}', None),
        (b"[" * 100_000, None),
        (b'{"a":' * 100_000, None),
        (b"FROM x\n# syntax=a", None),
        (b"", None),
    ],
)
def test_the_frontend_a_file_wants(data: bytes, image: str | None) -> None:
    assert syntax(data) == image


@pytest.mark.parametrize(
    ("text", "source", "last"),
    [
        ("RUN a \\\n  b", "RUN a   b", 3),
        ("RUN a \\ \t\n  b", "RUN a   b", 3),
        ("RUN a \\\n# comment\n  # comment\n  b \\\n# end", "RUN a   b", 6),
        ("RUN a \\\n\n\n  b", "RUN a   b", 5),
        ("RUN a \\\\\nUSER b", "RUN a \\\\", 2),
        ("RUN a \\", "RUN a", 2),
        ("  RUN\ta", "RUN\ta", 2),
        ("R\\\nUN a", "RUN a", 3),
    ],
)
def test_continued_lines(text: str, source: str, last: int) -> None:
    instruction = parse(f"FROM a\n{text}".encode()).stages[0].instructions[0]
    assert (instruction.source, instruction.location) == (source, Location(2, last))


def test_empty_lines_in_between() -> None:
    dockerfile = parse(b"FROM a\nRUN a \\\n\n  b\nRUN a \\\n# fine\n b")
    [warning] = dockerfile.warnings
    assert (warning.rule, warning.location) == ("NoEmptyContinuation", Location(4, 4))


def test_comments_belong_to_what_is_below() -> None:
    dockerfile = parse(b"# check=skip=all\n# a\n#\n# b\n\n#c\nFROM a\nRUN x\n# d\nRUN y")
    stage = dockerfile.stages[0]
    assert [stage.base.comments, *(step.comments for step in stage.instructions)] == [("b", "c"), (), ("d",)]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (
            'ENV a=b c=\'d e\' f="g\\" h" i=j\\ k',
            {"pairs": (("a", "b"), ("c", "'d e'"), ("f", '"g\\" h"'), ("i", "j\\ k"))},
        ),
        ("ENV a b  c", {"pairs": (("a", "b  c"),), "legacy": True}),
        ("ENV a=", {"pairs": (("a", ""),)}),
        ('LABEL "a b"=c d=e=f', {"pairs": (('"a b"', "c"), ("d", "e=f"))}),
        ("ARG a b=1 c=", {"pairs": (("a", None), ("b", "1"), ("c", ""))}),
        ("CMD a b", {"command": Command(("a b",), shell=True)}),
        ('CMD ["a", "b"]', {"command": Command(("a", "b"), shell=False)}),
        ('CMD [ "a" , "\\u00e9\\ud800" ]', {"command": Command(("a", "é\ufffd"), shell=False)}),
        ("CMD []", {"command": Command((), shell=False)}),
        ("CMD", {"command": Command(("",), shell=True)}),
        ("CMD ['a']", {"command": Command(("['a']",), shell=True)}),
        ('CMD ["a"', {"command": Command(('["a"',), shell=True)}),
        ('CMD ["a"] x', {"command": Command(('["a"] x',), shell=True)}),
        ("ENTRYPOINT exec top", {"command": Command(("exec top",), shell=True)}),
        ('SHELL ["bash", "-c"]', {"words": ("bash", "-c")}),
        ("EXPOSE 90 80/tcp $P", {"ports": ("$P", "80/tcp", "90")}),
        ("VOLUME /a  /b", {"paths": ("/a", "/b")}),
        ('VOLUME ["/a b", " /c"]', {"paths": ("/a b", "/c")}),
        ("USER  me:us ", {"user": "me:us"}),
        ("WORKDIR /a b", {"path": "/a b"}),
        ("STOPSIGNAL SIGTERM", {"signal": "SIGTERM"}),
        ("MAINTAINER Me <me@x>", {"name": "Me <me@x>"}),
        ("ONBUILD  RUN a", {"trigger": "RUN a"}),
        ("ONBUILD COPY a b", {"trigger": "COPY a b"}),
        ("HEALTHCHECK none", {"test": ("NONE",)}),
        (
            "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=0s --start-interval=5ms --retries=3 CMD a b",
            {
                "test": ("CMD-SHELL", "a b"),
                "interval": 90 * 10**9,
                "timeout": 1_500_000_000,
                "start_interval": 5_000_000,
                "retries": 3,
            },
        ),
        ('HEALTHCHECK CMD ["a", "b"]', {"test": ("CMD", "a", "b")}),
        ("COPY a b c/", {"sources": ("a", "b"), "destination": "c/"}),
        ('COPY ["a b", "c"]', {"sources": ("a b",), "destination": "c"}),
        (
            "COPY --from=x --chown=1:2 --chmod=755 --link --parents --exclude=a --exclude=b s d",
            {"from_": "x", "chown": "1:2", "chmod": "755", "link": True, "parents": True, "excludes": ("a", "b")},
        ),
        ("COPY --link=false --parents=TRUE s d", {"link": False, "parents": True}),
        (
            "ADD --checksum=sha256:a --keep-git-dir --unpack=false --exclude=*.x https://x d",
            {"checksum": "sha256:a", "keep_git_dir": True, "unpack": False, "excludes": ("*.x",)},
        ),
        ("ADD --unpack a b", {"unpack": True}),
        ("ADD a b", {"unpack": None, "keep_git_dir": False}),
        ('COPY --chown="a b" --"link" s d', {"chown": "a b", "link": True, "sources": ("s",)}),
        ("COPY --link -- --link d", {"link": True, "sources": ("--link",)}),
        ("RUN --network=none --security=insecure a", {"network": "none", "security": "insecure"}),
        ("RUN --device=v/c=d,required --device=name=x a", {"devices": (Device("v/c=d", True), Device("x"))}),
        ("RUN a \\\n b", {"command": Command(("a  b",), shell=True), "mounts": (), "network": "default"}),
    ],
)
def test_an_instruction(text: str, fields: dict[str, object]) -> None:
    instruction = _one(text)
    assert {name: getattr(instruction, name) for name in fields} == fields
    assert instruction.keyword == text.split()[0]


def test_every_instruction_has_its_type() -> None:
    types = {
        "ADD a b": Copy,
        "ARG a": Arg,
        "CMD a": Cmd,
        "COPY a b": Copy,
        "ENTRYPOINT a": Entrypoint,
        "ENV a=b": Env,
        "EXPOSE 1": Expose,
        "HEALTHCHECK NONE": Healthcheck,
        "LABEL a=b": Label,
        "MAINTAINER a": Maintainer,
        "ONBUILD USER a": Onbuild,
        "RUN a": Run,
        'SHELL ["a"]': Shell,
        "STOPSIGNAL 9": Stopsignal,
        "USER a": User,
        "VOLUME a": Volume,
        "WORKDIR a": Workdir,
    }
    assert {text: type(_one(text.lower() if text[0] != "S" else text)) for text in types} == types


@pytest.mark.parametrize(
    ("flag", "mount"),
    [
        ("target=/a", Mount(target="/a")),
        ("TYPE=Bind,src=/s,dst=/d,rw", Mount(source="/s", target="/d", read_only=False)),
        ("source=/s,destination=/d,ro=false,from=x", Mount(source="/s", target="/d", read_only=False, from_="x")),
        ("type=bind,target=/d,readwrite=false", Mount(target="/d", read_only=True)),
        (
            "type=cache,target=/c,id=i,sharing=LOCKED,mode=0750,uid=1,gid=2,readonly",
            Mount("cache", "/c", id="i", sharing="locked", mode=0o750, uid=1, gid=2, read_only=True),
        ),
        ("type=tmpfs,target=/t,size=1.5m", Mount("tmpfs", "/t", size=1572864)),
        ("type=secret,id=s,required,env=E", Mount("secret", id="s", required=True, env="E")),
        ("type=ssh,required=true,mode=0600", Mount("ssh", required=True, mode=0o600)),
        ('"target=/a,""b"""', Mount(target="/a,b")),
    ],
)
def test_mounts(flag: str, mount: Mount) -> None:
    # A flag's own quotes are taken away before; quoted CSV needs escapes.
    escaped = flag.replace('"', '\\"')
    run = _one(f"RUN --mount={escaped} x")
    assert isinstance(run, Run)
    assert run.mount_flags == (flag,)
    assert run.mounts == (mount,)


def test_documents() -> None:
    run = _one("RUN <<EOF\na $x\n\n# not a comment\nb \\\nEOF\nUSER x".replace("\nUSER x", ""))
    assert isinstance(run, Run)
    assert run.command == Command(("<<EOF",), shell=True)
    assert run.heredocs == (Heredoc("EOF", "a $x\n\n# not a comment\nb \\\n"),)
    assert run.source == "RUN <<EOF\na $x\n\n# not a comment\nb \\\nEOF"
    assert run.location == Location(2, 7)


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("RUN cat <<-E\n\t\ta\n\t b\n\tE", [Heredoc("E", "a\n b\n", True, True)]),
        (
            "RUN cat <<'E' <<\"F\" 3<<G\n$a\nE\nb\nF\nc\nG",
            [Heredoc("E", "$a\n", False), Heredoc("F", "b\n", False), Heredoc("G", "c\n")],
        ),
        ("RUN cat << E\na\nE", [Heredoc("E", "a\n")]),
        ("RUN cat <<E\r\na\r\nE\r\n", [Heredoc("E", "a\r\n")]),
        ("RUN cat <<E \\\n  && x\na\nE", [Heredoc("E", "a\n")]),
        ("RUN a <<<b", []),
        ("RUN \"<<E\" '<<F' \\<<G", []),
        ('RUN ["<<E"]', []),
        ("CMD <<E", []),
        ("RUN <<E<<F\nF", []),
    ],
)
def test_documents_of_commands(text: str, documents: list[Heredoc]) -> None:
    if text.endswith("\nF") and not documents:
        assert _refused(f"FROM a\n{text}")[0].startswith("dockerfile parse error on line 3: unknown instruction: F")
        return
    instruction = _one(text)
    assert list(getattr(instruction, "heredocs", [])) == documents


def test_documents_that_are_copied() -> None:
    copy = _one("COPY <<a.txt b <<-'/c_d' /e/\nA $x\na.txt\n\tC\n\t/c_d")
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.destination) == (("b",), "/e/")
    assert copy.documents == (Heredoc("a.txt", "A $x\n"), Heredoc("/c_d", "C\n", False, True))


def test_documents_of_triggers() -> None:
    onbuild = _one("ONBUILD RUN <<-E\n\ta\n\tE")
    assert isinstance(onbuild, Onbuild)
    assert onbuild.trigger == "RUN <<-E\n\ta\nE"
    run = parse_instruction(onbuild.trigger)
    assert isinstance(run, Run)
    assert run.heredocs == (Heredoc("E", "a\n", True, True),)


_LONG = "a" * 65536


@pytest.mark.parametrize(
    ("text", "message", "lines"),
    [
        ("\n# x\n", "file with no instructions", (1, 1)),
        ("ARG a", "dockerfile contains no stages to build", None),
        ("RUN x", "no build stage in current context", (1, 1)),
        ("FROM a\n\nFOO x", "dockerfile parse error on line 3: unknown instruction: FOO (did you mean FROM?)", (3, 3)),
        ("FROM a\nCPOY x", "dockerfile parse error on line 2: unknown instruction: CPOY (did you mean COPY?)", (2, 2)),
        (
            "FROM a\nvolum x",
            "dockerfile parse error on line 2: unknown instruction: volum (did you mean volume?)",
            (2, 2),
        ),
        ("FROM a\nSOMETHING x", "dockerfile parse error on line 2: unknown instruction: SOMETHING", (2, 2)),
        ("FROM", "dockerfile parse error on line 1: FROM requires either one or three arguments", (1, 1)),
        ("FROM a b", "dockerfile parse error on line 1: FROM requires either one or three arguments", (1, 1)),
        (
            "FROM a AS 1b",
            'dockerfile parse error on line 1: invalid name for build stage: "1b", name can\'t start with a number or '
            "contain symbols",
            (1, 1),
        ),
        ("FROM --from=x a", "dockerfile parse error on line 1: unknown flag: --from", (1, 1)),
        (
            "FROM --platfrom=x a",
            "dockerfile parse error on line 1: unknown flag: --platfrom (did you mean platform?)",
            (1, 1),
        ),
        ("FROM a\nENV", "dockerfile parse error on line 2: ENV requires at least one argument", (2, 2)),
        ("FROM a\nENV a", "ENV must have two arguments", (2, 2)),
        ("FROM a\nENV a=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value', (2, 2)),
        ("FROM a\nENV =b", "dockerfile parse error on line 2: ENV names can not be blank", (2, 2)),
        ("FROM a\nARG =b", "dockerfile parse error on line 2: ARG names can not be blank", (2, 2)),
        ("FROM a\nLABEL a", "LABEL must have two arguments", (2, 2)),
        ("FROM a\nUSER", "dockerfile parse error on line 2: USER requires exactly one argument", (2, 2)),
        ("FROM a\nUSER --x y", "dockerfile parse error on line 2: unknown flag: --x", (2, 2)),
        (
            "FROM a\nSHELL sh -c",
            "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form",
            (2, 2),
        ),
        ("FROM a\nSHELL []", "dockerfile parse error on line 2: SHELL requires at least one argument", (2, 2)),
        ("FROM a\nVOLUME", "dockerfile parse error on line 2: VOLUME requires at least one argument", (2, 2)),
        (
            'FROM a\nVOLUME [""]',
            "dockerfile parse error on line 2: VOLUME specified can not be an empty string",
            (2, 2),
        ),
        ('FROM a\nCMD ["a", 1]', "when using JSON array syntax, arrays must be comprised of strings only", (2, 2)),
        (f"FROM a\nCMD {'[' * 5000}", "when using JSON array syntax, arrays must be comprised of strings only", (2, 2)),
        (
            "FROM a\nCOPY a",
            "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. "
            "Destination could not be determined",
            (2, 2),
        ),
        ("FROM a\nCOPY --link= a b", "dockerfile parse error on line 2: missing a value on flag: --link", (2, 2)),
        ("FROM a\nCOPY --from a b", "dockerfile parse error on line 2: missing a value on flag: --from", (2, 2)),
        (
            "FROM a\nCOPY --link=x a b",
            "dockerfile parse error on line 2: expecting boolean value for flag --link, not: x",
            (2, 2),
        ),
        (
            "FROM a\nCOPY --link --link a b",
            "dockerfile parse error on line 2: duplicate flag specified: --link",
            (2, 2),
        ),
        (
            "FROM a\nCOPY a <<E\nE",
            "dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination",
            (2, 3),
        ),
        (
            "FROM a\nCOPY --from=$x a b",
            "variable expansion is not supported for --from, define a new stage with FROM "
            "using ARG from global scope as a workaround",
            (2, 2),
        ),
        ("FROM a\nRUN x <<E\nb", "unterminated heredoc", (2, 3)),
        ("FROM a\nRUN --network=x y", 'dockerfile parse error on line 2: invalid network mode "x"', (2, 2)),
        ("FROM a\nRUN --security=x y", 'dockerfile parse error on line 2: security "x" is not valid', (2, 2)),
        (
            "FROM a\nRUN --mount=from=$x,target=/y z",
            "dockerfile parse error on line 2: 'from' doesn't support variable expansion, define alias stage instead",
            (2, 2),
        ),
        (
            'FROM a\nRUN --mount=a\\"b x',
            'dockerfile parse error on line 2: failed to parse csv mounts: parse error on line 1, column 2: bare " in '
            "non-quoted-field",
            (2, 2),
        ),
        ("FROM a\nONBUILD", "dockerfile parse error on line 2: ONBUILD requires at least one argument", (2, 2)),
        (
            "FROM a\nONBUILD onbuild RUN x",
            "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            (2, 2),
        ),
        (
            "FROM a\nONBUILD from x",
            "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger",
            (2, 2),
        ),
        ("FROM a\nONBUILD ENV x", "ENV must have two arguments", (2, 2)),
        ("FROM a\nHEALTHCHECK", "dockerfile parse error on line 2: HEALTHCHECK requires at least one argument", (2, 2)),
        ("FROM a\nHEALTHCHECK CMD", "dockerfile parse error on line 2: Missing command after HEALTHCHECK CMD", (2, 2)),
        ("FROM a\nHEALTHCHECK NONE x", "dockerfile parse error on line 2: HEALTHCHECK NONE takes no arguments", (2, 2)),
        (
            "FROM a\nHEALTHCHECK foo x",
            'dockerfile parse error on line 2: Unknown type "FOO" in HEALTHCHECK (try CMD)',
            (2, 2),
        ),
        (
            "FROM a\nHEALTHCHECK --interval=1us CMD x",
            'dockerfile parse error on line 2: Interval "interval" cannot be less than 1ms',
            (2, 2),
        ),
        (
            "FROM a\nHEALTHCHECK --timeout=5 CMD x",
            'dockerfile parse error on line 2: time: missing unit in duration "5"',
            (2, 2),
        ),
        (
            "FROM a\nHEALTHCHECK --timeout=5x CMD x",
            'dockerfile parse error on line 2: time: unknown unit "x" in duration "5x"',
            (2, 2),
        ),
        (
            "FROM a\nHEALTHCHECK --timeout=.s CMD x",
            'dockerfile parse error on line 2: time: invalid duration ".s"',
            (2, 2),
        ),
        (
            "FROM a\nHEALTHCHECK --retries=x CMD x",
            'dockerfile parse error on line 2: strconv.ParseInt: parsing "x": invalid syntax',
            (2, 2),
        ),
        (
            "FROM a\nHEALTHCHECK --retries=-1 CMD x",
            "dockerfile parse error on line 2: --retries cannot be negative (-1)",
            (2, 2),
        ),
        ("# escape=x\nFROM a", "invalid escape token 'x' does not match ` or \\", (1, 1)),
        ("# escape=`\n# escape=`\nFROM a", "only one escape parser directive can be used", (2, 2)),
        (f"FROM a\nLABEL a={_LONG}", "dockerfile line greater than max allowed size of 65535", (2, 2)),
    ],
)
def test_what_is_refused(text: str, message: str, lines: tuple[int, int] | None) -> None:
    assert _refused(text) == (message, Location(*lines) if lines else None)


def test_an_empty_file() -> None:
    assert _refused(b"") == ("the Dockerfile cannot be empty", None)


def test_one_instruction() -> None:
    user = parse_instruction("user  x")
    assert (user, user.keyword) == (User("USER", "user  x", Location(1, 1), "x"), "USER")
    env = parse_instruction("ENV a=b` c", "`")
    assert isinstance(env, Env)
    assert env.pairs == (("a", "b` c"),)
    with pytest.raises(DockerfileError, match="onbuild trigger should be a single expression"):
        parse_instruction("USER a\nUSER b")
    with pytest.raises(DockerfileError, match=r"^unknown instruction: SOMETHING$"):
        parse_instruction("SOMETHING a")
    with pytest.raises(DockerfileError, match="file with no instructions"):
        parse_instruction("")


_piece = st.sampled_from(
    "FROM RUN COPY ADD ENV ARG ONBUILD CMD HEALTHCHECK SHELL LABEL EXPOSE VOLUME # escape=` syntax AS \\ ` << <<-E E".split()
    + list(" \n'\"$}=[],\r\ta")
    + ["${", "--", "--mount=", "--from="]
)


@given(st.lists(_piece, max_size=40).map("".join) | st.text(max_size=60))
def test_whatever_is_read_is_understood_or_refused(text: str) -> None:
    for data in (text.encode("utf-8", "replace"), f"FROM a\n{text}".encode("utf-8", "replace")):
        try:
            dockerfile = parse(data)
        except DockerfileError as error:
            assert str(error)
            continue
        for stage in dockerfile.stages:
            for instruction in (stage.base, *stage.instructions):
                assert 1 <= instruction.location.first <= instruction.location.last


@given(st.binary(max_size=60))
def test_bytes(data: bytes) -> None:
    try:
        parse(b"FROM a\nENV " + data)
    except DockerfileError:
        return


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\n" * 20_000,
        "FROM a\n" + "RUN x \\\n" * 100_000,
        "FROM a\n" + "ENV " + "a=b " * 16_000,
        "FROM a\nRUN " + "<<E " * 16_000,
        "FROM a\nONBUILD " + "ONBUILD " * 8_000,
        "FROM a\nRUN --mount=" + "," * 60_000 + " x",
        "FROM a\nCOPY " + "--link " * 9_000 + "a b",
        "FROM a\nRUN <<E\n" + "x\n" * 300_000 + "E\n",
        "#\n" * 300_000,
        "FROM a\nHEALTHCHECK --interval=" + "1h" * 30_000 + " CMD x",
        "FROM a\nCMD " + '["a",' * 13_000,
        "FROM a AS " + "a-" * 30_000 + "\n",
        "FROM a\nRUN " + "${a:-" * 13_000,
        "FROM a\nRUN <<" + "'" * 60_001,
    ],
)
def test_hostile_files_take_no_longer(text: str) -> None:
    start = time.perf_counter()
    with suppress(DockerfileError):
        parse(text.encode())
    assert time.perf_counter() - start < 5
