"""Credentials: docker's configuration file, helper programs, and what reaches the engine of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.cli import credentials
from cove.cli.docker_config import Credentials, DockerConfig
from cove.cli.errors import CliError
from told_engine import COVE, Engine, Request, engine_at, on_terminal, stream

HELPER = (
    f"#!{sys.executable}\n"
    + """\
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
action, request = sys.argv[1], sys.stdin.read()
with open(folder + "/calls", "a") as calls:
    calls.write(json.dumps([action, request]) + "\\n")
try:
    with open(folder + "/kept") as file:
        kept = json.load(file)
except FileNotFoundError:
    kept = {}
if action == "get" and request in kept:
    print(json.dumps({"ServerURL": request, "Username": kept[request][0], "Secret": kept[request][1]}))
elif action == "store":
    told = json.loads(request)
    kept[told["ServerURL"]] = [told["Username"], told["Secret"]]
elif action == "erase" and request in kept:
    del kept[request]
else:
    print("credentials not found in native keychain")
    sys.exit(1)
with open(folder + "/kept", "w") as file:
    json.dump(kept, file)
"""
)
UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/

"""
INSECURE = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"
HUB = "https://index.docker.io/v1/"
SUCCESS = {"Status": "Login Succeeded", "IdentityToken": ""}


class Place:
    """A configuration of docker's, helpers on the PATH, and an engine."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.engine = engine
        self.config = folder / "docker" / "config.json"
        self.programs = folder / "programs"
        self.programs.mkdir()
        if sys.platform != "win32":
            (self.programs / "cat").symlink_to(shutil.which("cat") or "")
        self.environment = os.environ | {
            "COVE_HOST": engine.url,
            "DOCKER_CONFIG": str(self.config.parent),
            "PATH": str(self.programs),  # and no helper that this machine may have
        }

    def configure(self, **data: Any) -> None:
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(json.dumps(data))

    def read(self) -> Any:
        return json.loads(self.config.read_text())

    def program(self, name: str, text: str) -> None:
        path = self.programs / f"docker-credential-{name}"
        path.write_text(text)
        path.chmod(0o755)
        if sys.platform == "win32":  # which finds programs by the ends of their names
            path.with_name(f"{path.name}.bat").write_text(f'@"{sys.executable}" "%~dp0{path.name}" %*\n')

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.programs / "calls").read_text().splitlines()]

    def kept(self) -> Any:
        return json.loads((self.programs / "kept").read_text())

    def keep(self, **kept: list[str]) -> None:
        (self.programs / "kept").write_text(json.dumps(kept))

    def cove(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        done = subprocess.run(
            [*COVE, *words], env=self.environment, input=stdin, capture_output=True, text=True, timeout=20
        )
        return done.returncode, done.stdout, done.stderr

    def asked(self) -> list[Request]:
        return self.engine.requests


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with engine_at(tmp_path / "engine.sock") as engine:
        engine.answers["POST", "/auth"] = 200, SUCCESS
        engine.answers["POST", "/images/create"] = 200, stream([{"status": "ok"}])
        yield Place(tmp_path, engine)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Any], DockerConfig]:
    def write(data: Any) -> DockerConfig:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        (tmp_path / "config.json").write_text(data if isinstance(data, str) else json.dumps(data))
        return DockerConfig.load()

    return write


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("reg.example", "reg.example"),
        ("reg.example:5000", "reg.example:5000"),
        ("reg.example/v1/", "reg.example"),
        ("https://reg.example/v2/", "reg.example"),
        ("http://user:pass@reg.example:5000?x", "reg.example:5000"),
        ("https://[::1]:5000/v2/", "[::1]:5000"),
        ("https://[::1]/", "::1"),
        ("https://reg.example:/", "reg.example"),
        ("https:///v1/", "https:"),
        (HUB, "index.docker.io"),
        ("", ""),
    ],
)
def test_hosts_of_servers(server: str, host: str) -> None:
    assert credentials.hostname(server) == host


def test_credentials_are_found_under_every_name_they_may_have(load: Callable[[Any], DockerConfig]) -> None:
    config = load(
        {
            "auths": {
                "plain.example": {"auth": "bWU6YTpi", "email": "me@x"},
                "https://old.example:5000/v1/": {"auth": "b2xkOnB3"},
                "token.example": {"identitytoken": "T"},
                "words.example": {"username": "u", "password": "p", "registrytoken": "R"},
            }
        }
    )
    assert credentials.find(config, "plain.example") == Credentials("me", "a:b", "me@x", "plain.example")
    assert credentials.find(config, "old.example:5000").username == "old"
    assert credentials.find(config, "token.example").body() == {"serveraddress": "token.example", "identitytoken": "T"}
    assert credentials.find(config, "words.example").body() == {
        "username": "u",
        "password": "p",
        "serveraddress": "words.example",
        "registrytoken": "R",
    }
    assert credentials.find(config, "other.example") == Credentials()
    assert Credentials().header() == "e30="
    assert credentials.registry_key("docker.io") == credentials.registry_key("index.docker.io") == HUB


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"auths": {"a": {"auth": "!!"}}}', "illegal base64 data at input byte 0"),
        ('{"auths": {"a": {"auth": "YWI="}}}', "Invalid auth configuration file"),
        ('{"auths": {"a": 3}}', "the entry for a is no object"),
        ("[]", "not a JSON object"),
        ("{", "Expecting property name"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_of(
    load: Callable[[Any], DockerConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    assert credentials.find(load(text), "a") == Credentials()
    told = capsys.readouterr().err
    assert told.startswith(f"WARNING: Error parsing config file ({tmp_path / 'config.json'}): {reason}")


def test_a_file_that_is_no_json_is_not_written_over(load: Callable[[Any], DockerConfig], tmp_path: Path) -> None:
    config = load("{ half of a file")
    with pytest.raises(CliError, match="is left as it is"):
        credentials.store(config, Credentials("u", "p", server="a"))
    assert (tmp_path / "config.json").read_text() == "{ half of a file"


def test_the_file_is_whole_private_and_keeps_what_it_had(load: Callable[[Any], DockerConfig], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "file.json"
    (tmp_path / "config.json").symlink_to(real)
    config = load({"unknown": {"b": 1}, "auths": {"z": {"auth": "dTpw", "more": True}, "a": {}}, "psFormat": "{{.ID}}"})
    real.chmod(0o644)
    credentials.store(config, Credentials("ü", "p<", server="z"))
    assert real.read_text() == (
        '{\n\t"auths": {\n\t\t"a": {},\n\t\t"z": {\n\t\t\t"auth": "w7w6cDw=",\n\t\t\t"more": true\n\t\t}\n\t},\n'
        '\t"unknown": {\n\t\t"b": 1\n\t},\n\t"psFormat": "{{.ID}}"\n}'
    )
    assert real.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "config.json").is_symlink()
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["file.json"]
    assert credentials.find(DockerConfig.load(), "z") == Credentials("ü", "p<", server="z")


def test_what_has_not_changed_is_not_written(load: Callable[[Any], DockerConfig], tmp_path: Path) -> None:
    config = load({"auths": {"z": {"auth": "dTpw"}}})
    before = (tmp_path / "config.json").stat()
    credentials.store(config, Credentials("u", "p", server="z"))
    credentials.erase(config, "nobody")
    after = (tmp_path / "config.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_login_and_logout_with_the_file_alone(place: Place) -> None:
    warned = UNENCRYPTED.format(place.config)
    assert place.cove("login", "-u", "me", "-p", "pw", "reg.example:5000") == (
        0,
        "Login Succeeded\n",
        INSECURE + warned,
    )
    assert place.config.stat().st_mode & 0o777 == 0o600
    assert place.config.parent.stat().st_mode & 0o777 == 0o700
    assert place.cove("login", "-u", "hub", "--password-stdin", stdin="s p\n") == (0, "Login Succeeded\n", warned)
    assert place.read() == {"auths": {HUB: {"auth": "aHViOnMgcA=="}, "reg.example:5000": {"auth": "bWU6cHc="}}}
    assert [json.loads(request.body) for request in place.asked()] == [
        {"username": "me", "password": "pw", "serveraddress": "reg.example:5000"},
        {"username": "hub", "password": "s p", "serveraddress": HUB},
    ]
    known = "Authenticating with existing credentials... [Username: me]\n"
    note = "\n Info -> To login with a different account, run 'docker logout' followed by 'docker login'\n\n\n"
    assert place.cove("login", "https://reg.example:5000/v2/") == (0, "Login Succeeded\n", known + note)
    assert place.cove("logout", "https://reg.example:5000/v2/") == (
        0,
        "Removing login credentials for reg.example:5000\n",
        "",
    )
    assert place.cove("logout") == (0, f"Removing login credentials for {HUB}\n", "")
    assert place.read() == {"auths": {}}


def test_a_token_takes_the_place_of_the_password(place: Place) -> None:
    place.engine.answers["POST", "/auth"] = 200, {"Status": "Login Succeeded", "IdentityToken": "TT"}
    assert place.cove("login", "-u", "me", "--password-stdin", "reg.example", stdin="pw") == (
        0,
        "Login Succeeded\n",
        "",
    )
    assert place.read() == {"auths": {"reg.example": {"auth": "bWU6", "identitytoken": "TT"}}}
    place.program("tiny", HELPER)
    place.configure(credsStore="tiny")
    assert place.cove("login", "-u", "me", "--password-stdin", "reg.example", stdin="pw")[0] == 0
    assert place.kept() == {"reg.example": ["<token>", "TT"]}
    assert place.cove("pull", "-q", "reg.example/x")[0] == 0
    assert place.asked()[-1].auth == {"serveraddress": "reg.example", "identitytoken": "TT"}


def test_a_refused_login_keeps_nothing(place: Place) -> None:
    place.engine.answers["POST", "/auth"] = 401, {"message": "unauthorized: incorrect username or password"}
    status, out, told = place.cove("login", "-u", "me", "--password-stdin", "reg.example", stdin="no")
    assert (status, out) == (1, "")
    assert told == "Error response from daemon: unauthorized: incorrect username or password\n"
    assert not place.config.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-p x --password-stdin", "conflicting options: cannot specify both --password and --password-stdin"),
        ("--password-stdin", "the --password-stdin option requires --username to be set"),
        ("--username=", "username is empty"),
        ("--password=", "password is empty"),
        ("-u x", "Error: Cannot perform an interactive login from a non TTY device"),
        ("", "Error: Cannot perform an interactive login from a non TTY device"),
    ],
)
def test_logins_that_cannot_be(place: Place, words: str, message: str) -> None:
    assert place.cove("login", *words.split(), "reg.example") == (1, "", f"{message}\n")
    assert place.asked() == []


def test_what_is_typed_is_a_login(place: Place) -> None:
    command = [*COVE, "login", "reg.example"]
    status, printed = on_terminal(command, 24, 80, place.environment, ["me", "secret"])
    assert status == 0
    assert printed.startswith("Username: me\nPassword: \n")
    assert "secret" not in printed
    assert printed.endswith("Login Succeeded\n")
    assert json.loads(place.asked()[0].body) == {
        "username": "me",
        "password": "secret",
        "serveraddress": "reg.example",
    }
    assert on_terminal([*COVE, "login", "two.example"], 24, 80, place.environment, ["", "x"]) == (
        1,
        "Username: \nError: Non-null Username Required\n",
    )
    assert on_terminal([*COVE, "login", "-u", "me", "two.example"], 24, 80, place.environment, [""]) == (
        1,
        "Password: \nError: Password Required\n",
    )


def test_a_login_to_docker_hub_says_that_the_web_is_not_asked(place: Place) -> None:
    status, printed = on_terminal([*COVE, "login"], 24, 80, place.environment, ["me", "pw"])
    assert status == 0
    assert printed.startswith("Cove has no web-based login to Docker Hub - going on with command line login...\n\n")
    assert json.loads(place.asked()[0].body)["serveraddress"] == HUB


def test_a_helper_keeps_the_secrets(place: Place) -> None:
    place.program("tiny", HELPER)
    place.configure(credsStore="tiny", auths={"reg.example": {"email": "me@x", "auth": "b2xkOm9sZA=="}})
    assert place.cove("login", "-u", "me", "-p", "pw", "reg.example") == (0, "Login Succeeded\n", INSECURE)
    assert place.calls() == [["store", '{"ServerURL":"reg.example","Username":"me","Secret":"pw"}\n']]
    assert place.read() == {"auths": {"reg.example": {}}, "credsStore": "tiny"}
    assert place.cove("pull", "-q", "reg.example/x")[0] == 0
    assert place.asked()[-1].auth == {"username": "me", "password": "pw", "serveraddress": "reg.example"}
    assert place.cove("logout", "reg.example")[0] == 0
    assert place.kept() == {}
    assert place.read() == {"auths": {}, "credsStore": "tiny"}


def test_a_helper_of_one_registry_is_asked_for_it_alone(place: Place) -> None:
    place.program("tiny", HELPER)
    place.program("broken", "#!/bin/sh\ncat >/dev/null\necho to you >&2\necho no way\nexit 3\n")
    place.configure(
        credHelpers={"tiny.example": "tiny", "broken.example": "broken"}, auths={"file.example": {"auth": "ZjpwIw=="}}
    )
    place.keep(**{"tiny.example": ["t", "s"]})
    for registry in ("tiny", "file", "none", "broken"):
        assert place.cove("pull", "-q", f"{registry}.example/x")[0] == 0
    assert [request.auth for request in place.asked()] == [
        {"username": "t", "password": "s", "serveraddress": "tiny.example"},
        {"username": "f", "password": "p#", "serveraddress": "file.example"},
        {},
        {},
    ]
    assert place.calls() == [["get", "tiny.example"]]
    failure = "error getting credentials - err: exit status 3, out: `no way`\n"
    assert place.cove("create", "--pull", "always", "broken.example/x") == (1, "", f"to you\n{failure}")
    # In the file there was nothing to erase under its other names, which is no failure.
    assert place.cove("logout", "broken.example") == (0, "Removing login credentials for broken.example\n", "to you\n")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (None, 'err: exec: "docker-credential-x": executable file not found in $PATH, out: ``'),
        ("#!/bin/sh\ncat >/dev/null; exit 1\n", "err: exit status 1, out: ``"),
        ("#!/bin/sh\nkill -9 $$\n", "err: signal: 9, out: ``"),
        (
            "#!/bin/sh\ncat >/dev/null; echo no credentials username; exit 1\n",
            "err: no credentials username, out: `no credentials username`",
        ),
    ],
)
def test_helpers_that_fail(place: Place, program: str | None, reason: str) -> None:
    if program is not None:
        place.program("x", program)
    place.configure(credsStore="x")
    status, _, told = place.cove("login", "-u", "me", "--password-stdin", "reg.example", stdin="pw")
    assert (status, told) == (1, f"Error saving credentials: error storing credentials - {reason}\n")
    status, out, told = place.cove("logout", "https://reg.example/v1/")
    assert (status, out) == (0, "Removing login credentials for reg.example\n")
    assert told.startswith("WARNING: could not erase credentials:\n")
    assert f"http://reg.example: error erasing credentials - {reason}\n" in told


@pytest.mark.parametrize("answer", ["not json", "[]", '"x"'])
def test_a_helper_that_answers_nonsense(place: Place, answer: str) -> None:
    place.program("x", f"#!/bin/sh\ncat >/dev/null; echo '{answer}'\n")
    place.configure(credsStore="x")
    status, _, told = place.cove("create", "--pull", "always", "reg.example/x")
    assert (status, told) == (
        1,
        "error getting credentials: the credential helper answered something that is not JSON\n",
    )


def test_the_systems_own_helper_is_used_when_nothing_else_is_said(place: Place) -> None:
    place.program("pass", HELPER)
    (place.programs / "pass").write_text("#!/bin/sh\n")
    (place.programs / "pass").chmod(0o755)
    assert place.cove("login", "-u", "me", "--password-stdin", "reg.example", stdin="pw")[0] == 0
    assert place.kept() == {"reg.example": ["me", "pw"]}
    assert place.read() == {"auths": {"reg.example": {}}, "credsStore": "pass"}


def test_logout_forgets_what_dockers_web_login_has_left(place: Place) -> None:
    place.program("tiny", HELPER)
    place.configure(credsStore="tiny")
    place.keep(
        **{
            HUB: ["me", "pw"],
            f"{HUB}access-token": ["me", "A"],
            f"{HUB}refresh-token": ["me", "R..client"],
            "other": ["o", "o"],
        }
    )
    status, out, told = place.cove("logout")
    assert (status, out) == (0, f"Removing login credentials for {HUB}\n")
    assert "not revoked at Docker Hub" in told
    assert place.kept() == {"other": ["o", "o"]}


def test_containers_have_the_files_proxies(load: Callable[[Any], DockerConfig]) -> None:
    file = load({"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "a,b", "httpsProxy": 1, "other": "x"}}})
    assert file.proxies(["no_proxy", "X=1", "HTTP_PROXY="]) == ["http_proxy=http://p:1", "NO_PROXY=a,b"]
    assert load({"proxies": ["default"]}).proxies() == []
