"""COPY --parents, as BuildKit's own integration tests have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from coved.build.errors import BuildError
from coved.build.files.hashing import digest
from coved.build.orders import CopyOrder, Files

from build_copy_support import Target, write

pytestmark = pytest.mark.root
FILES = (
    "test/a/b/c/d/foo", "test/a/b/c/d/e/bay", "test/a/b2/c/d/e/bar", "test/a/b/c2/d/e/baz", "test/a/b/c2/d/e2/baz"
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    for path in FILES:
        write(root, path, path)
    return root


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["/test/a/b/./c/d"], {"c/d/foo", "c/d/e/bay"}),
        (["/test/a/b/c/d/."], {"test/a/b/c/d/foo", "test/a/b/c/d/e/bay"}),
        (["./test/a/b/c/d"], {"test/a/b/c/d/foo", "test/a/b/c/d/e/bay"}),
        (["/test/a/./b/./c"], {"b/c/d/foo", "b/c/d/e/bay"}),
        (["/test/a/./*/c"], {"b/c/d/foo", "b/c/d/e/bay", "b2/c/d/e/bar"}),
        (["/test/a/b*/./c/**/e"], {"c/d/e/bay", "c/d/e/bar"}),
        (["/test/a/b/c*/./d/**/baz", "/test/a/b*/./c/**/bar"], {"d/e/baz", "d/e2/baz", "c/d/e/bar"}),
        (["/test/a/b2x*/c"], set()),
        (["/test/a/b/./c3*"], set()),
        (["/test/./**"], {path.removeprefix("test/") for path in FILES}),
    ],
)
@pytest.mark.parametrize("destination", ["/out", "/out/"])
def test_what_is_copied(sources: list[str], expected: set[str], destination: str, source: Path, tmp_path: Path) -> None:
    target = Target(tmp_path / "t", None)
    target.copy(CopyOrder((), destination, Files(source), sources, parents=True))
    out = target.upper / "out"
    copied = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert copied.keys() == expected
    assert all(text.endswith(path) for path, text in copied.items())
    folders = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_dir()}
    assert folders == {str(folder) for path in expected for folder in Path(path).parents if str(folder) != "."}


def test_a_plain_path_must_be_there(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match='"/test/nonexistent-file": not found'):
        digest(["/test/nonexistent-file"], directory=source, parents=True, ref="x")
    with pytest.raises(BuildError, match='"/test/nonexistent-file": not found'):
        Target(tmp_path / "t", None).copy(
            CopyOrder((), "/out/", Files(source), ["/test/./nonexistent-file"], parents=True)
        )
