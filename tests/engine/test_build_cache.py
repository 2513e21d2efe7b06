"""What makes a step the same as one that was carried out before, and what does not."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import docker
import pytest
from coved.build.cache.steps import key

import build_load
from kill_look import Netns
from test_build_classic import context

pytestmark = [pytest.mark.root, pytest.mark.native]

RANDOM = "head -c 16 /dev/urandom | md5sum"


class Builds:
    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client

    def told(self, dockerfile: str, **options: Any) -> tuple[str, str]:
        """The image's id, and what was said."""
        files = options.pop("files", {})
        archive = io.BytesIO(context(dockerfile, **files))
        lines = [*self._client.api.build(fileobj=archive, custom_context=True, decode=True, **options)]
        assert not [line for line in lines if "error" in line], lines
        (image,) = [line["aux"]["ID"] for line in lines if "aux" in line]
        return image, "".join(line.get("stream", "") for line in lines)

    def image(self, dockerfile: str, **options: Any) -> str:
        return self.told(dockerfile, **options)[0]

    def says(self, image: str, *command: str) -> str:
        return str(self._client.containers.run(image, [*command], remove=True, network_mode="none").decode())

    def cached(self) -> list[dict[str, Any]]:
        return [*self._client.df()["BuildCache"]]

    def forget(self, words: str) -> None:
        """Removes the steps with these words."""
        api = self._client.api
        for one in self.cached():
            if words in one["Description"]:
                parameters = {"all": "true", "filters": json.dumps({"id": [one["ID"]]})}
                api.post(f"{api.base_url}/v{api.api_version}/build/prune", params=parameters).raise_for_status()


@pytest.fixture
def builds(docker_client: Any) -> Builds:
    return Builds(docker_client)


def test_what_was_made_on_another_result_is_not_found(builds: Builds) -> None:
    marker = f"{time.time()}"
    dockerfile = f"FROM busybox\nRUN {RANDOM} > /a # {marker}\nRUN cp /a /b\n"
    builds.image(dockerfile)
    builds.forget(marker)
    image = builds.image(dockerfile)
    assert builds.says(image, "cat", "/a") == builds.says(image, "cat", "/b")


def test_a_copy_that_is_made_anew_is_the_same(builds: Builds) -> None:
    marker = f"{time.time()}"
    dockerfile = f"FROM busybox\nCOPY file-{marker} /a\nRUN {RANDOM} > /b\n"
    first = builds.image(dockerfile, files={f"file-{marker}": "x"})
    builds.forget(f"COPY file-{marker} /a")
    again, said = builds.told(dockerfile, files={f"file-{marker}": "x"})
    assert said.count("Using cache") == 1
    assert builds.says(first, "cat", "/b") == builds.says(again, "cat", "/b")


def test_an_image_tells_of_its_steps_to_builds_that_ask_it(builds: Builds, docker_client: Any) -> None:
    marker = f"{time.time()}"
    dockerfile = f"FROM busybox\nRUN {RANDOM} > /a # {marker}\nRUN cp /a /b # {marker}\n"
    arguments = {"BUILDKIT_INLINE_CACHE": "1"}
    image = builds.image(dockerfile, tag="inline:cache", buildargs=arguments)
    builds.forget(marker)
    asked, said = builds.told(dockerfile, cache_from=["inline:cache"])
    assert said.count("Using cache") == 2
    assert builds.says(asked, "cat", "/a") == builds.says(image, "cat", "/a")
    others, said = builds.told(dockerfile)  # who makes an image may say anything of how it was made
    assert "Using cache" not in said
    assert builds.says(others, "cat", "/a") != builds.says(image, "cat", "/a")
    docker_client.images.remove("inline:cache")


def test_proxies_count_only_where_they_are_declared(builds: Builds) -> None:
    marker = f"RUN echo $http_proxy > /seen # {time.time()}"
    one = builds.image(f"FROM busybox\n{marker}\n", buildargs={"http_proxy": "http://a"})
    assert builds.image(f"FROM busybox\n{marker}\n", buildargs={"http_proxy": "http://b"}) == one
    for value in ("http://c", "http://d"):
        declared = builds.image(
            f"FROM busybox\nENV http_proxy={value}\n{marker}\n", buildargs={"http_proxy": "http://e"}
        )
        assert builds.says(declared, "cat", "/seen") == f"{value}\n"


