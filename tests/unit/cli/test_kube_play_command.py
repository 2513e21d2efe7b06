"""`cove kube play`: names of plays, and command lines that cannot be."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.cli import clicked, kube_play, main
from cove.cli.command import Context
from cove.cli.errors import CliError
from cove.cli.kube_engine import ClientEngine
from cove.errors import CoveError
from cove.kube.play.problems import ManifestError
from cove.local import pip
from told_engine import Engine, engine_at

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: a}]}\n"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with engine_at(tmp_path / "docker.sock") as made:
        for path, answer in (("/containers/json", []), ("/networks", []), ("/volumes", {"Volumes": []})):
            made.answers["GET", path] = 200, answer
        yield made


def play(engine: Engine, *words: str) -> int:
    context = Context("cove kube play", host=engine.url)
    return clicked.run(main.own("kube"), "cove kube", ["play", *words], context)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("app.yaml", "app"),
        ("/x/My App.k8s.yml", "my-app-k8s"),
        ("-", "stdin"),
        ("/x/deploy.d/", "deploy-d"),
        ("a" * 60 + ".yaml", "a" * 40),
        ("._x_", "x"),
    ],
)
def test_a_play_has_its_files_name(file: str, name: str) -> None:
    assert kube_play._name(file, "") == name


@pytest.mark.parametrize(
    ("file", "name"), [("___.yaml", ""), ("a.yaml", "A"), ("a.yaml", "-a"), ("a.yaml", "a" * 41), ("a.yaml", "a/b")]
)
def test_names_that_cannot_be(file: str, name: str) -> None:
    with pytest.raises(CliError, match="name"):
        kube_play._name(file, name)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--volumes", "x.yaml"], "--volumes goes with --down"),
        (["--down", "--replace", "x.yaml"], "--down goes without --replace"),
        (["--down", "-p", "1:1", "x.yaml"], "--down goes without --publish"),
        (["--configmap", "-", "-"], "only one file can be STDIN"),
        (["nothing.yaml"], "open nothing.yaml: no such file or directory"),
        ([], "requires 1 argument"),
        (["--start=maybe", "x.yaml"], "maybe"),
    ],
)
def test_command_lines_that_cannot_be(
    engine: Engine, words: list[str], problem: str, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match=problem):
        play(engine, *words)
    assert engine.requests == []


def test_a_manifest_that_cannot_be_asks_nothing_of_the_engine(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(POD.replace("spec: {", "spec: {gadget: 1, "))
    with pytest.raises(ManifestError, match=r"app\.yaml:4: Pod web: spec\.gadget is not supported"):
        play(engine, str(file))
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CliError, match="is not UTF-8"):
        play(engine, str(file))
    file.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    with pytest.raises(CliError, match="there is nothing to start"):
        play(engine, str(file))
    assert engine.requests == []


def test_problems_are_set_in_below_what_they_are_about(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/kube-play.md shows them."""
    file = tmp_path / "app.yaml"
    file.write_text(POD.replace("spec: {", "gadget: 1\nspec: {runtimeClassName: x, "))
    with pytest.raises(ManifestError) as raised:
        play(engine, str(file))
    assert main.report(raised.value) == 1
    assert capsys.readouterr().err == (
        "cove: nothing was started:\n"
        f"      {file}:4: Pod web: gadget is not supported\n"
        f"      {file}:5: Pod web: spec.runtimeClassName is not supported\n"
        "      leave it out, or play the rest without it: --ignore-unsupported\n"
    )


def test_the_files_of_a_folder_are_one_play(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    folder.mkdir()
    with pytest.raises(CliError, match="there is no file of"):
        play(engine, str(folder))
    (folder / "a.yaml").write_text(POD.replace("image: a", "image: a, envFrom: [{configMapRef: {name: c}}], gadget: 1"))
    (folder / "b.json").write_text('{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "extra": 1}')
    (folder / "notes.txt").write_text("no manifest: [")
    with pytest.raises(ManifestError) as raised:
        play(engine, str(folder))
    first, *problems = raised.value.message.splitlines()
    assert first == "nothing was started:"
    assert [each.rpartition(": ")[2] for each in problems] == [
        "spec.containers[0].gadget is not supported", "extra is not supported",
    ]  # fmt: skip


def test_manifests_come_from_stdin(engine: Engine, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(POD.replace("image: a", "image: 5").encode())))
    with pytest.raises(ManifestError, match="STDIN:4: Pod web, container a: "):
        play(engine, "-")


def test_nothing_is_removed_of_a_play_that_is_not_there(
    engine: Engine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(POD)
    assert play(engine, "--down", str(file)) == 0
    assert capsys.readouterr().out == "there is nothing of the play app\n"
    assert play(engine, "--down", "--json", str(file)) == 0
    assert json.loads(capsys.readouterr().out) == {
        "play": "app",
        "removed": {"containers": [], "networks": [], "volumes": []},
    }
    for words in (["-"], ["--name", "app", "nothing.yaml"]):  # which no file names
        assert play(engine, "--down", *words) == 0
    assert {each.method for each in engine.requests} == {"GET"}


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_file_that_is_not_there_names_a_play_that_is(engine: Engine, tmp_path: Path, more: list[str]) -> None:
    file = tmp_path / "ap.yaml"
    with pytest.raises(CliError, match=r"there is no file .*ap\.yaml, and nothing of a play ap$") as raised:
        play(engine, "--down", *more, str(file))
    assert raised.value.status == 1
    engine.answers["GET", "/networks"] = 200, [{"Id": "n1", "Name": "kube-ap", "Labels": {}}]
    engine.answers["DELETE", "/networks/n1"] = 204, b""
    assert play(engine, "--down", *more, str(file)) == 0


def test_without_its_package_it_says_how_to_get_it(engine: Engine, monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(POD)
    monkeypatch.setattr("cove.kube.installed.find_spec", lambda name: None)
    monkeypatch.setattr(pip, "command", lambda package: f"pip install {package}")
    with pytest.raises(CoveError) as raised:
        play(engine, str(tmp_path / "app.yaml"))
    assert "pip install PyYAML" in raised.value.hint


def test_a_command_that_does_not_end_in_its_time_has_failed(engine: Engine) -> None:
    engine.answers["POST", "/containers/c/exec"] = 201, {"Id": "e1"}
    engine.answers["POST", "/exec/e1/start"] = 200, b""  # and the connection stays open
    client = Context("cove kube play", host=engine.url).engine
    assert ClientEngine(client).execute("c", ["sleep", "60"], 0.1) == 124


@pytest.mark.skipif(sys.platform == "win32", reason="such names of files are none there")
def test_files_of_a_folder_say_nothing_to_the_terminal(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cloned"
    folder.mkdir()
    (folder / "a\x1b[2J\nplayed.yaml").write_text("kind: [")
    with pytest.raises(ManifestError) as caught:
        play(engine, str(folder))
    assert "\x1b" not in caught.value.message and "\nplayed" not in caught.value.message
    (folder / "a\x1b[2J\nplayed.yaml").write_bytes(b"\xff")
    with pytest.raises(CliError, match=r"a\?\[2J\?played.yaml is not UTF-8"):
        play(engine, str(folder))
    (folder / "a\x1b[2J\nplayed.yaml").unlink()
    (folder / "b\x1b[2J.yaml").write_text("apiVersion: v1\nkind: Gadget\nmetadata: {name: x}\n")
    with pytest.raises(CliError, match="nothing to start"):
        play(engine, "--ignore-unsupported", str(folder))
    assert f"left out: {folder}/b?[2J.yaml:1: " in capsys.readouterr().err
