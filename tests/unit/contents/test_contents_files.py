"""What each kind of metadata tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cove.contents import apk, dpkg, files, npm, os_release, python
from cove.contents.package import MAX_TEXT, Distribution, Package, clean
from image_layers import STATUS, Files, layer, link, manifest, names, read, stanza, wheel


def test_dpkg_tells_source_and_architecture() -> None:
    text = stanza("openssl", "3.0.11-1") + stanza(
        "libssl3", "3.0.11-1+b2", Source="openssl (3.0.11-1)", Architecture="arm64"
    )
    assert [*dpkg.packages(text + stanza("libc6", "2.36", Source="glibc"))] == [
        Package("deb", "openssl", "3.0.11-1", "amd64", "openssl", "3.0.11-1"),
        Package("deb", "libssl3", "3.0.11-1+b2", "arm64", "openssl", "3.0.11-1"),
        Package("deb", "libc6", "2.36", "amd64", "glibc", "2.36"),
    ]


@pytest.mark.parametrize(
    ("status", "there"),
    [
        ("install ok installed", True),
        ("hold ok installed", True),
        ("install ok unpacked", True),
        ("install ok half-configured", True),
        ("install ok triggers-awaited", True),
        ("deinstall ok config-files", False),
        ("purge ok not-installed", False),
    ],
)
def test_dpkg_tells_of_those_whose_files_are_there(status: str, there: bool) -> None:
    assert bool([*dpkg.packages(stanza("one", "1", Status=status))]) == there


def test_a_description_is_no_field() -> None:
    text = "Package: one\nStatus: install ok installed\nVersion: 1\nDescription: a\n Version: 2\n .\n Package: x\n"
    assert [each.version for each in dpkg.packages(text)] == ["1"]


def test_images_without_dpkg_have_a_file_for_each_package() -> None:
    one = "Package: tzdata\nVersion: 2024a\nArchitecture: all\n"
    found = read(layer({"var/lib/dpkg/status.d/tzdata": one, "var/lib/dpkg/status.d/tzdata.md5sums": "abc  etc/x\n"}))
    assert names(found) == ["tzdata 2024a"]


APK = """\
C:Q1abc=
P:busybox-binsh
V:1.36.1-r15
A:x86_64
L:GPL-2.0-only
o:busybox
F:bin
R:sh
F:usr/lib/python3.12/site-packages/x-1.dist-info
R:METADATA

P:musl
V:1.2.4-r2

P:without-a-version

