"""An engine behind a company's proxy, which wants a password and ends TLS by an authority of its own.

On this computer always: the proxy, and what is behind it, are programs in the engine's network namespace, and what is
asked for has names that nobody but the proxy knows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import intercepting_proxy
import pytest
from intercepting_proxy import authority

from busybox_image import import_busybox
from engines import Engine
from registries import Registry

pytestmark = [pytest.mark.root, pytest.mark.native]

ADDRESS = "10.124.0.1"
"""The engine's and its containers' way to the proxy: both reach an address of the loopback device."""
PROXY = f"http://joe:s%40cret@{ADDRESS}:3128"
REGISTRY, WEB = "registry.corp.test", "web.corp.test"
ROUTES = {f"{REGISTRY}:443": "127.0.0.1:5000", f"{WEB}:443": "127.0.0.1:8081", f"{WEB}:80": "127.0.0.1:8081"}
WEB_SERVER = """
import http.server, os, subprocess, sys
class Page(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if ".git/" not in self.path:
            return super().do_GET()
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": sys.argv[1], "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
               "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(length), "REMOTE_ADDR": "127.0.0.1",
               "CONTENT_TYPE": self.headers.get("Content-Type") or "", "GIT_CONFIG_COUNT": "1",
               "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        done = subprocess.run(["git", "http-backend"], input=self.rfile.read(length), env=env, capture_output=True)
        head, _, body = done.stdout.partition(b"\\r\\n\\r\\n")
        self.send_response(200)
        for line in head.decode().splitlines():
            self.send_header(*line.split(": ", 1))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
os.chdir(sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8081), Page)
print("ready", flush=True)
server.serve_forever()
"""


class Company:
    def __init__(self, folder: Path, *options: str) -> None:
        ca = authority(folder)
        self.folder = folder
        self.ca = ca.read_text()
        self.engine = Engine(
            Path(tempfile.mkdtemp(prefix="cove-e", dir="/tmp")), "--http-proxy", PROXY, "--https-proxy", PROXY,
            "--no-proxy", f"direct.test,{ADDRESS}:5001", *options,
        )  # fmt: skip
        self.config = folder / "config"
        self.config.mkdir()
        self._programs: list[subprocess.Popen[str]] = []
        try:
            subprocess.run(self.engine.in_network("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"), check=True)
            self._run(
                str(intercepting_proxy.__file__),
                str(folder),
                "3128",
                "joe:s@cret",
                json.dumps(ROUTES),
            )
            self.engine.start()
            import_busybox(self.engine.url)
        except BaseException:
            self.close()
            raise

    def behind(self) -> Registry:
        """A registry, and a web server with a file and a repository; nothing but the proxy leads to them."""
        (self.folder / "www").mkdir()
        (self.folder / "www/file").write_text("from the web\n")
        work = self.folder / "www/x.git"
        git = ["git", "-C", str(self.folder / "www"), "-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run([*git, "init", "-q", "-b", "main", "x.git"], check=True)
        (work / "tracked").write_text("from git\n")
        for words in (["add", "tracked"], ["commit", "-q", "-m", "first"]):
            subprocess.run([*git[:2], str(work), *git[3:], *words], check=True)
        self._run("-c", WEB_SERVER, str(self.folder / "www"))
        return Registry(self.engine, self.folder / "registry", "127.0.0.1:5000", users=True)

    def _run(self, *words: str) -> None:
        process = subprocess.Popen(self.engine.in_network(sys.executable, *words), stdout=subprocess.PIPE, text=True)
        self._programs.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def docker(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_HOST": self.engine.url, "DOCKER_CONFIG": str(self.config)}
        done = subprocess.run(
            ["docker", *words], capture_output=True, text=True, env=environment, input=stdin, timeout=90, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def asked(self) -> list[str]:
        """What the proxy has been asked for since the last time."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return lines

    def close(self) -> None:
        for process in self._programs:
            process.kill()
            process.wait(10)
        self.engine.close()


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    made = Company(
        folder,
        "--ca-certificates",
        str(folder / "ca.crt"),
        "--proxies-in-containers",
        "--ca-certificates-in-containers",
    )
    registry = None
    try:
        registry = made.behind()
        yield made
    finally:
        if registry is not None:
            registry.close()
        made.close()


