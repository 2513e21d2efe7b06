"""No secret leaves the computer in a bundle, wherever it stands."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import quote

import pytest
from cove.cli import main as cli
from cove.machine import crashes, engine, lifecycle, policy
from cove.machine.paths import MachinePaths
from cove.support import bundle, diagnose, findings, machine, redact
from cove.support.findings import PROBLEM, Finding
from cove.support.redact import GONE, Redactor
from hypothesis import given, settings
from hypothesis import strategies as st

PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\nQyNTUxOQAAACD5\n-----END OPENSSH PRIVATE KEY-----\n"


class Secrets:
    """Each is another word, so that the one that got through is known."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def new(self, form: str = "{}") -> str:
        self.made.append(form.format(f"Zq{len(self.made):03d}xHuNt3r{os.urandom(4).hex()}"))
        return self.made[-1]

    def found_in(self, text: str) -> list[str]:
        forms = {secret: {secret, quote(secret, safe="")} for secret in self.made}
        for secret in self.made:
            data = secret.encode()
            for before in range(3):
                encoded = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
                forms[secret].add(encoded[4 if before else 0 : len(encoded) - 2])
        return [secret for secret, each in forms.items() if any(one in text for one in each)]


def shapes(secrets: Secrets) -> str:
    """Lines of a log with a secret each, as programs write them."""
    new = secrets.new
    basic = base64.b64encode(f"joe:{new()}".encode()).decode()
    lines = [
        f"GET https://joe:{new()}@reg.local/v2/", f"proxy http://{new()}@proxy:3128 answers", f"password={new()}",
        f'{{"Password": "{new()}", "x": 1}}', f"db_password: {new()}", f"token '{new()}'".replace("token ", "token="),
        f"Authorization: Bearer {new()}", f"authorization: Basic {basic}", f"he sent Bearer {new()} there", f"X-Registry-Auth: {new()}",
        f'"Authorization":"Bearer {new()}"', f"GET /x?token={new()}&a=1", f"https://s3/x?X-Amz-Signature={new()}&y=2",
        f"docker run -e DB_PASS={new()} --env HARMLESS={new()} busybox", f'"Env": ["A={new()}", "PATH={new()}"]',
        f'"Env": ["A=x]y", "B={new()}", "C=\\"]{new()}"]', f"docker run -eDB_PASS={new()} busybox",
        f"docker run -e 'A=x {new()}' --env \"B=\\\"x {new()}\" busybox", f"-e C='x {new()}'",
        f"cove login -u joe -p x --password {new()}", f"curl -u joe:{new()} https://x", f"identitytoken: {new()}",
        f"using {new('ghp_{}')}", f"using {new('glpat-{}')}", f"using {new('dckr_pat_{}')}",
        f"jwt {new('eyJhbGciOiJIUzI1NiJ9.eyJ{}.sig')}", f"API_KEY={new()} make", f"secret-access-key = \"{new()} {new()}\"",
        f"export AWS_SECRET_ACCESS_KEY='{new()}'", f"Cookie: session={new()}; other={new()}", f"client_secret%3D{new()}",
        f"private_key: {new()}", f"passphrase={new()}",
    ]  # fmt: skip
    key = new("MIIEvQ{}")
    lines.append(f"-----BEGIN RSA PRIVATE KEY-----\n{key}\n{new()}\n-----END RSA PRIVATE KEY-----")
    secrets.made.append(f"AKIA{os.urandom(8).hex().upper()}")
    lines.append(f"of the account {secrets.made[-1]}")
    lines.append(f'"Env": ["A=]{new()}')  # cut off
    lines.append(f"]\nharmless again\n-----BEGIN PRIVATE KEY-----\n{new()}")  # and the log ends
    return "\n".join(lines) + "\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith(("COVE_", "DOCKER_")) or "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    home = Path(tempfile.mkdtemp(prefix="margaret", dir="/tmp"))  # short, for the paths of sockets
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("COVE_HOME", str(home / "c"))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / ".docker"))
    monkeypatch.setattr(policy, "place", lambda: tmp_path / "etc/policy.toml")
    monkeypatch.setattr(policy, "OWNER", getattr(os, "getuid", int)())
    yield home
    shutil.rmtree(home)