"""


@pytest.mark.parametrize("path", ["lib/apk/db/installed", "usr/lib/apk/db/installed"])
def test_apk(path: str) -> None:
    assert [each.package for each in read(layer({path: APK})).packages] == [
        Package("apk", "busybox-binsh", "1.36.1-r15", "x86_64", "busybox", "1.36.1-r15", "GPL-2.0-only"),
        Package("apk", "musl", "1.2.4-r2", "", "musl", "1.2.4-r2"),
    ]
    assert [*apk.listed(APK)] == ["bin/sh", "usr/lib/python3.12/site-packages/x-1.dist-info/METADATA"]


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License_Expression": "MIT OR Apache-2.0", "License": "x"}, "MIT OR Apache-2.0"),
        ({"License": "BSD-3-Clause"}, "BSD-3-Clause"),
        ({"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT License"),
        ({"License": "Permission is hereby granted " * 9, "Classifier": "License :: OSI Approved :: ISC"}, "ISC"),
        ({"License": "First line\n        second line"}, ""),
        ({}, ""),
    ],
)
def test_python(fields: dict[str, str], licence: str) -> None:
    assert python.package(wheel("Foo.Bar", "1.0rc1", **fields)) == Package("pypi", "Foo.Bar", "1.0rc1", licence=licence)
    assert python.package("Metadata-Version: 2.1\nName: one\n") is None


@pytest.mark.parametrize(
    "path",
    [
        "a/one-1.dist-info/METADATA",
        "a/one-1.egg-info/PKG-INFO",
        "a/one-1.egg-info",
        "srv/.venv/one-1.dist-info/METADATA",
    ],
)
def test_where_pythons_packages_are(path: str) -> None:
    assert names(read(layer({path: wheel("one", "1")}))) == ["one 1"]


@pytest.mark.parametrize(
    ("more", "licence"),
    [
        ({"license": "MIT"}, "MIT"),
        ({"license": {"type": "ISC", "url": "x"}}, "ISC"),
        ({"licenses": [{"type": "MIT"}, {"type": "GPL"}]}, "MIT, GPL"),
        ({"license": 7}, ""),
    ],
)
def test_npm(more: dict[str, Any], licence: str) -> None:
    assert npm.package(manifest("@a/b", "1.0.0", **more)) == Package("npm", "@a/b", "1.0.0", licence=licence)


@pytest.mark.parametrize("document", [{"name": "x"}, {"version": "1"}, {"name": 1, "version": "1"}, [], "x", None])
def test_npms_other_documents(document: Any) -> None:
    assert npm.package(json.dumps(document)) is None


@pytest.mark.parametrize(
    ("path", "read_"),
    [
        ("node_modules/a/package.json", True),
        ("x/node_modules/@s/a/package.json", True),
        ("x/node_modules/a/node_modules/b/package.json", True),
        ("x/node_modules/.pnpm/a@1/node_modules/a/package.json", True),
        ("x/node_modules/a/lib/package.json", False),
        ("x/node_modules/.package-lock.json", False),
        ("x/node_modules/@s/package.json", False),
        ("x/package.json", False),
        ("var/lib/dpkg/info/x.list", True),
        ("var/lib/dpkg/info/x.md5sums", False),
        ("var/lib/dpkg/status-old", False),
    ],
)
def test_which_files_are_read(path: str, read_: bool) -> None:
    assert (files.reader(path) is not None) == read_


DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\nVERSION="12 (bookworm)"\n'


def test_the_distribution_is_that_of_the_file_that_the_link_leads_to() -> None:
    made = layer({"usr/lib/os-release": DEBIAN, "etc/os-release": link("etc/os-release", "../usr/lib/os-release")})
    expected = Distribution("debian", "12", "12 (bookworm)", "Debian GNU/Linux 12 (bookworm)")
    assert read(made).distribution == expected
    assert read(made, layer({"etc/os-release": "ID=other\n"})).distribution == Distribution("other", "", "", "other")
    assert read(layer({})).distribution is None
    assert os_release.distribution("# nothing\nNAME='x\n") is None


def test_what_a_distributions_package_brings_is_that_package() -> None:
    path = "usr/lib/python3/dist-packages/one-1.egg-info/PKG-INFO"
    made: Files = {
        STATUS: stanza("python3-one", "1-2"),
        "var/lib/dpkg/info/python3-one.list": f"/.\n/usr\n/{path}\n",
        path: wheel("one", "1"),
        "usr/local/lib/python3.11/dist-packages/two-1.dist-info/METADATA": wheel("two", "1"),
    }
    assert names(read(layer(made))) == ["python3-one 1-2", "two 1"]
    of_apk: Files = {
        "lib/apk/db/installed": APK,
        "usr/lib/python3.12/site-packages/x-1.dist-info/METADATA": wheel("x", "1"),
    }
    assert names(read(layer(of_apk))) == ["busybox-binsh 1.36.1-r15", "musl 1.2.4-r2"]


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("var/lib/rpm/rpmdb.sqlite", "rpm database"),
        ("var/lib/rpm/Packages", "rpm database"),
        ("usr/lib/sysimage/rpm/Packages.db", "rpm database"),
        ("app/lib/x.jar", "Java archive"),
        ("usr/lib/ruby/gems/3.1.0/specifications/rake-13.gemspec", "Ruby gem"),
        ("opt/conda/conda-meta/x.json", "package of conda"),
        ("app/node_modules/x/package.json", "metadata of an npm package that cannot be read"),
    ],
)
def test_what_was_not_read_is_told(path: str, what: str) -> None:
    [found] = read(layer({path: "{no document"})).unread
    assert (found.what, found.count, found.example) == (what, 1, f"/{path}")
    assert not read(layer({path: "x"}), layer({f".wh.{path.partition('/')[0]}": ""})).unread


def test_a_metadata_file_that_is_too_large_is_told_and_not_read() -> None:
    path = "app/node_modules/x/package.json"
    found = read(layer({path: manifest("x", "1", text="x" * (5 << 20))}))
    assert names(found) == []
    assert [each.what for each in found.unread] == ["metadata of an npm package of more than 4 MiB"]


def test_a_long_description_is_cut() -> None:
    text = wheel("one", "1") + "x" * (5 << 20)
    assert names(read(layer({"one-1.dist-info/METADATA": text}))) == ["one 1"]


def test_names_are_no_commands_for_a_terminal() -> None:
    found = read(layer({"node_modules/x/package.json": manifest("a\x1b[2Jb\u202e\ud800c", "1" * 3000)}))
    [package] = [each.package for each in found.packages]
    assert package.name == "a [2Jb c"
    assert len(package.version) == MAX_TEXT
    assert clean("a\nb\x9bc\x7f") == "a b c"
