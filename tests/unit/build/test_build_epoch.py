"""SOURCE_DATE_EPOCH: the times of images and their histories."""

from __future__ import annotations

import pytest
from coved.build.errors import BadDockerfile
from coved.build.stages import epoch
from coved.build.stages.state import State, dated


def test_the_request_goes_before_the_dockerfile() -> None:
    assert epoch.asked_for({}, {}) == ""
    assert epoch.asked_for({"SOURCE_DATE_EPOCH": ""}, {}) == ""
    assert epoch.asked_for({"SOURCE_DATE_EPOCH": None}, {"SOURCE_DATE_EPOCH": "0"}) == "1970-01-01T00:00:00Z"
    assert epoch.asked_for({"SOURCE_DATE_EPOCH": "1700000000"}, {"SOURCE_DATE_EPOCH": "0"}) == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize("text", ["yesterday", "1.5", "9" * 5000, "9" * 18, "-" + "9" * 17, "١"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadDockerfile, match=r"^invalid SOURCE_DATE_EPOCH: "):
        epoch.asked_for({"SOURCE_DATE_EPOCH": text}, {})


def test_what_the_base_image_has_keeps_its_time() -> None:
    base = {"created": "2020-01-01T00:00:00Z", "created_by": "base"}
    state = State(history=[base], inherited=1, created="2020-01-01T00:00:00Z").configured({}, "CMD x")
    history, created = dated(state.history, state.created, epoch="1999-01-01T00:00:00Z", inherited=1)
    assert [one["created"] for one in history] == ["2020-01-01T00:00:00Z", "1999-01-01T00:00:00Z"]
    assert created == "1999-01-01T00:00:00Z"
    assert dated([base], "2020-01-01T00:00:00Z", epoch="1999-01-01T00:00:00Z", inherited=1) == ([base], base["created"])
