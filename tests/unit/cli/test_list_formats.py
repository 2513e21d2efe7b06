"""What `--format` makes of lists. Every expected text is what docker 28.2 printed of the same answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from told_engine import COVE, Engine, engine_at

Run = Callable[..., tuple[int, str, str]]

CONTAINER = {
    "Id": "394a89ec5008ea08375e288e3ad7c90fe5a39db9f2c9bd0b1c2d608c0dfd2525",
    "Names": ["/c1"],
    "Image": "busybox",
    "Command": "sleep 1000 && true",
    "Created": 0,
    "State": "running",
    "Status": "Up 4 seconds",
    "Labels": {"k": "<v>&"},
    "Mounts": [{"Type": "volume", "Name": "v1", "Driver": "local"}],
    "NetworkSettings": {"Networks": {"bridge": {}}},
    "SizeRw": 0,
    "SizeRootFs": 1980000,
}
NETWORK = {
    "Id": "6f47925cc2e090eb510861c72d1deab0599cdb9874efed77296424579b6c69b6",
    "Name": "nn",
    "Created": "2026-11-26T13:13:32.213378156Z",
    "Driver": "bridge",
    "Scope": "local",
    "EnableIPv4": True,
    "Labels": {"x": "y"},
}
VOLUME = {"Name": "v1", "Driver": "local", "Scope": "local", "Mountpoint": "/v", "Labels": {"a": "b<c&d>"}}
IMAGE = {"Id": "sha256:0ac408d6063fed5f13771e96977a69fd7e0eaf318252c2ef6f0b7843bba235c2", "Created": 0, "Size": 1983000,
         "RepoTags": ["busybox:latest"], "Containers": -1}  # fmt: skip

AS_JSON = {
    "ps": r'{"Command":"\"sleep 1000 \u0026\u0026 true\"","CreatedAt":"1970-01-01 00:00:00 +0000 UTC",'
    r'"ID":"394a89ec5008","Image":"busybox","Labels":"k=\u003cv\u003e\u0026","LocalVolumes":"1","Mounts":"v1",'
    r'"Names":"c1","Networks":"bridge","Platform":null,"Ports":"","RunningFor":"N/A","Size":"0B (virtual 1.98MB)",'
    r'"State":"running","Status":"Up 4 seconds"}',
    "images": r'{"Containers":"N/A","CreatedAt":"1970-01-01 00:00:00 +0000 UTC","CreatedSince":"N/A",'
    r'"Digest":"\u003cnone\u003e","ID":"0ac408d6063f","Repository":"busybox","SharedSize":"N/A","Size":"1.98MB",'
    r'"Tag":"latest","UniqueSize":"N/A","VirtualSize":"1.983MB"}',
    "network ls": r'{"CreatedAt":"2026-11-26 13:13:32.213378156 +0000 UTC","Driver":"bridge","ID":"6f47925cc2e0",'
    r'"IPv4":"true","IPv6":"false","Internal":"false","Labels":"x=y","Name":"nn","Scope":"local"}',
    "volume ls": r'{"Availability":"N/A","Driver":"local","Group":"N/A","Labels":"a=b\u003cc\u0026d\u003e",'
    r'"Links":"N/A","Mountpoint":"/v","Name":"v1","Scope":"local","Size":"N/A","Status":"N/A"}',
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with engine_at(tmp_path / "engine.sock") as made:
        made.answers["GET", "/containers/json"] = 200, [CONTAINER]
        made.answers["GET", "/networks"] = 200, [NETWORK]
        made.answers["GET", "/volumes"] = 200, {"Volumes": [VOLUME]}
        made.answers["GET", "/images/json"] = 200, [IMAGE]
        yield made


@pytest.fixture
def run(engine: Engine, tmp_path: Path) -> Run:
    environment = os.environ | {"COVE_HOST": engine.url, "DOCKER_CONFIG": str(tmp_path), "TZ": "UTC"}

    def cove(*words: str) -> tuple[int, str, str]:
        done = subprocess.run([*COVE, *words], env=environment, capture_output=True, text=True, timeout=20)
        return done.returncode, done.stdout, done.stderr

    return cove


@pytest.mark.parametrize("command", AS_JSON)
def test_every_list_as_json(run: Run, command: str) -> None:
    for form in ("{{json .}}", "json"):
        assert run(*command.split(), "--format", form) == (0, AS_JSON[command] + "\n", "")


def test_disk_usage_as_json_is_of_the_same_lines(engine: Engine, run: Run) -> None:
    engine.answers["GET", "/system/df"] = 200, {"Volumes": [VOLUME | {"UsageData": {"RefCount": 1, "Size": 42}}]}
    volume = AS_JSON["volume ls"].replace('"Links":"N/A"', '"Links":"1"').replace('"Size":"N/A"', '"Size":"42B"')
    whole = f'{{"Images":[],"Containers":[],"Volumes":[{volume}],"BuildCache":[]}}'
    df = ("system", "df", "-v", "--format")
    assert [run(*df, form)[1] for form in ("json", "{{json .}}", "{{json .Volumes}}")] == [whole, whole, f"[{volume}]"]


def test_sizes_are_asked_for_when_they_are_shown(engine: Engine, run: Run) -> None:
    forms = ("{{json .}}", "{{.Size}}", "table {{.ID}}", "json", "")
    for form in forms:
        assert run("ps", "--format", form)[0] == 0
    asked = [request.query.get("size", "0") in ("1", "true") for request in engine.requests]
    assert asked == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("words", "words_of", "wrong"),
    [
        ("ps", "failed to execute template", "{{.Label}}"),
        ("network ls", "template parsing error", "{{.Label}}"),
        ("volume ls", "template parsing error", '{{.Label "a" "b"}}'),
    ],
)
def test_a_label_needs_its_name(run: Run, words: str, words_of: str, wrong: str) -> None:
    given = wrong.count('"') // 2
    assert run(*words.split(), "--format", wrong) == (
        1,
        "",
        f'{words_of}: template: :1:2: executing "" at <.Label>: wrong number of args for Label: want 1 got {given}\n',
    )


def test_ps_looks_into_the_template_before_it_asks(engine: Engine, run: Run) -> None:
    engine.answers["GET", "/containers/json"] = 200, []
    assert run("ps", "--format", "{{.Foo}}")[2].startswith("failed to execute template: ")
    assert engine.requests == []


def test_names_of_columns_are_left_as_they_are(run: Run) -> None:
    form = 'table {{upper .Names}} {{json .Image}}\t{{.Label "com.a_b-k"}}\t{{join (split .State "n") "-"}}'
    assert run("ps", "--format", form)[1] == (
        'NAMES IMAGE    a b k     STATE\nC1 "busybox"             ru--i-g\n'
    )  # fmt: skip
    assert run("network", "ls", "--format", "table {{json .}}")[1] == "\n" + AS_JSON["network ls"] + "\n"


def test_what_else_ids_and_digests_do_to_a_format(run: Run) -> None:
    assert run("ps", "-q", "--format", "{{json .}}") == (
        0,
        "394a89ec5008\n",
        "WARNING: Ignoring custom format, because both --format and --quiet are set.\n",
    )
    digests = run("images", "--digests", "--format", "table {{.ID}}")[1]
    assert digests == "IMAGE ID       DIGEST\n0ac408d6063f   <none>\n"
