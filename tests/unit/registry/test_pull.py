"""Pulls from registries that are as they should be, and from those that are not."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import lzma
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from coved.errors import EngineError
from coved.events import Events
from coved.images import Images, reference
from coved.registry import Registries, Settings, transfers
from coved.registry.credentials import Credentials
from coved.store.database import Database
from faulty import Answer, Asked, Faulty, Image, digest_of, errors, json_answer, layer

RANDOM = os.urandom(700_000)
NOBODY = Credentials()
JOE = Credentials("joe", "secret")


class Engine:
    def __init__(self, root: Path, settings: Settings | None = None) -> None:
        self.database = Database(root / "db")
        self.images = Images(self.database, Events(), root)
        self.registries = Registries(self.database, Events(), self.images, root / "tmp", settings or Settings())
        self.messages: list[dict[str, Any]] = []

    async def pull(self, name: str, who: Credentials = NOBODY, platform: str = "") -> None:
        parsed = reference.parse(name)
        await self.registries.pull(parsed, platform, who, self.messages.append)

    @property
    def statuses(self) -> list[str]:
        return [str(one.get("status")) for one in self.messages]


@contextlib.asynccontextmanager
async def engine_in(root: Path, settings: Settings | None = None) -> AsyncIterator[Engine]:
    engine = Engine(root, settings)
    await engine.images.start(root / "none")
    try:
        yield engine
    finally:
        await engine.registries.close()
        await engine.images.close()
        engine.database.close()
    assert not [*(root / "tmp").iterdir()] if (root / "tmp").exists() else True
    assert not [one for one in (root / "layers").iterdir() if one.name.startswith("incomplete")]


def run(root: Path, work: Callable[[Engine], Any], settings: Settings | None = None) -> Engine:
    async def main() -> Engine:
        async with engine_in(root, settings) as engine:
            async with asyncio.timeout(60):
                await work(engine)
            return engine

    return asyncio.run(main())


def fails(root: Path, name: str, words: str, **options: Any) -> EngineError:
    """A pull that must fail with these words; its error."""
    settings = options.pop("settings", None)

    async def work(engine: Engine) -> None:
        with pytest.raises(EngineError) as caught:
            await engine.pull(name, **options)
        failures.append(caught.value)
        assert not engine.images.list()

    failures: list[EngineError] = []
    run(root, work, settings)
    assert words in str(failures[0])
    return failures[0]


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - it is a server's thread that makes it true
        await asyncio.sleep(0.01)


def test_an_image_comes_with_docker_s_messages(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("one", b"1"), layer("two", RANDOM))
    image.serve(server, "some/thing")

    async def work(engine: Engine) -> None:
        await engine.pull(f"{server.host}/some/thing:latest")
        found = engine.images.get(f"{server.host}/some/thing")
        assert found.id == digest_of(image.config)
        assert (engine.images.lower_dirs(found)[0] / "two").read_bytes() == RANDOM
        assert found.digests == (f"{server.host}/some/thing@{image.digest}",)
        first = engine.messages[:]
        engine.messages.clear()
        await engine.pull(f"{server.host}/some/thing:latest")
        again = engine.statuses
        assert again == [
            "Pulling from some/thing",
            f"Digest: {image.digest}",
            f"Status: Image is up to date for {server.host}/some/thing:latest",
        ]
        engine.messages = first

    engine = run(tmp_path, work)
    statuses = engine.statuses
    assert engine.messages[0] == {"status": "Pulling from some/thing", "id": "latest"}
    assert statuses[1:3] == ["Pulling fs layer"] * 2
    for status in ("Download complete", "Pull complete", "Verifying Checksum"):
        assert statuses.count(status) == 2
    assert statuses[-2:] == [
        f"Digest: {image.digest}",
        f"Status: Downloaded newer image for {server.host}/some/thing:latest",
    ]
    downloading = [one for one in engine.messages if one["status"] == "Downloading"]
    assert downloading[-1]["progressDetail"]["total"] in {len(one) for one in image.blobs}


def test_layers_that_are_here_are_not_fetched(tmp_path: Path, server: Faulty) -> None:
    base = layer("base", RANDOM)
    Image(base).serve(server, "a")
    Image(base, layer("top", b"t")).serve(server, "b")

    async def work(engine: Engine) -> None:
        await engine.pull(f"{server.host}/a:latest")
        await engine.pull(f"{server.host}/b:latest")

    engine = run(tmp_path, work)
    assert engine.statuses.count("Already exists") == 1
    assert len([one for one in server.asked if digest_of(gzip.compress(base)) in one.path]) <= 1


@pytest.mark.parametrize("compress", [gzip.compress, bytes, lzma.compress], ids=["gzip", "plain", "xz"])
def test_compressions(tmp_path: Path, server: Faulty, compress: Callable[[bytes], bytes]) -> None:
    image = Image(layer("file", RANDOM), compress=compress)
    image.serve(server, "a")

    async def work(engine: Engine) -> None:
        await engine.pull(f"{server.host}/a:latest")
        kept = engine.images.manifest(engine.images.get(f"{server.host}/a:latest"))
        # OCI has no name for xz: such a layer is kept plain, and its manifest is not.
        assert (kept.digest == image.digest) == (compress is not lzma.compress)

    run(tmp_path, work)


def test_a_broken_connection_is_gone_on_with(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", RANDOM))
    image.serve(server, "a")
    (blob,) = image.blobs

    def give(asked: Asked) -> Answer:
        start = int(asked.headers.get("range", "bytes=0-")[6:-1])
        rest = blob[start:]
        headers = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"} if start else {}
        return Answer(206 if start else 200, rest, headers, cut=200_000 if len(rest) > 200_000 else None)

    server.rules[("GET", f"/v2/a/blobs/{digest_of(blob)}")] = give
    run(tmp_path, lambda engine: engine.pull(f"{server.host}/a:latest"))
    ranges = [one.headers.get("range") for one in server.seen("GET", f"/v2/a/blobs/{digest_of(blob)}")]
    assert ranges[:3] == [None, "bytes=200000-", "bytes=400000-"]


def test_a_registry_without_ranges_is_asked_for_all_of_it_again(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", RANDOM))
    image.serve(server, "a")
    (blob,) = image.blobs
    tries: list[Asked] = []

    def give(asked: Asked) -> Answer:
        tries.append(asked)
        return Answer(200, blob, cut=300_000 if len(tries) == 1 else None)

    server.rules[("GET", f"/v2/a/blobs/{digest_of(blob)}")] = give
    run(tmp_path, lambda engine: engine.pull(f"{server.host}/a:latest"))
    assert len(tries) == 2


def test_what_gives_up_too_early_is_tried_again_and_then_it_fails(
    tmp_path: Path, server: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "RETRY_S", 0)
    image = Image(layer("file", RANDOM))
    image.serve(server, "a")
    server.rules[("GET", f"/v2/a/blobs/{digest_of(image.blobs[0])}")] = Answer(503)
    fails(tmp_path, f"{server.host}/a:latest", "received unexpected HTTP status: 503 Service Unavailable")
    assert len(server.seen("GET", f"/v2/a/blobs/{digest_of(image.blobs[0])}")) == transfers.ATTEMPTS


def test_a_layer_that_is_another_is_refused(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", RANDOM))
    image.serve(server, "a")
    (blob,) = image.blobs
    path = ("GET", f"/v2/a/blobs/{digest_of(blob)}")
    server.rules[path] = Answer(200, blob[:-1] + b"x")
    words = f"filesystem layer verification failed for digest {digest_of(blob)}"
    fails(tmp_path / "1", f"{server.host}/a:latest", words)
    server.rules[path] = Answer(200, blob + b"more")
    fails(tmp_path / "2", f"{server.host}/a:latest", words)


def test_a_manifest_that_is_another_is_refused(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", b"1"))
    image.serve(server, "a")
    other = Image(layer("file", b"2"))
    server.rules[("GET", f"/v2/a/manifests/{image.digest}")] = Answer(200, other.manifest, {"Content-Type": other.type})
    fails(tmp_path, f"{server.host}/a:latest", f"manifest verification failed for digest {image.digest}")


def test_a_configuration_that_is_another_is_refused(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", b"1"))
    image.serve(server, "a")
    server.rules[("GET", f"/v2/a/blobs/{digest_of(image.config)}")] = Answer(200, image.config + b" ")
    fails(tmp_path, f"{server.host}/a:latest", "error pulling image configuration: image config verification failed")


def test_a_layer_whose_content_is_not_what_the_configuration_says(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", b"1"))
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] = [digest_of(b"other")]
    image.config = json.dumps(config).encode()
    manifest = json.loads(image.manifest)
    manifest["config"] = {**manifest["config"], "digest": digest_of(image.config), "size": len(image.config)}
    image.manifest = json.dumps(manifest).encode()
    image.digest = digest_of(image.manifest)
    image.serve(server, "a")
    fails(tmp_path, f"{server.host}/a:latest", "failed to register layer: layer verification failed")


def test_documents_have_bounds(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", b"1"))
    image.serve(server, "a")
    server.rules[("GET", f"/v2/a/manifests/{image.digest}")] = Answer(
        200, b" " * (5 << 20), {"Content-Type": image.type}
    )
    fails(tmp_path, f"{server.host}/a:latest", "is larger than 4194304 bytes")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"nonsense\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n", "malformed HTTP response"),
        (
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n",
            "malformed HTTP response",
        ),
        (b"", "EOF"),
    ],
    ids=["nonsense", "long header", "many headers", "nothing"],
)
def test_heads_that_are_none(tmp_path: Path, server: Faulty, raw: bytes, words: str) -> None:
    server.rules[("GET", "/v2/")] = Answer(raw=raw)
    fails(tmp_path, f"{server.host}/a:latest", words)


@pytest.mark.parametrize(
    ("answer", "words", "status"),
    [
        (
            errors(404, "MANIFEST_UNKNOWN", "manifest unknown", {"Tag": "x"}),
            "manifest for {host}/a:x not found: manifest unknown: manifest unknown",
            404,
        ),
        (
            errors(401, "DENIED", "requested access to the resource is denied", {}),
            "pull access denied for {host}/a, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied",
            404,
        ),
        (errors(404, "NAME_UNKNOWN", "no such thing", 1), "repository {host}/a not found: name unknown: no such thing", 404),
        (errors(429, "TOOMANYREQUESTS", "slow down"), "toomanyrequests: slow down", 500),
        (Answer(429, b"enough", {"Retry-After": "30"}), "toomanyrequests: enough", 500),
        (errors(401, "UNAUTHORIZED", "authentication required", {}), "unauthorized: authentication required", 500),
        (Answer(500), "received unexpected HTTP status: 500 Internal Server Error", 500),
        (json_answer({}, 404), "error parsing HTTP 404 response body: no error details found", 500),
        (json_answer({"details": "wrong"}, 401), "unauthorized: wrong", 500),
    ],
)  # fmt: skip
def test_refusals_in_docker_s_words(tmp_path: Path, server: Faulty, answer: Answer, words: str, status: int) -> None:
    server.rules[("GET", "/v2/a/manifests/x")] = answer
    error = fails(tmp_path, f"{server.host}/a:x", words.replace("{host}", server.host))
    assert error.status == status
    assert str(error).startswith(words.replace("{host}", server.host)[:20])


def test_the_platform_is_chosen(tmp_path: Path, server: Faulty) -> None:
    arm, amd = Image(layer("arm", b"1"), architecture="arm64"), Image(layer("amd", b"1"))
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {
                    "mediaType": one.type, "digest": one.digest, "size": len(one.manifest),
                    "platform": {"os": "linux", "architecture": name},
                }
                for name, one in (("arm64", arm), ("amd64", amd))
            ],
        }
    ).encode()  # fmt: skip
    arm.serve(server, "a", "arm")
    amd.serve(server, "a", "amd")
    headers = {"Content-Type": "application/vnd.oci.image.index.v1+json", "Docker-Content-Digest": digest_of(index)}
    for name in ("latest", digest_of(index)):
        for method in ("GET", "HEAD"):
            server.rules[(method, f"/v2/a/manifests/{name}")] = Answer(200, index, headers)

    async def work(engine: Engine) -> None:
        for platform, image in (("linux/arm64", arm), ("linux/amd64", amd)):
            await engine.pull(f"{server.host}/a:latest", platform=platform)
            assert engine.images.get(digest_of(image.config))
        with pytest.raises(EngineError, match="no matching manifest for linux/s390x in the manifest list entries"):
            await engine.pull(f"{server.host}/a:latest", platform="linux/s390x")
        with pytest.raises(EngineError, match="does not match the specified platform: wanted linux/arm64"):
            await engine.pull(f"{server.host}/a:amd", platform="linux/arm64")

    run(tmp_path, work)


def test_a_mirror_is_asked_first_and_may_fail(tmp_path: Path, server: Faulty, another: Callable[[], Faulty]) -> None:
    image = Image(layer("file", b"1"))
    image.serve(server, "library/thing")
    broken = another()
    settings = Settings.checked([], [broken.url, server.url], [])
    run(tmp_path, lambda engine: engine.pull("thing:latest"), settings)
    assert broken.seen("HEAD", "/v2/library/thing/manifests/latest")


def test_all_tags(tmp_path: Path, server: Faulty) -> None:
    for tag in ("one", "two"):
        Image(layer(tag, b"1")).serve(server, "a", tag)
    server.rules[("GET", "/v2/a/tags/list")] = json_answer({"tags": ["one"]}, Link='</v2/a/tags/list2?n=1>; rel="next"')
    server.rules[("GET", "/v2/a/tags/list2")] = json_answer({"tags": ["two"]})

    async def work(engine: Engine) -> None:
        await engine.pull(f"{server.host}/a")
        assert {tag for image in engine.images.list() for tag in image.tags} == {
            f"{server.host}/a:one", f"{server.host}/a:two",
        }  # fmt: skip

    run(tmp_path, work)


def test_two_pulls_of_the_same_share_the_work(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", RANDOM))
    image.serve(server, "a")
    (blob,) = image.blobs
    go = threading.Event()
    server.rules[("GET", f"/v2/a/blobs/{digest_of(blob)}")] = Answer(200, blob, hold=go)

    async def work(engine: Engine) -> None:
        first, second = (asyncio.create_task(engine.pull(f"{server.host}/a:latest")) for _ in range(2))
        await until(lambda: engine.statuses.count("Pulling fs layer") == 2)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        go.set()
        await second
        assert engine.images.get(f"{server.host}/a").id == digest_of(image.config)

    run(tmp_path, work)
    assert len(server.seen("GET", f"/v2/a/blobs/{digest_of(blob)}")) == 1


def test_a_pull_that_is_cancelled_stops_and_leaves_nothing(tmp_path: Path, server: Faulty) -> None:
    image = Image(layer("file", RANDOM))
    image.serve(server, "a")
    never = threading.Event()
    server.rules[("GET", f"/v2/a/blobs/{digest_of(image.blobs[0])}")] = Answer(200, image.blobs[0], hold=never)

    async def work(engine: Engine) -> None:
        task = asyncio.create_task(engine.pull(f"{server.host}/a:latest"))
        await until(lambda: bool(server.seen("GET", f"/v2/a/blobs/{digest_of(image.blobs[0])}")))
        task.cancel()
        async with asyncio.timeout(30):
            await asyncio.wait([task])
        assert not engine.images.list()

    run(tmp_path, work)  # and engine_in finds no folder
    never.set()


class TestWhoAsks:
    def bearer(self, server: Faulty, realm: str) -> None:
        challenge = f'Bearer realm="{realm}",service="here",scope="x"'
        denied = Answer(401, b"{}", {"WWW-Authenticate": challenge, "Content-Type": "application/json"})
        image = Image(layer("file", RANDOM))
        image.serve(server, "a")
        for key, rule in [*server.rules.items()]:
            assert isinstance(rule, Answer)

            def guarded(asked: Asked, rule: Answer = rule) -> Answer:
                return rule if asked.headers.get("authorization") == "Bearer good" else denied

            server.rules[key] = guarded
        server.rules[("GET", "/v2/")] = denied

    def test_a_token_is_got_for_a_password(self, tmp_path: Path, server: Faulty, another: Callable[[], Faulty]) -> None:
        tokens = another()
        tokens.rules[("GET", "/token")] = json_answer({"token": "good", "expires_in": 60})
        self.bearer(server, f"{tokens.url}/token")
        run(tmp_path, lambda engine: engine.pull(f"{server.host}/a:latest", JOE))
        (asked,) = tokens.asked
        assert asked.headers["authorization"] == "Basic am9lOnNlY3JldA=="
        assert "service=here" in asked.path
        assert "scope=repository%3Aa%3Apull" in asked.path
        assert "secret" not in "".join(str(one.headers) for one in server.asked)

    def test_and_for_an_identity_token(self, tmp_path: Path, server: Faulty, another: Callable[[], Faulty]) -> None:
        tokens = another()
        tokens.rules[("POST", "/token")] = json_answer({"access_token": "good"})
        self.bearer(server, f"{tokens.url}/token")
        who = Credentials("joe", identity_token="refresh-me")
        run(tmp_path, lambda engine: engine.pull(f"{server.host}/a:latest", who))
        body = tokens.asked[0].body.decode()
        assert "grant_type=refresh_token" in body
        assert "refresh_token=refresh-me" in body

    def test_a_token_that_is_taken_back_is_got_anew(
        self, tmp_path: Path, server: Faulty, another: Callable[[], Faulty]
    ) -> None:
        tokens = another()
        given: list[str] = []

        def give(asked: Asked) -> Answer:
            given.append("bad" if not given else "good")
            return json_answer({"token": given[-1]})

        tokens.rules[("GET", "/token")] = give
        self.bearer(server, f"{tokens.url}/token")
        run(tmp_path, lambda engine: engine.pull(f"{server.host}/a:latest", JOE))
        assert given == ["bad", "good"]

    @pytest.mark.parametrize(
        ("document", "words"),
        [
            ({}, "authorization server did not include a token in the response"),
            ({"token": "a\r\nX: y"}, "a token that cannot be sent"),
            ({"token": "x" * 70_000}, "a token that cannot be sent"),
            ([], "unable to decode token response"),
        ],
    )
    def test_tokens_that_are_none(
        self, tmp_path: Path, server: Faulty, another: Callable[[], Faulty], document: Any, words: str
    ) -> None:
        tokens = another()
        tokens.rules[("GET", "/token")] = json_answer(document)
        self.bearer(server, f"{tokens.url}/token")
        fails(tmp_path, f"{server.host}/a:latest", words, who=JOE)

    def test_basic(self, tmp_path: Path, server: Faulty) -> None:
        server.rules[("GET", "/v2/")] = Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
        Image(layer("file", b"1")).serve(server, "a")
        run(tmp_path / "1", lambda engine: engine.pull(f"{server.host}/a:latest", JOE))
        assert {one.headers.get("authorization") for one in server.asked if one.path != "/v2/"} == {
            "Basic am9lOnNlY3JldA=="
        }
        fails(tmp_path / "2", f"{server.host}/a:latest", "no basic auth credentials")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_credentials_follow_no_redirect_to_another_host(
        self, tmp_path: Path, server: Faulty, another: Callable[[], Faulty], status: int
    ) -> None:
        server.rules[("GET", "/v2/")] = Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
        image = Image(layer("file", RANDOM))
        image.serve(server, "a")
        elsewhere = another()
        path = f"/v2/a/blobs/{digest_of(image.blobs[0])}"
        server.rules[("GET", path)] = Answer(status, b"", {"Location": f"{elsewhere.url}/there?signed=yes"})
        elsewhere.rules[("GET", "/there")] = Answer(200, image.blobs[0])
        run(tmp_path, lambda engine: engine.pull(f"{server.host}/a:latest", JOE))
        (asked,) = elsewhere.asked
        assert "authorization" not in asked.headers

    def test_redirects_come_to_an_end(self, tmp_path: Path, server: Faulty) -> None:
        image = Image(layer("file", b"1"))
        image.serve(server, "a")
        path = f"/v2/a/blobs/{digest_of(image.config)}"
        server.rules[("GET", path)] = Answer(302, b"", {"Location": path})
        fails(tmp_path, f"{server.host}/a:latest", "stopped after 10 redirects")

    @pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/", "http://user:pass@x/", "gopher://x"])
    def test_redirects_lead_to_http_alone(self, tmp_path: Path, server: Faulty, target: str) -> None:
        image = Image(layer("file", b"1"))
        image.serve(server, "a")
        server.rules[("GET", f"/v2/a/blobs/{digest_of(image.config)}")] = Answer(302, b"", {"Location": target})
        fails(tmp_path, f"{server.host}/a:latest", "an address that cannot be used")
