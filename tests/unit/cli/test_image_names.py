"""Names of images, each with what docker's client says of it."""

from __future__ import annotations

import pytest
from cove.cli.errors import CliError
from cove.cli.reference import check_reference

DIGEST = "6c1510efea6ddf124a692d86923040c9d72cd5582327814924c666b4082a76cb"


@pytest.mark.parametrize(
    "name",
    [
        "busybox",
        "a/b",
        "A/b",
        "a_b__c--d",
        "host:5000/a:1",
        "[::1]:5/x",
        "localhost/x",
        "x:V1.0-a",
        f"x@sha256:{DIGEST}",
    ],
)
def test_good_names(name: str) -> None:
    check_reference(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("BAD", "invalid reference format: repository name (library/BAD) must be lowercase"),
        ("nosuch/A:b", "invalid reference format: repository name (nosuch/A) must be lowercase"),
        ("A.b/c/D:e", "invalid reference format: repository name (c/D) must be lowercase"),
        ("a:b:c", "invalid reference format"),
        ("a:b/c:d", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("x@", "invalid reference format"),
        ("/x", "invalid reference format"),
        ("-a.b/c", "invalid reference format"),
        ("localhost/:x", "invalid reference format"),
        ("é", "invalid reference format"),
        ("x:" + "a" * 129, "invalid reference format"),
        ("a" * 300, "repository name must not be more than 255 characters"),
        (DIGEST, f"invalid repository name ({DIGEST}), cannot specify 64-byte hexadecimal strings"),
        ("x@sha256:zz", "invalid reference format"),
        ("x@sha256:" + "a" * 40, "invalid checksum digest length"),
        (f"x@sha1:{DIGEST}", "unsupported digest algorithm"),
        (f"x@sha256:A{DIGEST[1:]}", "invalid checksum digest format"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(CliError) as told:
        check_reference(name)
    assert told.value.message == message
