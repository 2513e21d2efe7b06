"""Which version is the newer one, by the rules of each ecosystem."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise

import pytest
from cove.vulnerabilities import versions
from hypothesis import given, settings
from hypothesis import strategies as st

ORDERED = {
    # Debian policy, 5.6.12
    "deb": """0.9~~ 0.9~~a 0.9~ 0.9 0.9-1 0.9-1+deb12u1 0.9-1.1 0.9a 0.9+b1 0.10 1.0~rc1-1 1.0-1~bpo1 1.0-1 1:0.1 2:0""".split(),
    # apk-package(5)
    "apk": """
        0.1_alpha 0.1_alpha2 0.1_beta 0.1_pre1 0.1_rc1 0.1 0.1-r1 0.1-r10 0.1_cvs 0.1_svn 0.1_git20240101 0.1_hg 0.1_p1 0.1_p1-r2
        0.1_p2 0.1a 0.1a-r0 0.1b 0.1.0 0.1.05 0.1.5 0.1.10 0.2 1.2.4_git20230717-r4 20240101""".split(),
    # PEP 440
    "pypi": """
        1.dev0 1.0.dev456 1.0a1 1.0a2.dev456 1.0a12 1.0b1 1.0rc1 1.0 1.0+abc.5 1.0.post456 1.0.15 1.1.dev1 2013.10 1!0.1""".split(),
    # semver.org, section 11
    "npm": """
        0.0.0-0 0.9.0 1.0.0-1 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0
        1.9.0 1.10.0 2.0.0""".split(),
}
EQUAL = [
    ("deb", "0:1.0", "1.0"),
    ("deb", "1.0", "1.0-0"),
    ("deb", "1.00", "1.0"),
    ("apk", "1.0-r0", "1.0-r0"),
    ("apk", "1.0-r01", "1.0-r1"),
    ("pypi", "1.0", "1.0.0"),
    ("pypi", "1.0-RC1", "1.0rc1"),
    ("npm", "1.0.0+build.1", "1.0.0+build.2"),
    ("npm", "v1.2", "1.2.0"),
]
WRONG = {
    "apk": ["1.0bc", "1.0_foo", "", "-r1", "1..0", "1.0-r1.2"],
    "pypi": ["", "latest"],
    "npm": ["", "latest", "1.0.0.0"],
}


@pytest.mark.parametrize("kind", sorted(ORDERED))
def test_the_order(kind: str) -> None:
    compare = versions.comparison(kind)
    for at, older in enumerate(ORDERED[kind]):
        assert compare(older, older) == 0
        for newer in ORDERED[kind][at + 1 :]:
            assert compare(older, newer) < 0, (older, newer)
            assert compare(newer, older) > 0, (older, newer)


@pytest.mark.parametrize(("kind", "one", "other"), EQUAL)
def test_what_is_the_same_however_it_is_written(kind: str, one: str, other: str) -> None:
    compare = versions.comparison(kind)
    assert compare(one, other) == compare(other, one) == 0


@pytest.mark.parametrize(("kind", "version"), [(kind, each) for kind, wrong in WRONG.items() for each in wrong])
def test_what_is_no_version(kind: str, version: str) -> None:
    with pytest.raises(ValueError):
        versions.comparison(kind)(version, "1")


def test_a_range_of_semantic_versions_is_compared_as_such_whatever_the_package() -> None:
    assert versions.comparison("pypi", "SEMVER")("1.0.0-beta.2", "1.0.0-beta.11") < 0


UPSTREAM = st.text("0123456789abzAB.+~", max_size=8).map(lambda rest: f"1{rest}")
DEBIAN = st.builds(
    lambda epoch, upstream, revision: epoch + upstream + revision,
    st.sampled_from(["", "0:", "1:"]),
    UPSTREAM,
    st.one_of(st.just(""), st.text("0123456789ab.+~", min_size=1, max_size=5).map(lambda text: f"-{text}")),
)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="there is no dpkg here to ask")
@settings(deadline=None, max_examples=150)
@given(DEBIAN, DEBIAN)
def test_dpkg_says_the_same(one: str, other: str) -> None:
    result = versions.comparison("deb")(one, other)
    relation = "lt" if result < 0 else "gt" if result else "eq"
    subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=True, timeout=60)


@settings(deadline=None)
@given(st.lists(st.sampled_from(ORDERED["apk"]), min_size=2))
def test_an_order_is_one(found: list[str]) -> None:
    from functools import cmp_to_key

    ordered = sorted(found, key=cmp_to_key(versions.comparison("apk")))
    assert all(ORDERED["apk"].index(one) <= ORDERED["apk"].index(other) for one, other in pairwise(ordered))
