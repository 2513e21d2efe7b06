"""Which stages a build needs, by what they copy and mount from."""

from __future__ import annotations

import pytest
from coved.build.errors import BadDockerfile
from coved.build.request import Request
from coved.build.stages.plan import Plan, plan
from coved.dockerfile.parser import parse
from coved.images.documents import Platform


def planned(
    dockerfile: str, *, target: str = "", contexts: dict[str, str] | None = None, in_order: bool = False
) -> Plan:
    request = Request(target=target, contexts=contexts or {}, in_order=in_order)
    return plan(parse(dockerfile.encode()), request, Platform("linux", "amd64"))


def needed(dockerfile: str, **options: object) -> list[int]:
    return [one.index for one in planned(dockerfile, **options).stages]  # type: ignore[arg-type]


THREE = "FROM scratch AS a\n{}FROM scratch AS b\n{}FROM scratch\n{}"


def test_only_what_is_needed_is_built() -> None:
    assert needed(THREE.format("", "", "COPY --from=b / /\n")) == [1, 2]
    assert needed(THREE.format("", "COPY --from=0 / /\n", "RUN --mount=from=B,target=/x true\n")) == [0, 1, 2]
    assert needed(THREE.format("", "", "COPY --from=busybox / /\n")) == [2]
    assert needed(THREE.format("", "", "COPY --from=b / /\n"), contexts={"b": "local:b"}) == [2]
    assert needed("FROM scratch AS a\nFROM a AS a\nFROM a\n") == [0, 1, 2]


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM scratch AS a\nCOPY --from=a / /\n", "circular dependency detected on stage: a"),
        ("FROM scratch\nCOPY --from=0 / /\n", "circular dependency detected on stage: stage-0"),
        ("FROM scratch\nRUN --mount=from=0,target=/x true\n", "circular dependency detected on stage: stage-0"),
        (
            THREE.format("COPY --from=b / /\n", "COPY --from=a / /\n", "COPY --from=a / /\n"),
            "circular dependency detected",
        ),
        ("FROM scratch AS a\nCOPY --from=b / /\nFROM a AS b\n", "circular dependency detected"),
        ("FROM scratch\nCOPY --from=1 / /\n", "invalid stage index 1"),
    ],
)
def test_no_stage_needs_itself(dockerfile: str, words: str) -> None:
    with pytest.raises(BadDockerfile, match=words):
        planned(dockerfile)


def test_thousands_of_stages() -> None:
    count = 3000
    text = "FROM scratch AS s0\n" + "".join(
        f"FROM s{number} AS s{number + 1}\nCOPY --from=s0 / /\nCOPY --from={number} / /\n" for number in range(count)
    )
    assert len(needed(text)) == count + 1
