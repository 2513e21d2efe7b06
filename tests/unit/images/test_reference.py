import pytest
from coved.errors import InvalidParameter
from coved.images import reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("ghcr.io/a/b-c__d.e:T_1", "ghcr.io/a/b-c__d.e:T_1", "ghcr.io/a/b-c__d.e:T_1"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}", f"app:1@{DIGEST}"),
        ("HOST/app", "HOST/app", "HOST/app"),
    ],
)
def test_names(text: str, canonical: str, familiar: str) -> None:
    parsed = reference.parse(text)
    assert (str(parsed), parsed.familiar) == (canonical, familiar)
    assert reference.parse(familiar) == parsed
    assert reference.parse(canonical) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("a//b", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:b:c/d", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a@sha256:1234", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("../etc", "invalid reference format"),
        ("a" * 300, "repository name must not be more than 255 characters"),
        ("f" * 64, f"invalid repository name ({'f' * 64}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_what_is_no_name(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        reference.parse(text)
    assert str(error.value) == message


def test_the_default_tag_is_latest() -> None:
    assert reference.parse("a").tagged().familiar == "a:latest"
    assert reference.parse("a:1").tagged().familiar == "a:1"
    assert reference.parse(f"a@{DIGEST}").tagged().familiar == f"a@{DIGEST}"


def test_id_prefixes() -> None:
    assert reference.id_prefix("sha256:abc") == "abc"
    assert reference.id_prefix("abc") == "abc"
    assert reference.id_prefix("xyz") == ""
    assert reference.id_prefix("ABC") == ""
