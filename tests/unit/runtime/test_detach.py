import pytest
from coved.runtime.detach import DetachKeys


@pytest.mark.parametrize(
    ("sequence", "chunks", "passed", "detached"),
    [
        (b"\x10\x11", [b"abc"], b"abc", False),
        (b"\x10\x11", [b"a\x10\x11b"], b"a", True),
        (b"\x10\x11", [b"a\x10", b"\x11"], b"a", True),
        (b"\x10\x11", [b"\x10", b"x"], b"\x10x", False),
        (b"\x10\x11", [b"\x10\x10\x11"], b"\x10", True),
        (b"aab", [b"aaab"], b"a", True),
        (b"abac", [b"ababac"], b"ab", True),
        (b"a", [b"xay"], b"x", True),
        (b"", [b"anything"], b"anything", False),
    ],
)
def test_sequences(sequence: bytes, chunks: list[bytes], passed: bytes, detached: bool) -> None:
    keys = DetachKeys(sequence)
    out, found = b"", False
    for chunk in chunks:
        data, found = keys.feed(chunk)
        out += data
    assert (out, found) == (passed, detached)


def test_held_bytes_come_out_at_the_end() -> None:
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.flush() == b"\x10"
    assert keys.flush() == b""
