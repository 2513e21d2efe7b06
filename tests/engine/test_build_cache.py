"""What makes a step the same as one that was carried out before, and what does not."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import docker
import pytest

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
