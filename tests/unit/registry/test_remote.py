"""What a client calls a file that ``docker import`` is to fetch, as a URL."""

from __future__ import annotations

import pytest
from coved.errors import EngineError, InvalidParameter
from coved.registry.remote import address


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("example.org/a.tar", "http://example.org/a.tar"),
        ("https://example.org/a b.tar#part", "https://example.org/a%20b.tar"),
        ("http://[::1]:8080/%0B", "http://[::1]:8080/%0B"),
    ],
)
def test_an_address_becomes_a_url(said: str, url: str) -> None:
    assert address(said) == url


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("http://a%0Bb/x", 'parse "http://a%0Bb/x": invalid URL escape "%0B"'),
        ("http://a%%b/x", 'parse "http://a%%b/x": invalid URL escape "%%b"'),
        ("a b/x", 'parse "http://a%20b/x": invalid URL escape "%20"'),
        ("http://a:b/x", 'parse "http://a:b/x": '),
        ("http://[::1/x", 'parse "http://[::1/x": '),
    ],
)
def test_what_is_no_url_is_told(said: str, words: str) -> None:
    with pytest.raises(InvalidParameter) as told:
        address(said)
    assert str(told.value).startswith(words)


def test_a_url_needs_a_host_and_a_protocol_that_is_known() -> None:
    for said, words in (("/usr/bin/x", "no Host in request URL"), ("ftp://a/x", 'unsupported protocol scheme "ftp"')):
        with pytest.raises(EngineError, match=words):
            address(said)
