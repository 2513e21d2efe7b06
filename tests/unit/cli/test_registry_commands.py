"""pull, push, search and their kin against an engine of our own: what they ask for, and what they make of the answer."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.cli import platforms
from cove.cli.hints import hint
from cove.cli.reference import Reference, parse_reference
from told_engine import COVE, Engine, engine_at, on_terminal, stream

DIGEST = "sha256:" + "a" * 64
AUTHS = {"auths": {"reg.example:5000": {"auth": "bWU6c2VjcmV0"}, "https://index.docker.io/v1/": {"auth": "aHViOnB3"}}}
ME = {"username": "me", "password": "secret", "serveraddress": "reg.example:5000"}
HUB = {"username": "hub", "password": "pw", "serveraddress": "https://index.docker.io/v1/"}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with engine_at(tmp_path / "engine.sock") as made:
        made.answers["POST", "/images/create"] = 200, stream([{"status": "done"}])
        yield made


@pytest.fixture
def environment(engine: Engine, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config.json").write_text(json.dumps(AUTHS))
    return os.environ | {"COVE_HOST": engine.url, "DOCKER_CONFIG": str(tmp_path)}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def cove(*words: str, stdin: str = "", **more: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [*COVE, *words], env=environment | more, input=stdin, capture_output=True, text=True, timeout=20
        )
        return done.returncode, done.stdout, done.stderr

    return cove


@pytest.mark.parametrize(
    ("text", "reference", "whole"),
    [
        ("busybox", Reference("docker.io", "library/busybox"), "docker.io/library/busybox"),
        ("index.docker.io/a:1", Reference("docker.io", "library/a", "1"), "docker.io/library/a:1"),
        ("me/a", Reference("docker.io", "me/a"), "docker.io/me/a"),
        (f"localhost/a:b@{DIGEST}", Reference("localhost", "a", "b", DIGEST), f"localhost/a:b@{DIGEST}"),
        ("[::1]:5/a/b", Reference("[::1]:5", "a/b"), "[::1]:5/a/b"),
    ],
)
def test_references(text: str, reference: Reference, whole: str) -> None:
    assert parse_reference(text) == reference
    assert str(reference) == whole
    assert str(reference.tagged()) == (f"{whole}:latest" if reference.bare else whole)


@pytest.mark.parametrize(
    ("words", "query", "auth", "printed"),
    [
        (
            "busybox",
            {"fromImage": "docker.io/library/busybox", "tag": "latest"},
            HUB,
            "docker.io/library/busybox:latest",
        ),
        ("reg.example:5000/a:1", {"fromImage": "reg.example:5000/a", "tag": "1"}, ME, "reg.example:5000/a:1"),
        ("-a other/a", {"fromImage": "docker.io/other/a"}, HUB, "docker.io/other/a"),
        (f"x.y/a:1@{DIGEST}", {"fromImage": "x.y/a", "tag": DIGEST}, {}, f"x.y/a:1@{DIGEST}"),
        (
            "--platform Linux/ARM64 x.y/a:1",
            {"fromImage": "x.y/a", "tag": "1", "platform": "linux/arm64"},
            {},
            "x.y/a:1",
        ),
    ],
)
def test_pulls(engine: Engine, run: Run, words: str, query: dict[str, str], auth: dict[str, str], printed: str) -> None:
    default = "Using default tag: latest\n" if words == "busybox" else ""
    assert run("pull", *words.split()) == (0, f"{default}done\n{printed}\n", "")
    assert [(request.query, request.auth) for request in engine.requests] == [(query, auth)]
    assert run("pull", "-q", *words.split()) == (0, f"{printed}\n", "")


def test_the_platform_may_come_from_the_environment(engine: Engine, run: Run) -> None:
    assert run("pull", "-q", "x.y/a:1", DOCKER_DEFAULT_PLATFORM="linux/arm64")[0] == 0
    assert engine.requests[0].query["platform"] == "linux/arm64"
    assert '(default "linux/arm64")' in " ".join(
        run("pull", "--help", DOCKER_DEFAULT_PLATFORM="linux/arm64")[1].split()
    )


def test_a_missing_image_is_pulled_for_a_container_with_credentials(engine: Engine, run: Run) -> None:
    engine.answers["POST", "/containers/create"] = 404, {"message": "No such image: reg.example:5000/a:latest"}
    status, out, told = run("create", "--platform", "linux/ARM64", "reg.example:5000/a")
    assert (status, out) == (1, "")
    assert told == (
        "Unable to find image 'reg.example:5000/a:latest' locally\ndone\n"
        "Error response from daemon: No such image: reg.example:5000/a:latest\n"
    )
    assert [(request.path, request.query.get("platform"), request.auth) for request in engine.requests] == [
        ("/containers/create", "linux/arm64", None),
        ("/images/create", "linux/arm64", ME),
        ("/containers/create", "linux/arm64", None),
    ]


def test_pushes(engine: Engine, run: Run) -> None:
    path = "/images/reg.example:5000/a/push"
    instead = {
        "manifestPushedInsteadOfIndex": True,
        "originalIndex": {"digest": "1"},
        "selectedManifest": {"digest": "2"},
    }
    engine.answers["POST", path] = (
        200,
        stream([{"status": "Pushed", "id": "x"}, {"aux": instead}, {"aux": {"Tag": "1"}}]),
    )
    note = (
        "\n Info -> Not all multiplatform-content is present and only the available single-platform image was pushed\n"
        "         \x1b[31m1\x1b[0m -> \x1b[32m2\x1b[0m\n"
    )
    assert run("push", "reg.example:5000/a") == (0, f"Using default tag: latest\nx: Pushed\n{note}", "")
    assert run("push", "-q", "reg.example:5000/a:1") == (0, f"reg.example:5000/a:1\n{note}", "")
    assert run("push", "-a", "reg.example:5000/a") == (0, f"x: Pushed\n{note}", "")
    status, out, _ = run("image", "push", "--platform", "linux/arm64/v8", "reg.example:5000/a:1")
    assert status == 0
    assert out.startswith("\n Info -> Using --platform pushes only the specified platform manifest")
    assert [(request.path, request.query, request.auth) for request in engine.requests] == [
        (path, {"tag": "latest"}, ME),
        (path, {"tag": "1"}, ME),
        (path, {}, ME),
        (path, {"tag": "1", "platform": '{"architecture":"arm64","os":"linux","variant":"v8"}'}, ME),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pull -a x:1", "tag can't be used with --all-tags/-a"),
        ("push -a x:1", "tag can't be used with --all-tags/-a"),
        (f"push x@{DIGEST}", "cannot push a digest reference"),
        ("push X", "invalid reference format: repository name (library/X) must be lowercase"),
        ("push --platform a*b x", 'Invalid platform a*b"a*b": wildcards not yet supported: invalid argument'),
        (
            "save --platform a/b/c/d x",
            'invalid platform: "a/b/c/d": cannot parse platform specifier: invalid argument',
        ),
        (
            "pull --disable-content-trust=false x",
            "Cove has no content trust (Notary), and --disable-content-trust=false asks for it",
        ),
        (
            "push --disable-content-trust=false x",
            "Cove has no content trust (Notary), and --disable-content-trust=false asks for it",
        ),
    ],
)
def test_what_no_engine_is_asked_for(engine: Engine, run: Run, words: str, message: str) -> None:
    status, out, told = run(*words.split())
    assert (status, out) == (1, "")
    assert told.startswith(message)
    assert engine.requests == []


@pytest.mark.parametrize("words", ["pull x", "push x", "create x", "run x"])
def test_trust_that_the_environment_asks_for_is_refused_unless_given_up(engine: Engine, run: Run, words: str) -> None:
    told = run(*words.split(), DOCKER_CONTENT_TRUST="1")[2]
    assert "Cove has no content trust (Notary), and DOCKER_CONTENT_TRUST asks for it\n" in told
    assert engine.requests == []
    verb, image = words.split()
    run(verb, "--disable-content-trust", image, DOCKER_CONTENT_TRUST="1")
    run(verb, image, DOCKER_CONTENT_TRUST="0")
    assert len(engine.requests) >= 2


def test_a_registry_that_refuses_is_asked_again_with_what_is_typed(engine: Engine, environment: dict[str, str]) -> None:
    engine.answers["POST", "/images/create"] = 401, {"message": "unauthorized: who are you"}
    status, printed = on_terminal([*COVE, "pull", "reg.example:5000/a:1"], 24, 80, environment, ["", "typed"])
    assert status == 1
    assert printed == (
        "\nLogin prior to pull:\nUsername (me): \nPassword: \nError response from daemon: unauthorized: who are you\n"
    )
    assert [request.auth for request in engine.requests] == [ME, {**ME, "password": "typed"}]


def test_search(engine: Engine, run: Run) -> None:
    found = [
        {"name": "a", "description": "two\nlines " + "x" * 50, "star_count": 12, "is_official": True},
        {"name": "me/b", "description": "", "star_count": 0, "is_official": False},
    ]
    engine.answers["GET", "/images/search"] = 200, found
    cut = "two lines " + "x" * 34 + "…"
    assert run("search", "--limit", "5", "-f", "stars=3", "-f", "is-official=true", "a") == (
        0,
        f"NAME      DESCRIPTION{' ' * 37}STARS     OFFICIAL\na         {cut}   12        [OK]\nme/b      {' ' * 48}0         \n",
        "",
    )
    assert engine.requests[0].query == {
        "term": "a",
        "limit": "5",
        "filters": '{"is-official":{"true":true},"stars":{"3":true}}',
    }
    assert engine.requests[0].auth == HUB
    assert run("search", "--format", "{{.Name}} {{.IsOfficial}}", "reg.example:5000/a")[1] == "a [OK]\nme/b \n"
    assert engine.requests[1].auth == ME
    first = json.loads(run("search", "--format", "json", "--no-trunc", "a")[1].splitlines()[0])
    assert first == {
        "Name": "a",
        "Description": "two lines " + "x" * 50,
        "StarCount": "12",
        "IsOfficial": "true",
    }


@pytest.mark.parametrize(
    ("specifier", "platform"),
    [
        ("linux", {"os": "linux", "architecture": platforms._own_architecture()}),
        ("linux/amd64", {"os": "linux", "architecture": "amd64"}),
        ("Linux/X86_64/v1", {"os": "linux", "architecture": "amd64"}),
        ("linux/aarch64", {"os": "linux", "architecture": "arm64"}),
        ("linux/arm64/v8", {"os": "linux", "architecture": "arm64", "variant": "v8"}),
        ("linux/arm64/9", {"os": "linux", "architecture": "arm64", "variant": "v9"}),
        ("linux/arm", {"os": "linux", "architecture": "arm"}),
        ("linux/arm/v7", {"os": "linux", "architecture": "arm", "variant": "v7"}),
        ("linux/armel", {"os": "linux", "architecture": "arm", "variant": "v6"}),
        ("linux/i386/x", {"os": "linux", "architecture": "386"}),
        ("macos/arm64", {"os": "darwin", "architecture": "arm64"}),
        ("windows(10.0.1)/amd64", {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}),
    ],
)
def test_platforms(specifier: str, platform: dict[str, str]) -> None:
    assert platforms.parse(specifier) == platform


@pytest.mark.parametrize("specifier", ["", "foo", "a*b", "linux/", "linux//x", "a/b/c/d", "a b", "linux/a b", "x("])
def test_what_is_no_platform(specifier: str) -> None:
    with pytest.raises(ValueError, match="invalid argument"):
        platforms.parse(specifier)


def test_images_of_a_platform(engine: Engine, run: Run) -> None:
    engine.answers["GET", "/images/get"] = 200, b"archive"
    engine.answers["POST", "/images/load"] = 200, stream([{"stream": "Loaded image: x\n"}])
    engine.answers["DELETE", "/images/x"] = 200, [{"Untagged": "x:latest"}]
    engine.answers["GET", "/images/x/history"] = 200, []
    engine.answers["GET", "/images/x/json"] = 200, {"Id": DIGEST}
    arm = '{"architecture":"arm64","os":"linux"}'
    assert run("save", "--platform", "linux/arm64", "x", "y") == (0, "archive", "")
    assert run("load", "--platform", "linux/arm64", stdin="archive") == (0, "Loaded image: x\n", "")
    assert run("rmi", "--platform", "linux/arm64", "x") == (0, "Untagged: x:latest\n", "")
    assert run("history", "-q", "--platform", "linux/arm64", "x") == (0, "", "")
    assert run("image", "inspect", "--platform", "linux/arm64", "-f", "{{.Id}}", "x") == (0, f"{DIGEST}\n", "")
    assert [(request.query.get("platform"), request.query.get("platforms")) for request in engine.requests] == [
        (arm, None),
        (arm, None),
        (None, arm),
        (arm, None),
        (arm, None),
    ]
    assert engine.requests[1].body == b"archive"
    assert engine.requests[1].query["quiet"] == "1"


def test_history(engine: Engine, run: Run) -> None:
    engine.answers["GET", "/images/x/history"] = (
        200,
        [
            {"Id": DIGEST, "Created": 1700000000, "CreatedBy": "a\tb" + "c" * 60, "Size": 1234567, "Comment": "why"},
            {"Id": "<missing>", "Created": 0, "CreatedBy": "", "Size": 0, "Comment": ""},
        ],
    )
    assert run("history", "-q", "x")[1] == "aaaaaaaaaaaa\n<missing>\n"
    form = "{{.ID}}|{{.CreatedAt}}|{{.CreatedSince}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}"
    one, two = run("history", "--no-trunc", "-H=false", "--format", form, "x", TZ="UTC")[1].splitlines()
    assert one == f"{DIGEST}|2023-11-14T22:13:20Z|2023-11-14T22:13:20Z|a b{'c' * 60}|1234567|why"
    assert two == "<missing>|1970-01-01T00:00:00Z|1970-01-01T00:00:00Z||0|"
    assert run("history", "--format", "{{.CreatedSince}}", "x")[1].splitlines()[1] == "N/A"
    assert run("history", "--format", "{{.CreatedAt}}", "x", TZ="Asia/Kolkata")[1].startswith(
        "2023-11-15T03:43:20+05:30"
    )


DISK: dict[str, Any] = {
    "LayersSize": 3000,
    "Images": [
        {"Id": DIGEST, "Created": 0, "RepoTags": ["b:1", "c:2"], "Size": 2000, "SharedSize": 500, "Containers": 1},
        {"Id": DIGEST, "Created": 0, "RepoTags": [], "Size": 1000, "SharedSize": 0, "Containers": 0},
    ],
    "Containers": [
        {
            "Id": "c" * 64,
            "Names": ["/one"],
            "Image": "b:1",
            "Command": "sh",
            "Created": 0,
            "State": "exited",
            "Status": "Exited",
            "SizeRw": 70,
            "SizeRootFs": 900,
            "Mounts": [{"Driver": "local"}],
        }
    ],
    "Volumes": [
        {
            "Name": "v",
            "Driver": "local",
            "Scope": "local",
            "Mountpoint": "/m",
            "UsageData": {"Size": 42, "RefCount": 1},
        }
    ],
    "BuildCache": [
        {
            "ID": "z" * 20,
            "Type": "regular",
            "Size": 9,
            "InUse": True,
            "UsageCount": 3,
            "LastUsedAt": "2023-01-01T00:00:00Z",
        },
        {"ID": "never", "Type": "source.local", "Size": 5, "Shared": True, "LastUsedAt": None},
    ],
}


def test_disk_usage_in_detail(engine: Engine, run: Run) -> None:
    engine.answers["GET", "/system/df"] = 200, DISK
    status, out, told = run("system", "df", "-v")
    assert (status, told) == (0, "")
    lines = [line.split() for line in out.splitlines() if line]
    assert [line for line in lines if line[0] in ("b", "<none>", "cccccccccccc", "v", "never", "zzzzzzzzzzzz*")] == [
        ["b", "1", "aaaaaaaaaaaa", "N/A", "2kB", "500B", "1.5kB", "1"],
        ["<none>", "<none>", "aaaaaaaaaaaa", "N/A", "1kB", "0B", "1kB", "0"],
        ["cccccccccccc", "b:1", '"sh"', "1", "70B", "N/A", "Exited", "one"],
        ["v", "1", "42B"],
        ["never", "source.local", "5B", "N/A", "0", "true"],
        ["zzzzzzzzzzzz*", "regular", "9B", "N/A", *lines[-1][4:6], "ago", "3", "false"],
    ]
    assert "Build cache usage: 9B" in out
    data = json.loads(run("system", "df", "-v", "--format", "json")[1])
    assert list(data) == ["Images", "Containers", "Volumes", "BuildCache"]
    assert data["Images"][0]["UniqueSize"] == "1.5kB"
    assert run("system", "df", "-v", "--format", "{{range .Volumes}}{{.Name}}={{.Links}}{{end}}")[1] == "v=1"
    assert run("system", "df", "-v", "--format", "{{.Nosuch}}") == (
        1,
        "",
        'template: :1:2: executing "" at <.Nosuch>: can\'t evaluate field Nosuch in type *formatter.diskUsageContext\n',
    )


def test_a_prune_that_is_refused_does_nothing_quietly(engine: Engine, run: Run) -> None:
    for kind in ("container", "image", "network", "volume", "system"):
        status, out, told = run(kind, "prune", stdin="n\n")
        assert (status, told) == (0, "")
        assert out.endswith("Are you sure you want to continue? [y/N] ")
    assert engine.requests == []


def test_prunes_take_the_filters_of_the_configuration(engine: Engine, run: Run, environment: dict[str, str]) -> None:
    Path(environment["DOCKER_CONFIG"], "config.json").write_text(
        json.dumps({"pruneFilters": ["label=a", "label!=b", "until=3h", "nonsense", 7]})
    )
    engine.answers["POST", "/images/prune"] = 200, {"ImagesDeleted": [{"Untagged": "x:1"}], "SpaceReclaimed": 5}
    assert run("image", "prune", "-f", "--filter", "label=b") == (
        0,
        "Deleted Images:\nuntagged: x:1\n\nTotal reclaimed space: 5B\n",
        "",
    )
    assert json.loads(engine.requests[0].query["filters"]) == {
        "label": {"a": True, "b": True},
        "until": {"3h": True},
        "dangling": {"true": True},
    }
    out = run("system", "prune", "--filter", "label=a10", "--filter", "label=a9", stdin="n\n")[1]
    assert "will be filtered with:\n  - label!=b\n  - label=a\n  - label=a9\n  - label=a10\n  - until=3h\n\nAre" in out


PLAIN = 'Get "https://reg.example:5000/v2/": http: server gave HTTP response to HTTPS client'
NO_HUB = 'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host'
ALLOW = "cove machine config set insecure_registries reg.example:5000, then: cove machine restart\n"
INSTEAD = "cove image bootstrap debian:13 makes an image\n"


@pytest.mark.parametrize(
    ("image", "said", "advice"), [("reg.example:5000/a:1", PLAIN, ALLOW), ("a:1", NO_HUB, INSTEAD)]
)
def test_what_to_do_about_a_registry_follows_the_engines_words(
    engine: Engine, run: Run, image: str, said: str, advice: str
) -> None:
    engine.answers["POST", "/images/create"] = 500, {"message": said}
    status, out, told = run("pull", image)
    assert (status, out) == (1, "")
    assert told.startswith(f"Error response from daemon: {said}\n      ")
    assert told.endswith(advice)
    engine.answers["POST", "/containers/create"] = 404, {"message": f"No such image: {image}"}
    status, out, told = run("run", "-d", image)
    assert (status, out) == (125, "")
    assert f"cove: Error response from daemon: {said}\n      " in told
    assert f"{advice}\nRun 'cove run --help'" in told


def test_a_push_that_fails_on_its_way_is_told_what_to_do(engine: Engine, run: Run) -> None:
    failure = {"errorDetail": {"message": PLAIN}, "error": PLAIN}
    engine.answers["POST", "/images/reg.example:5000/a/push"] = 200, stream([failure])
    status, _, told = run("push", "reg.example:5000/a:1")
    assert status == 1
    assert told.startswith(f"{PLAIN}\n      reg.example:5000 speaks plain HTTP")
    assert told.endswith(ALLOW)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("reg.example:5000/a:1", NO_HUB),
        ("a:1", "toomanyrequests"),
        ("reg.example:5000/a:1", "dial tcp 1.2.3.4:5000: refused"),
    ],
)
def test_nothing_is_advised_where_nothing_is_known(engine: Engine, run: Run, image: str, said: str) -> None:
    engine.answers["POST", "/images/create"] = 500, {"message": said}
    assert run("pull", image) == (1, "", f"Error response from daemon: {said}\n")


def test_the_advice_is_for_the_machine_that_was_asked() -> None:
    assert "cove -m big machine config set insecure_registries r:5" in hint(PLAIN, "r:5", "big")
