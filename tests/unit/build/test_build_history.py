"""What `docker history` says of each instruction; the words of both builders were compared with dockerd's."""

from __future__ import annotations

from typing import Any

import pytest
from coved.build.stages import config, history
from coved.dockerfile import instructions as i
from coved.dockerfile.expansion import expand
from coved.dockerfile.parser import parse

DOCKERFILE = (
    b'FROM scratch\nENV a="b c" d=e\nLABEL x=y\nCMD ["a\\"", "b"]\nENTRYPOINT go on\nSHELL ["/bin/bash", "-xc"]\nUSER me\n'
    b"EXPOSE 80-81 53/udp\nVOLUME /a /b\nSTOPSIGNAL 9\nHEALTHCHECK --interval=90s --retries=2 CMD true\nONBUILD RUN x\nMAINTAINER me\n"
)
NOP = "/bin/sh -c #(nop)  "


def test_what_changes_no_files() -> None:
    now: dict[str, Any] = {}
    found = []
    for written in parse(DOCKERFILE).stages[0].instructions:
        instruction = expand(written, {})
        now = config.apply(now, instruction)
        found.append([history.of_configuration(instruction, now, classic=old) for old in (False, True)])
    bash = "/bin/bash -xc #(nop)  "
    health = "{Test:[CMD-SHELL true] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:2}"
    assert found == [
        ["ENV a=b c d=e", f"{NOP}ENV a=b c d=e"],
        ["LABEL x=y", f"{NOP}LABEL x=y"],
        ['CMD ["a\\"" "b"]', f'{NOP}CMD ["a\\"" "b"]'],
        ['ENTRYPOINT ["/bin/sh" "-c" "go on"]', f'{NOP}ENTRYPOINT ["/bin/sh" "-c" "go on"]'],
        ["SHELL [/bin/bash -xc]", f"{bash}SHELL [/bin/bash -xc]"],
        ["USER me", f"{bash}USER me"],
        ["EXPOSE [53/udp 80/tcp 81/tcp]", f"{bash}EXPOSE 53/udp 80-81"],
        ["VOLUME [/a /b]", f"{bash}VOLUME [/a /b]"],
        ["STOPSIGNAL 9", f"{bash}STOPSIGNAL 9"],
        [f"HEALTHCHECK {health}", f"{bash}HEALTHCHECK &{health}"],
        [None, f"{bash}ONBUILD RUN x"],
        ["MAINTAINER me", f"{bash}MAINTAINER me"],
    ]


def test_commands_have_their_build_arguments() -> None:
    words, args, env = ["/bin/sh", "-c", "true"], {"b": "1", "a": "2"}, {"a": "3"}
    assert history.of_command(words, args, env, classic=False) == "RUN |2 b=1 a=3 /bin/sh -c true # buildkit"
    assert history.of_command(words, args, env, classic=True) == "|1 b=1 /bin/sh -c true"
    assert history.of_command(words, {}, {}, classic=True) == "/bin/sh -c true"
    assert history.of_arguments([("a", "1"), ("b", None)], {}, classic=True) == f"{NOP}ARG a=1 b"
    assert history.of_directory("/x", {}, classic=True) == "/bin/sh -c #(nop) WORKDIR /x"
    assert history.of_directory("/x", {}, classic=False) == "WORKDIR /x"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("COPY --from=a --chown=1:2 --chmod=755 --link x y /z/", "COPY --chown=1:2 --chmod=755 x y /z/ # buildkit"),
        ("COPY --parents a/b /", "COPY --parents a/b / # buildkit"),
        ("COPY <<one <<two /\n1\none\n2\ntwo", "COPY <<one <<two / # buildkit"),
    ],
)
def test_copies(line: str, words: str) -> None:
    (copy,) = parse(f"FROM scratch AS a\n{line}\n".encode()).stages[0].instructions
    assert isinstance(copy, i.Copy)
    assert history.of_copy(copy) == words
    named = history.of_classic_copy(copy, {"Shell": ["/sh"]}, "multi:1")
    chown = "--chown=1:2 " if copy.chown else ""
    assert named == f"/sh #(nop) {copy.keyword} {chown}multi:1 in {copy.destination} "