@pytest.fixture
def planted(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Secrets, MachinePaths]:
    """A machine that seems to run, with a secret in whatever a bundle is made from."""
    secrets = Secrets()
    new = secrets.new
    paths = lifecycle.init("default")
    with paths.settings.open("a") as file:
        file.write(f"# password = {new()}\n# proxy http://joe:{new()}@proxy\n# api_key: '{new()}'\n")
    lifecycle.init("other")
    for path in (paths.console_log, paths.agent_log, paths.qemu_log, paths.agent_log.with_name("agent.log.1")):
        path.write_text("the beginning\n" + shapes(secrets))
    crashes.note(paths, "VM", "QEMU ended", shapes(secrets).splitlines(), "x")
    variable, key, auth, token, header, loose = (new() for _ in range(6))
    monkeypatch.setenv("MY_API_TOKEN", variable)
    monkeypatch.setenv("HARMLESS", new())
    monkeypatch.setenv("HTTPS_PROXY", f"http://joe:{new()}@127.0.0.1:9")
    monkeypatch.setenv("COVE_DEBIAN_MIRROR", f"http://joe:{quote(new('p@ss{}'))}@mirror/debian")
    paths.ssh_key.write_text(PEM.replace("QyNTUxOQAAACD5", key))
    paths.host_key.write_text(PEM.replace("QyNTUxOQAAACD5", new()))
    paths.suspended.write_text(f"memory {new()}")
    paths.run_state.write_text(json.dumps({"boot_id": "x", "password": new()}))
    (home / ".docker/config.json").write_text(
        json.dumps(
            {
                "auths": {
                    "reg.local": {"auth": base64.b64encode(f"joe:{auth}".encode()).decode()},
                    "other.local": {"identitytoken": token, "username": "joe", "password": new()},
                },
                "HttpHeaders": {"X-Meta": header},
                "proxies": {"default": {"httpProxy": f"http://joe:{new()}@proxy:1"}},
                "credsStore": "pass", "plugins": {"x": {"secret": new()}},
            }
        )
    )  # fmt: skip
    # Nothing tells by its form what these are: only that they are known.
    shaped = paths.agent_log.read_text()
    with paths.agent_log.open("w") as log:
        for secret in (variable, key, auth, token, header):
            log.write(
                f"somebody said {secret} aloud, {quote(secret)} and {base64.b64encode(secret.encode()).decode()}\n"
            )
            log.write(f"and joe:{secret} in {base64.b64encode(f'joe:{secret}'.encode()).decode()}\n")
        log.write(shaped)
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    (folder / "policy.toml").write_text(f"# secret = {new()}\n[locked]\ncpus = 1\n")
    (folder / "policy.toml").chmod(0o644)
    answers: dict[str, Any] = {
        "/version": {"Version": "1", "Token": new()},
        "/info": {"HttpProxy": f"http://joe:{new()}@proxy", "Labels": [f"password={new()}"], "SystemTime": "2026-01-01T00:00:00Z"},
        "/system/df?type=image": {"Images": [{"Labels": {"api-key": new()}}], "Env": ["A=" + new()]},
    }  # fmt: skip
    monkeypatch.setattr(machine, "runs", lambda paths: True)
    monkeypatch.setattr(engine, "get", lambda path, target, deadline: answers[target])
    secrets.made.remove(loose)
    return secrets, paths


def contents(file: Path) -> dict[str, str]:
    data = file.read_bytes()
    if file.name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name).decode() for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["b.tar.gz", "b.zip"])
def test_no_planted_secret_is_in_a_bundle(
    name: str, planted: tuple[Secrets, MachinePaths], home: Path, tmp_path: Path
) -> None:
    secrets, _ = planted
    said = shapes(secrets)
    findings = [Finding("x", PROBLEM, f"it said password={secrets.new()}", f"see https://joe:{secrets.new()}@reg/")]
    bundle.write(tmp_path / name, "default", findings, lambda words, bound: said)
    inside = contents(tmp_path / name)
    assert len(secrets.made) > 150
    for path, text in inside.items():
        assert secrets.found_in(text) == [], path
        assert secrets.found_in(path) == []
        assert "margaret" not in text, path
    # What is of use is there all the same.
    texts = {path.partition("/")[2]: text for path, text in inside.items()}
    assert set(texts) == {
        "README.txt", "findings.json", "findings.txt", "environment.json", "docker-config.json", "policy.toml",
        "machines/default/machine.toml", "machines/other/machine.toml", "machines/default/settings.json",
        "machines/default/status.json", "machines/default/files.json", "machines/default/crash.json", "machines/default/console.log",
        "machines/default/agent.log", "machines/default/agent.log.1", "machines/default/qemu.log",
        "machines/default/engine-version.json", "machines/default/engine-info.json", "machines/default/engine-system-df.json",
        "machines/default/engine.log",
    }  # fmt: skip
    assert "\ncpus = 2\n" in texts["machines/default/machine.toml"]
    assert texts["machines/default/console.log"].startswith("the beginning\nGET https://[removed]@reg.local/v2/\n")
    assert json.loads(texts["machines/default/settings.json"])["cpus"] == {"toml": "1", "origin": "policy"}
    assert json.loads(texts["docker-config.json"])["auths"] == {"reg.local": GONE, "other.local": GONE}
    assert json.loads(texts["environment.json"])["HARMLESS"] == GONE
    assert json.loads(texts["environment.json"])["COVE_HOME"] == "~/c"
    names = {Path(each["path"]).name for each in json.loads(texts["machines/default/files.json"])}
    assert {"ssh_key", "host_key", "machine.toml"} <= names
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


