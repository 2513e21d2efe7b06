"""Which stages a build needs, and on what."""

from __future__ import annotations

from typing import Any

import pytest
from coved.build.errors import BadDockerfile
from coved.build.request import Request
from coved.build.stages.plan import plan
from coved.dockerfile.parser import parse
from coved.images.documents import Platform

AMD64 = Platform("linux", "amd64")
STAGES = """\
ARG VERSION=1
FROM image:$VERSION AS base
FROM base AS Unused
RUN false
FROM --platform=$BUILDPLATFORM tools AS compiler
RUN --mount=from=other/data,target=/d true
FROM scratch AS data
FROM base
COPY --from=compiler /x /x
COPY --from=other/image /y /y
"""


def planned(text: str, **options: Any) -> Any:
    return plan(parse(text.encode()), Request(**options), AMD64)


def test_only_stages_that_the_target_needs_are_built() -> None:
    made = planned(STAGES)
    assert [one.index for one in made.stages] == [0, 2, 4]
    assert [one.stage.name for one in made.stages] == ["base", "compiler", ""]
    assert made.target.base == 0


def test_stages_after_the_one_that_needs_them_are_images_for_the_old_builder() -> None:
    text = "FROM one AS a\nCOPY --from=b /x /y\nFROM two AS b\n"
    made = planned(text, target="a", in_order=True)
    assert made.sources[0] == {}
    assert [one.index for one in made.stages] == [0]
    assert [one.index for one in planned(text).stages] == [1]
    with pytest.raises(
        BadDockerfile, match='cannot copy from stage "b", it needs to be defined before current stage "a"'
    ):
        planned(text, target="a")
    with pytest.raises(BadDockerfile, match='cannot mount from stage "b" to "a", stage needs to be defined before'):
        planned("FROM one AS a\nRUN --mount=from=b,target=/x true\nFROM two AS b\n", target="a")


@pytest.mark.parametrize("name", ["unused", "UNUSED", "1"])
def test_a_target_is_named_or_numbered(name: str) -> None:
    assert [one.index for one in planned(STAGES, target=name).stages] == [0, 1]


@pytest.mark.parametrize("name", ["nobody", "5", "-1", "٣"])
def test_a_target_that_is_not_there(name: str) -> None:
    with pytest.raises(BadDockerfile, match="could not be found"):
        planned(STAGES, target=name)


def test_the_last_of_several_stages_of_a_name_counts() -> None:
    made = planned("FROM a AS x\nFROM b AS x\nFROM x\n")
    assert [one.image for one in made.stages] == ["b", "x"]


def test_a_stage_that_names_itself_means_an_image_for_the_old_builder() -> None:
    text = "FROM busybox AS busybox\nCOPY --from=busybox /a /b\n"
    made = planned(text, in_order=True)
    assert (made.target.base, made.target.image) == (None, "busybox")
    assert made.sources == [{}]
    with pytest.raises(BadDockerfile, match="circular dependency detected on stage: busybox"):
        planned(text)


def test_arguments_before_the_first_stage() -> None:
    assert planned(STAGES).stages[0].image == "image:1"
    assert planned(STAGES, build_args={"VERSION": "2"}).stages[0].image == "image:2"
    assert planned(STAGES).stages[1].platform.startswith("linux/")
    with pytest.raises(BadDockerfile, match="should not be blank"):
        planned("ARG NAME\nFROM $NAME\n")


def test_what_steps_are_told_with() -> None:
    assert [one.shown for one in planned("FROM a\n").stages] == [""]
    assert [one.shown for one in planned("FROM a AS x\nFROM b\nCOPY --from=x / /\n").stages] == ["x ", "stage-1 "]
