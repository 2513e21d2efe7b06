import pytest
from coved.errors import InvalidParameter
from coved.images import platforms
from coved.images.documents import Platform
from coved.images.model import Image

IMAGE = Image("sha256:0", {"os": "linux", "architecture": "arm64", "variant": "v8"}, 0, ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux", ("linux", "", "")),
        ("amd64", ("linux", "amd64", "")),
        ("linux/x86_64", ("linux", "amd64", "")),
        ("Linux/AARCH64", ("linux", "arm64", "")),
        ("linux/arm64/v8", ("linux", "arm64", "")),
        ("linux/arm/v7", ("linux", "arm", "v7")),
        ("zz/nope", ("zz", "nope", "")),
    ],
)
def test_parse(text: str, expected: tuple[str, str, str]) -> None:
    assert platforms.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zz", '"zz": unknown operating system or architecture: invalid argument'),
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        ("linux//", 'is an invalid component of "linux//"'),
        ("", 'is an invalid component of ""'),
        ("linux/\0", "is an invalid component"),
    ],
)
def test_what_is_none(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        platforms.parse(text)
    assert message in str(refusal.value)


def test_matching() -> None:
    for text in ("linux", "linux/arm64", "linux/arm64/v8", "arm64"):
        assert platforms.rank(IMAGE.platform, platforms.asked(text)) is not None
    assert platforms.rank(IMAGE.platform, platforms.asked("linux/amd64")) is None
    assert str(platforms.mismatch("x:1", platforms.asked("linux/amd64"), IMAGE)) == (
        "image with reference x:1 was found but does not match the specified platform: "
        "wanted linux/amd64, actual: linux/arm64/v8"
    )


@pytest.mark.parametrize(
    ("architecture", "variant", "runs", "not_"),
    [
        ("amd64", "", ("linux/amd64/v1", "linux/amd64/v2", "linux/amd64/v3"), ("linux/amd64/x", "linux/arm64")),
        ("amd64", "v3", ("linux/amd64", "linux/amd64/v3", "linux/amd64/v4"), ("linux/amd64/v2",)),
        ("arm", "v6", ("linux/arm", "linux/arm/v7", "linux/arm/v6"), ("linux/arm/v5",)),
        ("arm", "", ("linux/arm/v7", "linux/arm/v8"), ("linux/arm/v6",)),
    ],
)
def test_newer_processors_run_what_was_made_for_older(
    architecture: str, variant: str, runs: tuple[str, ...], not_: tuple[str, ...]
) -> None:
    image = Platform("linux", architecture, variant)
    for text in runs:
        assert platforms.rank(image, platforms.asked(text)) is not None
    for text in not_:
        assert platforms.rank(image, platforms.asked(text)) is None


@pytest.mark.parametrize(
    ("wanted", "best_first"),
    [
        ("linux/arm/v7", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/amd64", ["linux/amd64", "linux/386", "linux/amd64/v3"]),
        ("linux/arm64", ["linux/arm64", "linux/arm/v8", "linux/arm/v7"]),
    ],
)
def test_the_nearest_comes_first(wanted: str, best_first: list[str]) -> None:
    def rank(text: str) -> int:
        found = platforms.rank(platforms.asked(text), platforms.asked(wanted))
        assert found is not None
        return found

    assert sorted(best_first, key=rank) == best_first
    assert len({rank(one) for one in best_first}) == 3
