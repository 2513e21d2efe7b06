"""What a machine is told of the world outside: proxies of every kind, as it has to call them, and certificates."""

from __future__ import annotations

import datetime
import json
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest
from cove.errors import SettingsError
from cove.machine import certificates, outside, proxies, settings, zone
from cove.machine.settings import Settings
from coved.current_outside import CurrentOutside
from coved.outside import AUTHORITIES_MAX, Outside, Zone
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ALWAYS = "10.0.2.2,host.docker.internal,gateway.docker.internal"


def authority(name: str = "corp") -> bytes:
    """A certificate, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_proxies_are_the_environments_or_else_the_systems_or_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "HTTPS_PROXY": "proxy:1",
        "https_proxy": "http://lower:2",
        "NO_PROXY": "a.test",
        "ALL_PROXY": "http://x",
    }
    found = proxies.found(Settings(), environment)
    assert (found.http, found.https, found.no_proxy) == ("", "http://lower:2", "a.test")
    assert found.places == (("https", "https_proxy"),)
    own = Settings(http_proxy="http://own:3", no_proxy=("b.test", "10.0.0.0/8"))
    found = proxies.found(own, environment)
    assert (found.http, found.https, found.no_proxy) == ("http://own:3", "http://lower:2", "b.test,10.0.0.0/8")
    found = proxies.found(Settings(proxy="manual", http_proxy="http://own:3"), environment)
    assert (found.http, found.https, found.no_proxy) == ("http://own:3", "", "")
    assert proxies.found(Settings(proxy="none", http_proxy="http://own:3"), environment) == proxies.Proxies()
    system = {"http": "http://system:4", "ftp": "http://ftp"}, ["*.local", "169.254/16", "<local>"]
    monkeypatch.setattr(proxies, "_of_platform", lambda platform: system)
    found = proxies.found(Settings(), {})
    assert (found.http, found.https, found.no_proxy) == ("http://system:4", "", "*.local,169.254.0.0/16")
    assert proxies.found(Settings(), {"http_proxy": "http://a:1"}).no_proxy == ""
    found = proxies.found(Settings(), {"http_proxy": "socks5://joe:s%40cret@a:1"})
    assert (found.http, found.ignored) == ("", ("http_proxy: proxies speak http or https, not socks5",))


def test_macos_and_windows_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types
    import urllib.request

    told = {"exceptions": ("*.corp", "10.*"), "exclude_simple": True}
    monkeypatch.setitem(sys.modules, "_scproxy", types.SimpleNamespace(_get_proxy_settings=lambda: told))
    get = {"http": "http://p:1", "https": "http://p:1", "gopher": "x"}
    monkeypatch.setattr(urllib.request, "getproxies_macosx_sysconf", lambda: get, raising=False)
    assert proxies._of_platform("darwin") == ({"http": "http://p:1", "https": "http://p:1"}, ["*.corp", "10.*"])
    monkeypatch.setattr(urllib.request, "getproxies_registry", lambda: get, raising=False)
    monkeypatch.setattr(proxies, "_exceptions_of_windows", lambda: ["<local>"])
    assert proxies._of_platform("win32") == ({"http": "http://p:1", "https": "http://p:1"}, ["<local>"])
    assert proxies._of_platform("linux") == ({}, [])


def test_exceptions_are_said_as_no_proxy_has_them() -> None:
    given = [
        "localhost",
        "127.*",
        "10.*",
        "192.168.*",
        "*.corp",
        "corp",
        "169.254/16",
        "10.1.2.3",
        "<local>",
        "web*",
        " ",
        "*",
    ]
    assert proxies.entries(given) == [
        "localhost", "127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16", "*.corp", "corp", "169.254.0.0/16", "10.1.2.3", "*",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("http://localhost:3128", "http://10.0.2.2:3128"),
        ("http://joe:s%40cret@127.0.0.1:3128/", "http://joe:s%40cret@10.0.2.2:3128/"),
        ("http://[::1]:1", "http://10.0.2.2:1"),
        ("https://localhost", "https://10.0.2.2"),
        ("http://proxy.corp:3128", "http://proxy.corp:3128"),
        ("http://127.proxy.corp", "http://127.proxy.corp"),
        ("", ""),
    ],
)
def test_a_proxy_of_this_computer_is_called_as_the_machine_does(here: str, there: str) -> None:
    assert proxies.seen_by_machine(here) == there


def test_this_computers_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Laptop")
    monkeypatch.setattr(socket, "gethostbyname", lambda name: {"laptop": "127.0.1.1"}[name])
    assert proxies.seen_by_machine("http://laptop:1") == "http://10.0.2.2:1"
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "192.168.1.5")
    assert proxies.seen_by_machine("http://laptop:1") == "http://laptop:1"


def test_the_machine_reaches_this_computer_without_a_proxy() -> None:
    assert proxies.for_machine(proxies.Proxies("http://a:1", "", "b, c")) == ("http://a:1", "", f"b,c,{ALWAYS}")
    assert proxies.for_machine(proxies.Proxies("http://a:1", "", "*")) == ("http://a:1", "", "*")
    assert proxies.for_machine(proxies.Proxies("", "", "b")) == ("", "", "")


def test_settings_are_checked_without_telling_a_password() -> None:
    for name, wrong in (
        ("http_proxy", '"socks5://joe:s%40cret@proxy:1"'), ("https_proxy", '"http://joe:s%40cret@"'), ("http_proxy", "1"),
        ("no_proxy", '["a b"]'), ("no_proxy", '["http://a"]'), ("proxy", '"auto"'), ("extra_certificates", '["ca.crt"]'),
        ("proxy_in_containers", '"yes"'), ("ssh_agent", '"agent"'), ("ssh_agent", "true"),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=rf"^x:1:\d+: {name} must ") as told:
            settings.parse(f"{name} = {wrong}", "x")
        assert "cret" not in told.value.message + told.value.hint
    for name, typed, kept in (
        ("proxy_in_containers", "true", True), ("proxy_in_containers", "False", False),
        ("no_proxy", ".corp,10.0.0.0/8,a:1,[::1]:5", (".corp", "10.0.0.0/8", "a:1", "[::1]:5")),
        ("http_proxy", "", ""), ("ssh_agent", "~/agent.sock", "~/agent.sock"),
    ):  # fmt: skip
        assert settings.typed(settings.SCHEMA[name], typed) == kept
    key = settings.SCHEMA["http_proxy"]
    assert key.public("http://joe:s%40cret@a:1") == '"http://xxxxx:xxxxx@a:1"'
    assert key.show("http://joe:s%40cret@a:1") == '"http://joe:s%40cret@a:1"'


def test_the_stores_certificates_but_for_mozillas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = authority()
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"
    (tmp_path / "bundle").write_bytes(certifi.contents().encode() + own + broken)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle"))
    found = certificates.trusted(Settings())
    assert found == certificates.Trusted(own.decode())
    assert certificates.trusted(Settings(certificates="none")) == certificates.Trusted("")
    # Without one in the environment it is the system's; here it may be any.
    monkeypatch.delenv("SSL_CERT_FILE")
    old = tmp_path / "usr/share/ca-certificates/mozilla/old.crt"
    old.parent.mkdir(parents=True)
    old.write_bytes(authority("old"))
    monkeypatch.setattr(certificates, "ROOT", tmp_path)
    with (tmp_path / "bundle").open("ab") as bundle:
        bundle.write(old.read_bytes())
    monkeypatch.setattr(certificates, "BUNDLES", (str(tmp_path / "none"), str(tmp_path / "bundle")))
    assert certificates.trusted(Settings()) == found


def test_files_of_certificates(tmp_path: Path) -> None:
    first, second = authority("one"), authority("two")
    (tmp_path / "both.pem").write_bytes(b"some words\n" + first + b"\n# more\n" + second.replace(b"\n", b"\r\n"))
    (tmp_path / "der.cer").write_bytes(ssl.PEM_cert_to_DER_cert(first.decode()))
    given = Settings(certificates="none", extra_certificates=(str(tmp_path / "both.pem"), str(tmp_path / "der.cer")))
    assert certificates.trusted(given).pem.encode() == first + second


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "it is no certificate"),
        (b"hello", "it is no certificate"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "has no certificates"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "has no certificates"),
        (b"GOOD-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 2 is damaged"),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "certificate 1 is damaged"),
        (b"x" * ((1 << 20) + 1), "has over 1024 KiB"),
    ],
)
def test_a_file_that_has_none_is_named(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "bad.pem"
    file.write_bytes(text.replace(b"GOOD", authority()))
    with pytest.raises(SettingsError, match=f"^extra_certificates: {re.escape(str(file))}:? {words}"):
        outside.told(Settings(extra_certificates=(str(file),)), {})
    file.unlink()
    with pytest.raises(
        SettingsError, match=f"^extra_certificates: {re.escape(str(file))} cannot be read: No such file"
    ):
        outside.told(Settings(extra_certificates=(str(file),)), {})


def test_too_many_are_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    one = ssl.PEM_cert_to_DER_cert(authority().decode())
    many = [one + bytes([number & 255, number >> 8]) for number in range(2000)]
    monkeypatch.setattr(certificates, "of_system", lambda: many)
    monkeypatch.setattr(certificates, "beyond_mozilla", lambda found: found)
    found = certificates.trusted(Settings())
    text, (words,) = found.pem, found.left_out
    assert 0 < len(text) <= AUTHORITIES_MAX < len(text) + len(authority()) + 4
    assert words == f"of 2000 certificates it gets {text.count('BEGIN')}: more are over 384 KiB"
    told = Outside("http://a:1", authorities=text)
    monkeypatch.setattr(zone, "told", lambda: Zone("UTC", "VFppZg=="))
    assert outside.told(Settings(), {}) == Outside(authorities=text, zone=Zone("UTC", "VFppZg=="))
    assert words in caplog.text
    assert Outside.from_json(json.loads(json.dumps(told.to_json()))) == told


def test_a_store_that_cannot_be_read_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[bytes]:
        raise PermissionError(13, "Permission denied", "/store")

    monkeypatch.setattr(certificates, "of_system", broken)
    (tmp_path / "own.pem").write_bytes(authority())
    found = certificates.trusted(Settings(extra_certificates=(str(tmp_path / "own.pem"),)))
    assert found.pem.encode() == (tmp_path / "own.pem").read_bytes()
    assert found.left_out == ("this computer's store cannot be read: [Errno 13] Permission denied: '/store'",)


@pytest.mark.parametrize(
    "wrong",
    [
        None, {}, {"proxies": {}}, {**Outside().to_json(), "authorities": {"pem": 1, "containers": False}},
        {**Outside().to_json(), "authorities": {"pem": "", "containers": 1}},
        {**Outside().to_json(), "authorities": {"pem": "x" * (AUTHORITIES_MAX + 1), "containers": False}},
        {**Outside().to_json(), "proxies": {**Outside().to_json()["proxies"], "http": "http://\0"}},
        {**Outside().to_json(), "zone": "UTC"}, {**Outside().to_json(), "zone": {"name": "UTC", "file": "?"}},
    ],
)  # fmt: skip
def test_what_is_not_as_agreed_is_not_taken(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r" no | neither "):
        Outside.from_json(wrong)


def test_the_zone_is_that_of_the_computers_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, text = tmp_path / "localtime", tmp_path / "timezone"
    monkeypatch.setattr(zone, "LOCALTIME", file)
    monkeypatch.setattr(zone, "TIMEZONE", text)
    assert zone.told() == Zone()
    (tmp_path / "zoneinfo/Europe").mkdir(parents=True)
    berlin = tmp_path / "zoneinfo/Europe/Berlin"
    berlin.write_bytes(b"TZif2")
    text.write_text("Etc/UTC\n")  # of no consequence where there is a link
    file.symlink_to(berlin)
    told = Outside(zone=zone.told())
    assert (told.zone.name, told.zone.data()) == ("Europe/Berlin", b"TZif2")
    assert Outside.from_json(json.loads(json.dumps(told.to_json()))) == told
    file.unlink()
    file.write_bytes(b"TZif2")
    assert zone.told().name == "Etc/UTC"
    text.write_text("../../x\n")
    assert zone.told().name == ""
    file.write_bytes(b"not one")
    assert zone.told() == Zone()


def test_what_was_told_outlives_the_engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "outside.json"
    current = CurrentOutside(file)
    assert current.now == Outside()
    news = Outside("http://joe:s%40cret@a:1", no_proxy="b")
    current.renew(news)
    assert CurrentOutside(file).now == news
    assert file.stat().st_mode & 0o777 == 0o600
    assert "cret" not in caplog.text
    file.write_text("{")
    assert CurrentOutside(file).now == Outside()


def test_containers_are_told_unless_they_know() -> None:
    quiet = Outside("http://a:1", no_proxy="b")
    assert quiet.proxy_variables() == {}
    told = Outside("http://a:1", no_proxy="b", proxies_in_containers=True)
    assert told.proxy_variables(["no_proxy"]) == {"HTTP_PROXY": "http://a:1", "http_proxy": "http://a:1"}
