"""``docker diff`` and ``docker commit`` held against what dockerd 26.1 says of the same containers."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

pytestmark = [pytest.mark.root, pytest.mark.native]
MODIFIED, ADDED, DELETED = 0, 1, 2


@pytest.fixture
def ended(docker_client: Any) -> Iterator[Callable[..., Any]]:
    """Makes containers that have done what the script says."""
    made: list[Any] = []

    def make(script: str, image: str = "busybox", **options: Any) -> Any:
        one = docker_client.containers.run(image, ["sh", "-c", script], detach=True, **options)
        made.append(one)
        assert one.wait()["StatusCode"] == 0, one.logs()
        return one

    yield make
    for one in made:
        with contextlib.suppress(docker.errors.NotFound):
            one.remove(force=True, v=True)


@pytest.fixture
def name(docker_client: Any) -> Iterator[str]:
    made = f"committed/{uuid.uuid4().hex[:12]}"
    yield made
    for image in docker_client.images.list(made):
        docker_client.images.remove(image.id, force=True)


def changed(one: Any) -> set[tuple[int, str]]:
    return {(change["Kind"], change["Path"]) for change in one.diff() or ()}


def test_a_directory_that_was_made_anew_lacks_what_the_image_has_in_it(ended: Any, name: str) -> None:
    ended("mkdir -p /o/a/deep /o/b /keep; touch /o/a/deep/f").commit(name, "base")
    one = ended("rm -r /o; mkdir -p /o/a; touch /o/a/new", f"{name}:base")
    assert changed(one) == {
        (MODIFIED, "/o"), (MODIFIED, "/o/a"), (ADDED, "/o/a/new"), (DELETED, "/o/a/deep"), (DELETED, "/o/b"),
    }  # fmt: skip
    one.commit(name, "next")
    assert ended("find /o", f"{name}:next").logs().split() == [b"/o", b"/o/a", b"/o/a/new"]


def test_what_is_as_it_was_is_no_change(ended: Any, name: str) -> None:
    ended("mkdir /d; echo 1 >/d/f; echo 1 >/d/g").commit(name, "base")
    # Written again with the same time and size, and a directory's time alone: neither tells dockerd of a change.
    script = "touch -r /d/f /t; echo 1 >/d/f; touch -r /t /d/f; rm /t; touch /d; chmod 600 /d/g"
    assert changed(ended(script, f"{name}:base")) == {(MODIFIED, "/d"), (MODIFIED, "/d/g")}


def test_a_container_that_changed_nothing_adds_no_layer(docker_client: Any, ended: Any, name: str) -> None:
    one = docker_client.containers.create("busybox", "true")
    try:
        image = one.commit(name, "same")
    finally:
        one.remove()
    base = docker_client.images.get("busybox")
    assert image.attrs["RootFS"]["Layers"] == base.attrs["RootFS"]["Layers"]
    newest = image.history()[0]
    assert (newest["Size"], newest["CreatedBy"]) == (0, "true")
    assert image.attrs["Size"] == base.attrs["Size"]
    assert ended("true", f"{name}:same")


def test_history_tells_the_command_and_not_the_entrypoint(docker_client: Any, name: str) -> None:
    one = docker_client.containers.create("busybox", ["a", "b"], entrypoint=["sh"])
    try:
        image = one.commit(name, "t", changes=['ENTRYPOINT ["x"]'])
        assert image.history()[0]["CreatedBy"] == "a b"
        # A command is its entrypoint's, and means nothing to another one.
        assert (image.attrs["Config"]["Entrypoint"], image.attrs["Config"]["Cmd"]) == (["x"], None)
        image = one.commit(name, "t", changes=['ENTRYPOINT ["x"]', 'CMD ["y"]'])
        assert (image.attrs["Config"]["Entrypoint"], image.attrs["Config"]["Cmd"]) == (["x"], ["y"])
    finally:
        one.remove()


def test_an_image_knows_its_parent_as_long_as_that_is_there(docker_client: Any, ended: Any, name: str) -> None:
    base = docker_client.images.get("busybox")
    first = ended("touch /1").commit(name, "first")
    second = ended("touch /2", f"{name}:first").commit(name, "second")
    assert (first.attrs["Parent"], second.attrs["Parent"], base.attrs["Parent"]) == (base.id, first.id, "")
    (listed,) = docker_client.api.images(f"{name}:second")
    assert listed["ParentId"] == first.id
    history = [(entry["Id"], entry["Tags"]) for entry in second.history()[:3]]
    assert history == [(second.id, [f"{name}:second"]), (first.id, [f"{name}:first"]), (base.id, base.tags)]
    tag = f"{name}:other"
    second.tag(tag)
    for container in docker_client.containers.list(all=True, filters={"ancestor": first.id}):
        container.remove(force=True)
    docker_client.images.remove(first.id, force=True)
    assert docker_client.images.get(tag).attrs["Parent"] == ""
    assert [entry["Id"] for entry in docker_client.images.get(tag).history()[:2]] == [second.id, "<missing>"]


def test_events_of_a_commit(engine: Any, docker_client: Any, name: str) -> None:
    one = docker_client.containers.create("busybox", "true")
    since = int(engine.now())
    try:
        image = one.commit(name, "t", message="why")
        events = [*docker_client.events(since=since, until=int(engine.now()) + 1, decode=True)]
    finally:
        one.remove()
    (tag,) = [event for event in events if event["Type"] == "image" and event["Actor"]["ID"] == image.id]
    assert (tag["Action"], tag["Actor"]["Attributes"]["name"]) == ("tag", f"{name}:t")
    (commit,) = [event for event in events if event["Actor"]["ID"] == one.id and event["Action"] == "commit"]
    told = commit["Actor"]["Attributes"]
    assert (told["comment"], told["imageID"], told["imageRef"]) == ("why", image.id, f"{name}:t")


def test_deep_nesting_is_refused_in_words(docker_client: Any) -> None:
    script = "i=0; while [ $i -lt 530 ]; do mkdir d; cd d; i=$((i+1)); done; exit 0"
    one = docker_client.containers.run("busybox", ["sh", "-c", script], detach=True)
    try:
        one.wait()
        with pytest.raises(docker.errors.APIError, match="nested more than 512 deep"):
            one.diff()
    finally:
        one.remove()
