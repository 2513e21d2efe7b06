"""What is told of a Dockerfile without building it; the texts and JSON were compared with those of dockerd 26.1."""

from __future__ import annotations

import json
from typing import Any

import pytest
from coved.build.request import Checked, Request, Result
from coved.build.stages.outlining import outline
from coved.build.stages.plan import plan
from coved.buildkit import answers
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.lint import check_read
from coved.dockerfile.outline import targets
from coved.dockerfile.parser import parse
from coved.dockerfile.rules import Options
from coved.images.documents import Platform

DOCKERFILE = b"""\
# VERSION which one <to> take
ARG VERSION=1
ARG SUFFIX=-slim$VERSION
ARG IMAGE=busybox$SUFFIX
ARG UNUSED=x
# base what all have
FROM $IMAGE AS base
# GREETING said first
# more words
ARG GREETING=hello SECOND=${GREETING}x
ENV X=1
ARG Y=${X}2 Z=$OF_IMAGE
RUN --mount=type=secret,id=token,required=true --mount=type=secret,target=/a/b true
FROM scratch as other
ARG OTHER=5
FROM busybox AS copied
ARG THIRD VERSION
RUN --mount=type=ssh true
RUN --mount=type=ssh,id=work,required --mount=type=bind,from=base,target=/x true
FROM base
ARG LAST=$GREETING
COPY --from=copied /a /b
"""


def told(target: str = "", **given: str) -> tuple[dict[str, Any], str]:
    made = plan(parse(DOCKERFILE), Request(target=target, build_args=given), Platform("linux", "amd64"))
    answer = answers.of(Result(answer=outline(made, given, lambda planned: {"OF_IMAGE": "i"})))
    assert answer["version"] == b"1.0.0"
    return json.loads(answer["result.json"]), answer["result.txt"].decode()


def test_the_outline_of_a_target_has_what_it_and_those_it_needs_are_given() -> None:
    document, text = told(THIRD="3", VERSION="9")
    assert text.splitlines() == [
        "BUILD ARG   VALUE           DESCRIPTION",
        "VERSION     9               which one <to> take",
        "SUFFIX      -slim9          ",
        "IMAGE       busybox-slim9   ",
        "GREETING    hello           said first",
        "SECOND      hellox          ",
        "Y           12              ",
        "Z           i               ",
        "THIRD       3               ",
        "LAST        hello           ",
        "",
        "SECRET   REQUIRED",
        "b        ",
        "token    true",
        "",
        "SSH       REQUIRED",
        "default   ",
        "work      true",
        "",
    ]
    assert document["args"][0] == {
        "name": "VERSION", "description": "which one <to> take", "value": "9",
        "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]},
    }  # fmt: skip
    assert {*document} == {"args", "secrets", "ssh", "sources"}


def test_the_outline_of_one_stage() -> None:
    document, text = told("other")
    assert text == "TARGET: other\n\nBUILD ARG   VALUE   DESCRIPTION\nOTHER       5       \n\n"
    assert {*document} == {"name", "args", "sources"}
    document, text = told("base")
    assert text.startswith("TARGET:      base\nDESCRIPTION: what all have\n\n")
    assert "ssh" not in document


def test_targets() -> None:
    answer = answers.of(Result(answer=targets(parse(DOCKERFILE))))
    assert answer["result.txt"].decode().splitlines() == [
        "TARGET    DESCRIPTION", "base      what all have", "other     ", "copied    ", "(default) "
    ]  # fmt: skip
    found = json.loads(answer["result.json"])["targets"]
    assert found[0] == {
        "name": "base", "description": "what all have", "base": "$IMAGE",
        "location": {"ranges": [{"start": {"line": 7}, "end": {"line": 7}}]},
    }  # fmt: skip
    assert [one.get("default", False) for one in found] == [False, False, False, True]


def test_questions_are_named() -> None:
    found = json.loads(answers.description()["result.json"])
    assert [one["name"] for one in found] == ["frontend.outline", "frontend.targets", "frontend.subrequests.describe"]


def test_checks_of_what_cannot_be_built() -> None:
    text = b"# about\nARG a=1\nFROM busybox as Up\nMAINTAINER me\nRUN a \\\n\n  b\nRUNN x\nFROM scratch as Two\n"
    with pytest.raises(DockerfileError) as failed:
        parse(text)
    assert failed.value.read is not None
    warnings = check_read(failed.value.read, Options())
    assert [one.rule for one in warnings] == [
        "NoEmptyContinuation", "StageNameCasing", "FromAsCasing", "MaintainerDeprecated"
    ]  # fmt: skip
    told = answers.of(
        Result(answer=Checked("Dockerfile", text.decode(), warnings, str(failed.value), failed.value.location))
    )
    document = json.loads(told["result.json"])
    assert document["buildError"]["message"].startswith("dockerfile parse error on line 8: unknown instruction: RUNN")
    assert document["buildError"]["location"]["ranges"][0]["start"] == {"line": 8}
    assert (len(document["warnings"]), document["sources"][0]["filename"]) == (4, "Dockerfile")
    assert told["result.statuscode"] == b"1"
    assert answers.of(Result(answer=Checked("Dockerfile", "FROM a\n", ())))["result.statuscode"] == b"0"