def test_triggers_reach_what_the_dockerfile_itself_does_not(builds: Builds, docker_client: Any) -> None:
    builds.image("FROM busybox\nONBUILD COPY b /b\nONBUILD COPY --from=maker /made /made\n", tag="trigger:far")
    image = builds.image(
        "FROM busybox AS maker\nRUN echo made > /made\nFROM trigger:far\nCOPY a /a\n", files={"a": "1", "b": "2"}
    )
    assert builds.says(image, "cat", "/a", "/b", "/made") == "12made\n"
    docker_client.images.remove("trigger:far")


def test_times_do_not_count(builds: Builds) -> None:
    dockerfile = f"FROM busybox\nCOPY f /f\nRUN {RANDOM} > /a # {time.time()}\n"
    first = builds.image(dockerfile, files={"f": "same"})
    time.sleep(1.1)  # the archive's members are as old as 1970 in any case; what they become is not
    assert builds.image(dockerfile, files={"f": "same"}) == first


def test_equal_steps_that_are_carried_out_anew_leave_one_result(own_engine: Any) -> None:
    """The first is needed until the build has ended, and no step's by then."""
    stage = f"FROM busybox AS {{}}\nRUN {RANDOM} > /a\n"
    dockerfile = f"{stage.format('one')}{stage.format('two')}COPY --from=one /a /b\n"
    with (
        closing(docker.DockerClient(own_engine.url, timeout=60)) as client,
        closing(Netns(own_engine.namespace_pid)) as netns,
    ):
        builds = Builds(client)
        image = builds.image(dockerfile, nocache=True)
        assert len({*builds.says(image, "cat", "/a", "/b").split("  -\n")} - {""}) == 2
        assert build_load.wrong_in(own_engine, netns) == {}
        client.images.remove(image)
        client.api.prune_builds(all=True)
        assert os.listdir(own_engine.root / "build" / "snapshots") == []
        assert build_load.wrong_in(own_engine, netns) == {}


def retold(api: Any, name: str, says: Callable[[list[dict[str, Any]], dict[str, Any]], None]) -> None:
    """Puts an image in another's place that tells something else of its steps."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(api.get_image(name)))) as archive:
        files = {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}  # type: ignore[union-attr]
    (manifest,) = json.loads(files["manifest.json"])
    document = json.loads(files[manifest["Config"]])
    says(document["org.cove.build.cache"], document)
    made = {"config.json": json.dumps(document).encode(), **{one: files[one] for one in manifest["Layers"]}}
    made["manifest.json"] = json.dumps([{**manifest, "Config": "config.json"}]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in made.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert [line for line in api.load_image(out.getvalue()) if "stream" in line]


def test_what_is_made_on_an_imported_layer_is_for_those_who_ask_for_it(builds: Builds, docker_client: Any) -> None:
    """An image says that its layer comes to what its base image is."""
    marker, arguments = f"{time.time()}", {"BUILDKIT_INLINE_CACHE": "1"}
    evil = f"RUN echo evil > /a # {marker}"
    later = f"WORKDIR /w-{marker}\nRUN cat /a > /b || true # later {marker}\n"
    builds.image(f"FROM busybox\n{evil}\n", tag="hostile:cache", buildargs=arguments)

    def lie(steps: list[dict[str, Any]], document: dict[str, Any]) -> None:
        steps[0]["id"] = key("image", document["rootfs"]["diff_ids"][:-1])

    retold(docker_client.api, "hostile:cache", lie)
    builds.forget(marker)
    poisoned = f"FROM busybox\n{evil}\n{later}"
    asked, said = builds.told(poisoned, cache_from=["hostile:cache"], tag="hostile:next", buildargs=arguments)
    assert said.count("Using cache") == 1
    assert builds.says(asked, "cat", "/b") == "evil\n"
    others, said = builds.told(f"FROM busybox\n{later}")
    assert "Using cache" not in said
    assert builds.says(others, "cat", "/b") == ""
    # Who asks for it again finds what was made on it, here and, told by the image that was made, elsewhere.
    assert builds.told(poisoned, cache_from=["hostile:cache"])[1].count("Using cache") == 3
    builds.forget(marker)
    assert builds.told(poisoned, cache_from=["hostile:next"])[1].count("Using cache") == 3
    for name in ("hostile:cache", "hostile:next"):
        docker_client.images.remove(name)