LOGINS = [
    "joe:{}@",
    "http://joe:{}@",
    "http://joe:pa/{}@",
    "http://joe:{}#s@",
    "http://joe:pa {}@",
    "http://{}@",
    "joe:a://{}@x@",
]
"""Before the host of a proxy's address: all but the second are none, and what people type all the same."""


@pytest.mark.parametrize("login", LOGINS)
def test_no_password_of_a_proxy_is_in_a_bundle(
    login: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = Secrets()

    def address() -> str:
        return login.format(secrets.new()) + "proxy.corp:3128"

    paths = lifecycle.init("default")
    kept, listed, locked, told, variable, own, docker = (address() for _ in range(7))
    text = paths.settings.read_text().replace('http_proxy = ""', f'http_proxy = "{kept}"', 1)
    paths.settings.write_text(text + f'no_proxy = ["{listed}"]\n# https_proxy = "{address()}"\n')
    broken = address()
    lifecycle.init("broken").settings.write_text(f'cpus = \nhttp_proxy = "{broken}"\n')
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    (folder / "policy.toml").write_text(f'[locked]\nhttps_proxy = """\n{locked}"""\n')
    (home / ".docker/config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": docker}}}))
    monkeypatch.setenv("COVE_HTTP_PROXY", own)
    monkeypatch.setenv("COVE_NO_PROXY", told)
    monkeypatch.setenv("HTTPS_PROXY", variable)
    known = [
        each.removesuffix("@proxy.corp:3128").partition("joe:")[2]
        for each in (kept, listed, locked, variable, own, docker, broken)
    ]
    paths.agent_log.write_text(
        "\n".join(f"it said {each or 'nothing'} aloud" for each in known) + f"\nproxy: {address()}\n"
    )
    paths.run_state.write_text(json.dumps({"HttpProxy": address()}))
    found = [
        *findings.run([each for each in diagnose.checks("default") if each.name in ("settings", "policy", "proxy")])
    ]
    assert secrets.found_in(repr(found)) == []
    bundle.write(tmp_path / "b.zip", "default", found, lambda words, bound: f"HTTP_PROXY={address()}")
    for path, text in contents(tmp_path / "b.zip").items():
        assert secrets.found_in(text) == [], path
    # To which host it goes is no secret, and of use.
    assert json.loads(contents(tmp_path / "b.zip")["b/environment.json"])["COVE_HTTP_PROXY"].endswith(
        "@proxy.corp:3128"
    )


