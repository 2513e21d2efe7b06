"""--chmod: numbers, and what chmod(1) calls symbolic. Expectations are coreutils' chmod with umask 0."""

from __future__ import annotations

import pytest
from coved.build.errors import BuildError
from coved.build.files import modes


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("644", 0o755, 0o644),
        ("0", 0o755, 0),
        ("4755", 0o644, 0o4755),
        ("07777", 0o644, 0o7777),
        ("+x", 0o644, 0o755),
        ("u+x", 0o644, 0o744),
        ("go-rwx", 0o755, 0o700),
        ("a=r", 0o755, 0o444),
        ("u=rwx,go=rx", 0, 0o755),
        ("g=u", 0o640, 0o660),
        ("o=g-w", 0o660, 0o664),
        ("go=u,o-w,a+X", 0o750, 0o775),
        ("a+X", 0o644, 0o644),
        ("a+X", 0o654, 0o755),
        ("u+s", 0o755, 0o4755),
        ("ug+s", 0o755, 0o6755),
        ("+t", 0o777, 0o1777),
        ("o=", 0o777, 0o770),
        ("u-s", 0o4755, 0o755),
        ("u+r-w+x", 0o200, 0o500),
        ("o+s", 0o755, 0o755),
    ],
)
def test_mode_of_a_file(text: str, mode: int, expected: int) -> None:
    assert oct(modes.parse(text).of(mode, directory=False)) == oct(expected)


def test_a_directory_may_always_be_entered() -> None:
    assert modes.parse("a+X").of(0o644, directory=True) == 0o755


@pytest.mark.parametrize("text", ["8", "888", "10000", "0x7", "7a"])
def test_no_number(text: str) -> None:
    with pytest.raises(BuildError) as caught:
        modes.parse(text)
    assert str(caught.value) == (
        f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
    )


@pytest.mark.parametrize("text", ["u", "u+q", "x", "+r,", ",", "u+r,g", "-1", "u =r"])
def test_nothing_symbolic(text: str) -> None:
    with pytest.raises(BuildError, match="invalid syntax"):
        modes.parse(text)
