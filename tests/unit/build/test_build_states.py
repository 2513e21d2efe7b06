"""What instructions make of an image's configuration and history."""

from __future__ import annotations

from typing import Any

import pytest
from coved.build.cache.steps import Step, key
from coved.build.stages import config
from coved.build.stages.state import State, dated, of_nothing
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.parser import parse_instruction

NOW = 1_700_000_000 * 10**9


def after(*lines: str, start: dict[str, Any] | None = None) -> dict[str, Any]:
    fields = start or {}
    for line in lines:
        fields = config.apply(fields, parse_instruction(line))
    return fields


def test_variables_keep_their_places() -> None:
    assert after("ENV A=1 B=2", "ENV A=3", "ENV C=4")["Env"] == ["A=3", "B=2", "C=4"]


def test_commands_are_lists_or_a_shells() -> None:
    assert after('CMD ["a", "b"]')["Cmd"] == ["a", "b"]
    assert after("CMD a b")["Cmd"] == ["/bin/sh", "-c", "a b"]
    assert after('SHELL ["x", "-y"]', "ENTRYPOINT a b")["Entrypoint"] == ["x", "-y", "a b"]
    assert after("ENTRYPOINT []")["Entrypoint"] is None


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        (["/a"], "/a"),
        (["a"], "/a"),
        (["/a", "b/c"], "/a/b/c"),
        (["/a", "../../.."], "/"),
        (["/a/", "/b"], "/b"),
        (["/a/"], "/a/"),
        (["/a/../b//c/"], "/a/../b//c/"),
        (["/a/", "b/"], "/a/b"),
    ],
)
def test_folders(steps: list[str], path: str) -> None:
    assert after(*(f"WORKDIR {one}" for one in steps))["WorkingDir"] == path


def test_ports() -> None:
    assert sorted(after("EXPOSE 80 90-91/udp")["ExposedPorts"]) == ["80/tcp", "90/udp", "91/udp"]
    for wrong in ("70000", "9-8", "80/icmp"):
        with pytest.raises(DockerfileError):
            after(f"EXPOSE {wrong}")


def test_instructions_leave_the_earlier_configuration_alone() -> None:
    before: dict[str, Any] = {"Labels": {"a": "1"}, "Volumes": {"/v": {}}, "OnBuild": ["RUN x"]}
    changed = after("LABEL b=2", "VOLUME /w", "ONBUILD RUN y", start=before)
    assert before == {"Labels": {"a": "1"}, "Volumes": {"/v": {}}, "OnBuild": ["RUN x"]}
    assert changed == {
        "Labels": {"a": "1", "b": "2"}, "Volumes": {"/v": {}, "/w": {}}, "OnBuild": ["RUN x", "RUN y"]
    }  # fmt: skip


def step(name: str, ref: str = "", at: int = NOW) -> Step:
    return Step(name, name, ref, "", name, at, at, 1)


def test_history_has_the_times_of_layers() -> None:
    state = of_nothing().configured({}, "ENV A=1").stepped(step("one", "r1"), "RUN 1").configured({}, "CMD x")
    history, created = dated(state.history, "")
    assert [entry["created"] for entry in history] == ["2023-11-14T22:13:20.000000000Z"] * 3
    assert created == history[1]["created"]
    assert [entry.get("empty_layer", False) for entry in history] == [True, False, True]


def test_history_without_layers_has_the_base_images_time() -> None:
    history, created = dated(State().configured({}, "CMD x").history, "2020-01-01T00:00:00Z")
    assert (history[0]["created"], created) == ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z")
    assert dated([], "") == ([], "")


def test_own_layers_become_one() -> None:
    state = State(refs=("base",), history=[{"created_by": "base"}])
    for name in ("r1", "", "r2"):
        state = state.stepped(step(f"step {name}", name), f"RUN {name}")
    squashed = state.squashed(("base",), "all")
    assert squashed.refs == ("base", "all")
    assert [not entry.get("empty_layer") for entry in squashed.history] == [True, False, False, False, True]


def test_keys_tell_different_steps_apart() -> None:
    assert key("run", ["a", "b"]) == key("run", ["a", "b"])
    assert len({key("run", ["a", "b"]), key("run", ["ab"]), key("run", "a", "b"), key("run", ["a"], ["b"])}) == 4