def test_a_part_that_cannot_be_had_is_told_and_the_rest_is_there(
    planted: tuple[Secrets, MachinePaths], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets, paths = planted

    def breaks(*_: object) -> Any:
        raise RuntimeError(f"oh, password={secrets.new()}")

    paths.console_log.unlink()
    paths.console_log.mkdir()
    monkeypatch.setattr(engine, "get", breaks)
    monkeypatch.setattr(bundle, "_files", breaks)
    bundle.write(tmp_path / "b.zip", "default", [], breaks)
    texts = {path.partition("/")[2]: text for path, text in contents(tmp_path / "b.zip").items()}
    assert (
        texts["machines/default/console.log"]
        == "it could not be had: IsADirectoryError: [Errno 21] Is a directory: '~/c/data/machines/default/console.log'\n"
    )
    for name in ("engine.log", "engine-info.json", "files.json"):
        assert texts[f"machines/default/{name}"] == "it could not be had: RuntimeError: oh, password=[removed]\n"
    assert "harmless again" in texts["machines/default/agent.log"]


def test_a_bundle_of_nothing(home: Path, tmp_path: Path) -> None:
    bundle.write(tmp_path / "b.tar.gz", "default", [], lambda words, bound: "")
    assert "b/README.txt" in contents(tmp_path / "b.tar.gz")


def test_the_command_writes_one(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr("os._exit", statuses.append)
    monkeypatch.setattr(diagnose, "checks", lambda name: [])
    monkeypatch.chdir(tmp_path)
    cli.main(["diagnose", "--bundle=mine.zip", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told == {"machine": "default", "problems": 0, "warnings": 0, "findings": [], "bundle": "mine.zip"}
    cli.main(["diagnose", "--bundle"])
    assert len([*tmp_path.glob("cove-diagnose-*.tar.gz")]) == 1
    monkeypatch.setattr(diagnose, "checks", lambda name: pytest.fail("it looks before it knows where to write"))
    cli.main(["diagnose", "--bundle", "/no/such/place/b.zip"])
    assert statuses == [0, 0, 1]
    assert "there is no folder /no/such/place" in capsys.readouterr().err


def test_of_coves_own_variables_the_values_are_told(home: Path, tmp_path: Path) -> None:
    given = {"COVE_DEBIAN_MIRROR": "http://mirror.example/debian", "COVE_CPUS": "3", "EDITOR": "vi"}
    bundle.write(tmp_path / "b.zip", "default", [], lambda words, bound: "", given)
    assert json.loads(contents(tmp_path / "b.zip")["b/environment.json"]) == {**given, "EDITOR": GONE}


def test_the_folder_that_a_shell_is_in_is_no_secret() -> None:
    assert set(redact.of_environment({"PWD": "/home/ann", "OLDPWD": "/tmp", "MYSQL_PWD": "hunter22"})) == {"hunter22"}


def test_what_is_no_secret_stays() -> None:
    clean = Redactor(["hunter2!"], Path("/home/joe"))
    for text in (
        "2026-11-26T05:33:01Z level=info msg=\"image: busybox:1.36\"", "the keyboard: none", "tokenizer started", "author: joe",
        "machine default: 2 CPUs, 2GiB, 60GiB disk", "https://reg.local:5000/v2/ answered 404", "monkey = 3", "/home/joel/x",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "see user@example.com", "bind_address = \"0.0.0.0\"",
        "https://reg.local:5000/v2/app@1", "http_proxy = \"http://proxy:3128\"", "HTTPS_PROXY: proxy:3128 answers",
    ):  # fmt: skip
        assert clean(text) == text
    assert clean("/home/joe/x and /home/joe") == "~/x and ~"


@pytest.mark.parametrize("text", [r"C:\Users\joe", r"C:\\Users\\joe", "C:/Users/joe", r"c:\users\JOE"])
def test_a_home_on_windows_is_known_however_it_is_written(text: str) -> None:
    clean = Redactor(home=PureWindowsPath(r"C:\Users\joe"))
    assert clean(f"at {text}, {text}\\x") == "at ~, ~\\x"
    assert clean(f"{text}l") == f"{text}l"


@pytest.mark.parametrize(
    "piece",
    [
        "-eA=", '"Env":["', '"Env":["\\]', '"Env":["a]', '"Env":["\n',
        "a.", "password", "password=[", 'password="', "password='", "eyJ-", "-eyJaaaaa", "http://", "x://a", '"Env":[', "--password ",
        "-e A=", "-u a", "proxy=", "proxy", "http://a:", "a://b:c",
        "-----BEGIN PRIVATE KEY-----", "authorization:", "bearer ", "token" + " " * 50, "ghp_", "[", "key=", "--a-",
    ],
)  # fmt: skip
def test_no_text_takes_long(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    begin = time.process_time()
    Redactor(["hunter2hunter2"], Path("/home/joe"))(text)
    assert time.process_time() - begin < 5


@settings(deadline=None)
@given(st.text(min_size=6, max_size=30, alphabet=st.characters(codec="ascii", min_codepoint=33)), st.text(max_size=9))
def test_known_secrets_go_wherever_they_stand(secret: str, around: str) -> None:
    cleaned = Redactor([secret])(f"{around}{secret}{around} {quote(secret, safe='')} {json.dumps(secret)}")
    left = cleaned.replace(GONE, "")
    assert secret not in left.replace(around, "") or secret in around * 3
