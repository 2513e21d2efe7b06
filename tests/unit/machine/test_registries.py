"""What a machine's engine is told of registries, from the host's files to the guest's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cove.errors import SettingsError
from cove.machine import registries, settings
from coved.boot import seed
from coved.boot.console import BootError
from coved.registry.settings import Settings

TEXT = """
insecure_registries = ["reg.local:5000", "10.0.0.0/8"]
registry_mirrors = ["https://mirror.local"]
"""


def test_it_arrives(tmp_path: Path) -> None:
    folder = tmp_path / "docker" / "reg.local:5000"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (folder / "notes.txt").write_text("not told")
    told = registries.told(settings.parse(TEXT, "x"), folder=tmp_path / "docker")
    document, files = seed.registries(json.loads(json.dumps(told)))
    assert files == {"reg.local:5000/ca.crt": "-----BEGIN CERTIFICATE-----\n"}
    (tmp_path / "registries.json").write_text(document)
    found = Settings.of_file(tmp_path / "registries.json")
    assert found.insecure_registries == ("reg.local:5000", "10.0.0.0/8")
    assert found.mirrors == ("https://mirror.local/",)
    assert found.certificates == (tmp_path / "certs.d",)


def test_nothing_is_told_of_nothing(tmp_path: Path) -> None:
    told = registries.told(settings.Settings(), folder=tmp_path)
    assert told == {"insecure": [], "mirrors": [], "certificates": {}}
    assert seed.registries({}) == ('{"insecure": [], "mirrors": []}', {})
    assert Settings.of_file(tmp_path / "none").insecure_registries == ()


def test_too_many_certificates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "ca.crt").write_text("x" * (300 << 10))
    with pytest.raises(SettingsError, match="KiB of certificates"):
        registries.certificates(tmp_path)


@pytest.mark.parametrize("host", ["..", "a/b", "", "."])
def test_certificates_stay_in_their_folder(host: str) -> None:
    with pytest.raises(BootError, match="no good name"):
        seed.registries({"certificates": {host: {"ca.crt": "x"}}})


@pytest.mark.parametrize(
    "line",
    [
        'insecure_registries = "reg"', 'insecure_registries = ["http://reg"]', 'insecure_registries = ["a/b"]',
        'insecure_registries = ["reg:port"]', 'registry_mirrors = ["mirror.local"]', 'registry_mirrors = ["http://u:p@x"]',
        "registry_mirrors = [1]",
    ],
)  # fmt: skip
def test_mistakes_are_said(line: str) -> None:
    with pytest.raises(SettingsError, match=line.partition(" ")[0]):
        settings.parse(line, "x")


def test_lists_are_set_with_commas() -> None:
    changed = settings.with_value(settings.render(settings.Settings()), "insecure_registries", "a:5000, b:5000", "x")
    assert settings.parse(changed, "x").insecure_registries == ("a:5000", "b:5000")


def test_a_broken_file_is_no_reason_not_to_start(tmp_path: Path) -> None:
    for text in ("", "[]", '{"insecure": ["://"], "mirrors": []}'):
        (tmp_path / "registries.json").write_text(text)
        assert Settings.of_file(tmp_path / "registries.json").insecure_registries == ()
