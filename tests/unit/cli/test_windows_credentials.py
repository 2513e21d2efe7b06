"""A helper that keeps credentials, as Windows finds and runs programs (docker-credential-wincred is one)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cove.cli import credentials
from cove.cli.docker_config import Credentials, DockerConfig

if sys.platform != "win32":
    pytest.skip("of Windows", allow_module_level=True)

HELPER = """\
import json, os, sys
kept = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kept")
action, request = sys.argv[1], sys.stdin.read()
if action == "store":
    open(kept, "w").write(request)
elif action == "erase":
    os.unlink(kept)
elif os.path.exists(kept):
    print(open(kept).read())
else:
    print("credentials not found in native keychain")
    sys.exit(1)
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs with a space"
    folder.mkdir()
    (folder / "helper.py").write_text(HELPER)
    (folder / "docker-credential-wincred.bat").write_text(f'@"{sys.executable}" "%~dp0helper.py" %*\n')
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text('{"credsStore": "wincred"}')
    return folder


def test_a_helper_keeps_gives_and_forgets(programs: Path, tmp_path: Path) -> None:
    config = DockerConfig.load()
    assert credentials.find(config, "reg.example") == Credentials()
    given = Credentials(username="joe", password="s ecret", server="reg.example")
    credentials.store(config, given)
    assert json.loads((programs / "kept").read_text()) == {
        "ServerURL": "reg.example",
        "Username": "joe",
        "Secret": "s ecret",
    }
    assert "ecret" not in (tmp_path / "config.json").read_text()
    found = credentials.find(DockerConfig.load(), "reg.example")
    assert (found.username, found.password) == ("joe", "s ecret")
    credentials.erase(DockerConfig.load(), "reg.example")
    assert not (programs / "kept").exists()