def test_images_go_out_and_come_in(company: Company) -> None:
    company.asked()
    company.docker("login", "-u", "joe", "--password-stdin", REGISTRY, stdin="secret")
    name = f"{REGISTRY}/busybox:1"
    company.docker("tag", "busybox", name)
    company.docker("push", name)
    company.docker("rmi", name)
    company.docker("pull", name)
    asked = company.asked()
    assert f"CONNECT {REGISTRY}:443" in asked
    assert any(one.startswith(f"PUT https://{REGISTRY}/v2/busybox/manifests/1") for one in asked)
    assert (
        f"GET https://{REGISTRY}/v2/busybox/manifests/1" in asked
        or f"HEAD https://{REGISTRY}/v2/busybox/manifests/1" in asked
    )
    assert not [one for one in asked if one.startswith("407")]
    # What is named is asked itself, and has no name.
    assert "lookup direct.test" in company.docker("pull", "direct.test/x", check=False).stderr
    assert company.asked() == []
    # A site that the proxy does not lead to.
    assert "Bad Gateway" in company.docker("pull", "other.corp.test/x", check=False).stderr


def test_builds_fetch_by_it(company: Company, tmp_path: Path) -> None:
    company.docker("login", "-u", "joe", "--password-stdin", REGISTRY, stdin="secret")
    company.docker("tag", "busybox", f"{REGISTRY}/base:1")
    company.docker("push", f"{REGISTRY}/base:1")
    company.docker("rmi", f"{REGISTRY}/base:1")
    company.asked()
    (tmp_path / "Dockerfile").write_text(
        f"FROM {REGISTRY}/base:1\n"
        f"ADD https://{WEB}/file /file\n"
        f"ADD https://{WEB}/x.git#main /git\n"
        f"RUN wget -q -O /run-file http://{WEB}/file && cat /file /git/tracked /run-file > /all && env > /env\n"
        "RUN test -s /run/host-services/ca-certificates.crt && cp $SSL_CERT_FILE /bundle\n"
    )
    company.docker("build", "-t", "built", str(tmp_path))
    text = company.docker("run", "--rm", "built", "cat", "/all").stdout
    assert text == "from the web\nfrom git\nfrom the web\n"
    asked = company.asked()
    assert f"GET https://{WEB}/file" in asked
    assert f"GET http://{WEB}/file" in asked  # of RUN
    assert f"POST https://{WEB}/x.git/git-upload-pack" in asked
    environment = company.docker("run", "--rm", "built", "cat", "/env").stdout.splitlines()
    assert {f"{name}={PROXY}" for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")} <= {*environment}
    assert company.ca in company.docker("run", "--rm", "built", "cat", "/bundle").stdout
    # Nothing of it is in the image.
    assert (
        "cret"
        not in company.docker("image", "inspect", "built").stdout
        + company.docker("history", "--no-trunc", "built").stdout
    )
    listing = company.docker("run", "--rm", "--entrypoint=", "-e", "SSL_CERT_FILE=", "built", "ls", "/run").stdout
    assert listing in ("", "host-services\n")


def test_containers_are_told(company: Company, tmp_path: Path) -> None:
    script = f"env; wget -q -O- http://{WEB}/file; grep -c BEGIN $SSL_CERT_FILE"
    said = company.docker("run", "--name", "told", "-e", "https_proxy=mine", "busybox", "sh", "-c", script).stdout
    lines = said.splitlines()
    assert f"http_proxy={PROXY}" in lines
    assert f"HTTP_PROXY={PROXY}" in lines
    assert [one for one in lines if one.lower().startswith("https_proxy")] == ["https_proxy=mine"]
    assert f"no_proxy=direct.test,{ADDRESS}:5001" in lines
    assert "from the web" in lines
    assert int(lines[-1]) >= 1
    # Neither those who look at it nor images made of it learn of it.
    assert "cret" not in company.docker("inspect", "told").stdout
    company.docker("commit", "told", "of-told")
    assert "cret" not in company.docker("image", "inspect", "of-told").stdout
    company.docker("rm", "told")
    company.docker("run", "-d", "--name", "long", "--read-only", "busybox", "sleep", "100")
    assert f"http_proxy={PROXY}" in company.docker("exec", "long", "env").stdout.splitlines()
    assert company.ca in company.docker("exec", "long", "sh", "-c", "cat $SSL_CERT_FILE").stdout
    company.docker("rm", "-f", "long")


def test_info_shows_no_password_and_no_log_has_one(company: Company) -> None:
    info = json.loads(company.docker("info", "--format", "json").stdout)
    shown = f"http://xxxxx:xxxxx@{ADDRESS}:3128"
    assert (info["HttpProxy"], info["HttpsProxy"], info["NoProxy"]) == (shown, shown, f"direct.test,{ADDRESS}:5001")
    assert "cret" not in company.engine.log()


def test_who_does_not_know_the_authority_is_told(tmp_path: Path) -> None:
    made = Company(tmp_path)
    try:
        words = made.docker("pull", f"{REGISTRY}/x", check=False).stderr
        assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in words
        assert "cret" not in words
        assert made.asked() == [f"CONNECT {REGISTRY}:443"]
        assert "http_proxy" not in made.docker("run", "--rm", "busybox", "env").stdout
    finally:
        made.close()
