"""What COPY and ADD make of their sources: cases that were built by Docker's BuildKit as well, and what it made of them.

Most expectations are those of dockerd 26.1 (BuildKit 0.12). Where BuildKit has changed since then they are the present
sources' (fsutil's copy and file/unpack.go of BuildKit): ``--chmod`` gives its mode to folders that are made, ``--chown``
is for what is unpacked, too; ``--link``, ``--parents`` and ``--exclude`` were not there or did nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coved.build.errors import BuildError
from coved.build.orders import CopyOrder, Files

from build_copy_support import STAMP, Target, give, make_base, make_source, stamp

pytestmark = pytest.mark.root

Expected = list[str] | str
"""What is new or different, or what goes wrong."""


def case(
    name: str, sources: list[str], destination: str, expected: Expected, *, stage: bool = False, scratch: bool = False,
    **order: Any,
) -> Any:  # fmt: skip
    """``stage``: what is copied belongs to 5:6; ``scratch``: there is nothing below."""
    made = CopyOrder((), destination, sources=sources, **order)
    return pytest.param(made, stage, scratch, expected, id=name)


# fmt: off
CASES = [
    case("file_to_file", ["a.txt"], "/x", ["/x f 644 0:0 <a> T"]),
    case("file_to_folder", ["a.txt"], "/x/", [
        "/x d 755 0:0",
        "/x/a.txt f 644 0:0 <a> T",
    ]),
    case("file_to_dot", ["a.txt"], "/x/.", [
        "/x d 755 0:0",
        "/x/a.txt f 644 0:0 <a> T",
    ]),
    case("file_deep", ["run.sh"], "/n1/n2/x", [
        "/n1 d 755 0:0",
        "/n1/n2 d 755 0:0",
        "/n1/n2/x f 755 0:0 <#!> T",
    ]),
    case("file_to_existing_dir", ["a.txt"], "/existing", ["/existing/a.txt f 644 0:0 <a> T"]),
    case("file_to_linked_dir", ["a.txt"], "/todir", ["/existing/a.txt f 644 0:0 <a> T"]),
    case("file_to_linked_dir_slash", ["a.txt"], "/todir/", ["/existing/a.txt f 644 0:0 <a> T"]),
    case("file_to_dangling", ["a.txt"], "/tonew", [
        "/made d 755 0:0",
        "/made/later f 644 0:0 <a> T",
    ]),
    case("file_to_dangling_slash", ["a.txt"], "/tonew/", [
        "/made d 755 0:0",
        "/made/later d 755 0:0",
        "/made/later/a.txt f 644 0:0 <a> T",
    ]),
    case("file_to_escape", ["a.txt"], "/escape/", ["/existing/a.txt f 644 0:0 <a> T"]),
    case("file_over_file", ["a.txt"], "/file", ["/file f 644 0:0 <a> T"]),
    case("file_over_link_to_file", ["a.txt"], "/tofile", ["/file f 644 0:0 <a> T"]),
    case("file_below_file", ["a.txt"], "/file/x", "mkdir /file: not a directory"),
    case("file_to_root", ["a.txt"], "/", ["/a.txt f 644 0:0 <a> T"]),
    case("dir_contents", ["dir"], "/x", [
        "/x d 755 0:0 T",
        "/x/empty d 755 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/one.txt f 600 0:0 <1> T",
        "/x/sub d 755 0:0 T",
        "/x/sub/deep d 755 0:0 T",
        "/x/sub/deep/three.md f 644 0:0 <3> T",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ]),
    case("dir_contents_slash", ["dir/"], "/x/", [
        "/x d 755 0:0 T",
        "/x/empty d 755 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/one.txt f 600 0:0 <1> T",
        "/x/sub d 755 0:0 T",
        "/x/sub/deep d 755 0:0 T",
        "/x/sub/deep/three.md f 644 0:0 <3> T",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ]),
    case("dir_to_existing", ["dir"], "/existing", [
        "/existing d 700 0:0 T",
        "/existing/empty d 755 0:0 T",
        "/existing/link l 777 0:0 one.txt T",
        "/existing/one.txt f 600 0:0 <1> T",
        "/existing/sub d 755 0:0 T",
        "/existing/sub/deep d 755 0:0 T",
        "/existing/sub/deep/three.md f 644 0:0 <3> T",
        "/existing/sub/two.txt f 644 0:0 <2> T",
    ]),
    case("dir_to_file", ["dir"], "/file", "cannot copy to non-directory: /file"),
    case("dir_conflict_file", ["dir"], "/conflict", "cannot copy to non-directory: /conflict/sub"),
    case("dir_conflict_dir", ["dir"], "/conflict2", "cannot replace to directory /conflict2/one.txt with file"),
    case("dir_conflict_link", ["dir"], "/conflict3", "cannot copy to non-directory: /conflict3/sub"),
    case("file_over_nested_link", ["dir/one.txt"], "/conflict3/", ["/conflict3/one.txt f 600 0:0 <1> T"]),
    case("all", ["."], "/x", [
        "/x d 755 0:0 T",
        "/x/a.txt f 644 0:0 <a> T",
        "/x/abs l 777 0:0 /a.txt T",
        "/x/arr[0].txt f 644 0:0 <arr> T",
        "/x/dangling l 777 0:0 nowhere T",
        "/x/dir d 750 0:0 T",
        "/x/dir/empty d 755 0:0 T",
        "/x/dir/link l 777 0:0 one.txt T",
        "/x/dir/one.txt f 600 0:0 <1> T",
        "/x/dir/sub d 755 0:0 T",
        "/x/dir/sub/deep d 755 0:0 T",
        "/x/dir/sub/deep/three.md f 644 0:0 <3> T",
        "/x/dir/sub/two.txt f 644 0:0 <2> T",
        "/x/dir2 d 755 0:0 T",
        "/x/dir2/b.md f 644 0:0 <b> T",
        "/x/hard d 755 0:0 T",
        "/x/hard/h1 f 644 0:0 <h> T",
        "/x/hard/h2 h 644 0:0 /x/hard/h1 T",
        "/x/link l 777 0:0 a.txt T",
        "/x/linkdir l 777 0:0 dir T",
        "/x/loop l 777 0:0 loop T",
        "/x/no.tar f 644 0:0 <no archive> T",
        "/x/out l 777 0:0 ../../a.txt T",
        "/x/run.sh f 755 0:0 <#!> T",
        "/x/setid f 4755 0:0 <s> T",
        "/x/x.bin f 644 0:0 10240 bytes T",
        "/x/x.tar f 644 0:0 10240 bytes T",
        "/x/x.tgz f 644 0:0 193 bytes T",
        "/x/zero.tar f 644 0:0 10240 bytes T",
    ]),
    case("two_files", ["a.txt", "run.sh"], "/x/", [
        "/x d 755 0:0",
        "/x/a.txt f 644 0:0 <a> T",
        "/x/run.sh f 755 0:0 <#!> T",
    ]),
    case("file_and_dir", ["a.txt", "dir2"], "/x/", [
        "/x d 755 0:0 T",
        "/x/a.txt f 644 0:0 <a> T",
        "/x/b.md f 644 0:0 <b> T",
    ]),
    case("glob", ["*.sh"], "/x/", [
        "/x d 755 0:0",
        "/x/run.sh f 755 0:0 <#!> T",
    ]),
    case("glob_many", ["*.t*"], "/x/", [
        "/x d 755 0:0",
        "/x/a.txt f 644 0:0 <a> T",
        "/x/arr[0].txt f 644 0:0 <arr> T",
        "/x/no.tar f 644 0:0 <no archive> T",
        "/x/x.tar f 644 0:0 10240 bytes T",
        "/x/x.tgz f 644 0:0 193 bytes T",
        "/x/zero.tar f 644 0:0 10240 bytes T",
    ]),
    case("glob_many_no_slash", ["[ar]*t"], "/x", ["/x f 644 0:0 <arr> T"]),
    case("glob_dirs", ["dir*"], "/x/", [
        "/x d 755 0:0 T",
        "/x/b.md f 644 0:0 <b> T",
        "/x/empty d 755 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/one.txt f 600 0:0 <1> T",
        "/x/sub d 755 0:0 T",
        "/x/sub/deep d 755 0:0 T",
        "/x/sub/deep/three.md f 644 0:0 <3> T",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ]),
    case("glob_middle", ["dir*/*.md"], "/x/", [
        "/x d 755 0:0",
        "/x/b.md f 644 0:0 <b> T",
    ]),
    case("glob_question", ["r?n.sh"], "/x/", [
        "/x d 755 0:0",
        "/x/run.sh f 755 0:0 <#!> T",
    ]),
    case("glob_none", ["*.none"], "/x/", []),
    case("glob_escaped", ["arr[[]0].txt"], "/x/", [
        "/x d 755 0:0",
        "/x/arr[0].txt f 644 0:0 <arr> T",
    ]),
    case("glob_stars", ["**/three.md"], "/x/", []),
    case("missing", ["nothing"], "/x", '"/nothing": not found'),
    case("missing_deep", ["dir/nothing/x"], "/x", '"/dir/nothing/x": not found'),
    case("up", ["../../a.txt"], "/x", ["/x f 644 0:0 <a> T"]),
    case("slash", ["/a.txt"], "/x/", [
        "/x d 755 0:0",
        "/x/a.txt f 644 0:0 <a> T",
    ]),
    case("file_slash", ["a.txt/"], "/x/", [
        "/x d 755 0:0",
        "/x/a.txt f 644 0:0 <a> T",
    ]),
    case("link", ["link"], "/x/", [
        "/x d 755 0:0",
        "/x/link f 644 0:0 <a> T",
    ]),
    case("link_to_dir", ["linkdir"], "/x/", [
        "/x d 755 0:0 T",
        "/x/empty d 755 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/one.txt f 600 0:0 <1> T",
        "/x/sub d 755 0:0 T",
        "/x/sub/deep d 755 0:0 T",
        "/x/sub/deep/three.md f 644 0:0 <3> T",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ]),
    case("link_abs", ["abs"], "/x/", [
        "/x d 755 0:0",
        "/x/abs f 644 0:0 <a> T",
    ]),
    case("link_out", ["out"], "/x/", [
        "/x d 755 0:0",
        "/x/out f 644 0:0 <a> T",
    ]),
    case("through_link", ["linkdir/sub"], "/x/", [
        "/x d 755 0:0 T",
        "/x/deep d 755 0:0 T",
        "/x/deep/three.md f 644 0:0 <3> T",
        "/x/two.txt f 644 0:0 <2> T",
    ]),
    case("dangling", ["dangling"], "/x/", '"/dangling": not found'),
    case("loop", ["loop"], "/x/", "too many links"),
    case("hard", ["hard"], "/x/", [
        "/x d 755 0:0 T",
        "/x/h1 f 644 0:0 <h> T",
        "/x/h2 h 644 0:0 /x/h1 T",
    ]),
    case("setid", ["setid"], "/x/", [
        "/x d 755 0:0",
        "/x/setid f 4755 0:0 <s> T",
    ]),
    case("chown_number", ["a.txt"], "/n/x", [
        "/n d 755 55:55",
        "/n/x f 644 55:55 <a> T",
    ], chown="55"),
    case("chown_numbers", ["dir"], "/n/x", [
        "/n d 755 55:66",
        "/n/x d 755 55:66 T",
        "/n/x/empty d 755 55:66 T",
        "/n/x/link l 777 55:66 one.txt T",
        "/n/x/one.txt f 600 55:66 <1> T",
        "/n/x/sub d 755 55:66 T",
        "/n/x/sub/deep d 755 55:66 T",
        "/n/x/sub/deep/three.md f 644 55:66 <3> T",
        "/n/x/sub/two.txt f 644 55:66 <2> T",
    ], chown="55:66"),
    case("chown_name", ["a.txt"], "/existing/", ["/existing/a.txt f 644 1001:1002 <a> T"], chown="app"),
    case("chown_names", ["a.txt"], "/x", ["/x f 644 1001:50 <a> T"], chown="app:staff"),
    case("chown_mixed", ["a.txt"], "/x", ["/x f 644 3:50 <a> T"], chown="3:staff"),
    case("chown_unknown", ["a.txt"], "/x", ["/x f 644 0:0 <a> T"], chown="nobody"),
    case("chmod", ["dir"], "/x", [
        "/x d 640 0:0 T",
        "/x/empty d 640 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/one.txt f 640 0:0 <1> T",
        "/x/sub d 640 0:0 T",
        "/x/sub/deep d 640 0:0 T",
        "/x/sub/deep/three.md f 640 0:0 <3> T",
        "/x/sub/two.txt f 640 0:0 <2> T",
    ], chmod="640"),
    case("chmod_setid", ["a.txt"], "/n/x", [
        "/n d 751 0:0",
        "/n/x f 4751 0:0 <a> T",
    ], chmod="4751"),
    case("chmod_bad", ["a.txt"], "/x", "invalid chmod parameter: '888'. it should be octal string and between 0 and 07777", chmod="888"),
    case("stage", ["dir"], "/x", [
        "/x d 755 0:0 T",
        "/x/empty d 755 5:6 T",
        "/x/link l 777 5:6 one.txt T",
        "/x/one.txt f 600 5:6 <1> T",
        "/x/sub d 755 5:6 T",
        "/x/sub/deep d 755 5:6 T",
        "/x/sub/deep/three.md f 644 5:6 <3> T",
        "/x/sub/two.txt f 644 5:6 <2> T",
    ], stage=True),
    case("stage_file", ["a.txt"], "/x", ["/x f 644 5:6 <a> T"], stage=True),
    case("stage_chown", ["dir"], "/x", [
        "/x d 755 0:0 T",
        "/x/empty d 755 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/one.txt f 600 0:0 <1> T",
        "/x/sub d 755 0:0 T",
        "/x/sub/deep d 755 0:0 T",
        "/x/sub/deep/three.md f 644 0:0 <3> T",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ], chown="0:0", stage=True),
    case("link_flag", ["a.txt"], "/todir/", [
        "/todir d 755 0:0",
        "/todir/a.txt f 644 0:0 <a> T",
    ], link=True),
    case("link_flag_chown", ["a.txt"], "/x", "invalid user index: -1", link=True, chown="app"),
    case("add_tar", ["x.tar"], "/x", [
        "/x d 755 0:0",
        "/x/keep.txt f 640 7:8 <new> T",
        "/x/l l 777 7:8 td/in.txt T",
        "/x/sub d 755 0:0",
        "/x/sub/x f 640 7:8 <x> T",
        "/x/td d 710 7:8 T",
        "/x/td/in.txt f 640 7:8 <in> T",
    ], unpack=True),
    case("add_tgz_existing", ["x.tgz"], "/existing/", [
        "/existing/keep.txt f 640 7:8 <new> T",
        "/existing/l l 777 7:8 td/in.txt T",
        "/existing/sub d 755 0:0",
        "/existing/sub/x f 640 7:8 <x> T",
        "/existing/td d 710 7:8 T",
        "/existing/td/in.txt f 640 7:8 <in> T",
    ], unpack=True),
    case("add_tar_chown", ["x.bin"], "/x", [
        "/x d 755 3:4",
        "/x/keep.txt f 640 3:4 <new> T",
        "/x/l l 777 3:4 td/in.txt T",
        "/x/sub d 755 0:0",
        "/x/sub/x f 640 3:4 <x> T",
        "/x/td d 710 3:4 T",
        "/x/td/in.txt f 640 3:4 <in> T",
    ], chown="3:4", unpack=True),
    case("add_tar_conflict", ["x.tar"], "/conflict", "cannot unpack 'sub/x': not a directory", unpack=True),
    case("add_tar_conflict3", ["x.tar"], "/conflict3", "cannot unpack 'sub/x': no such file or directory", unpack=True),
    case("add_no_tar", ["no.tar"], "/x/", [
        "/x d 755 0:0",
        "/x/no.tar f 644 0:0 <no archive> T",
    ], unpack=True),
    case("add_zero_tar", ["zero.tar"], "/x/", [
        "/x d 755 0:0",
        "/x/zero.tar f 644 0:0 10240 bytes T",
    ], unpack=True),
    case("add_glob", ["x.*", "a.txt"], "/x/", [
        "/x d 755 0:0",
        "/x/a.txt f 644 0:0 <a> T",
        "/x/keep.txt f 640 7:8 <new> T",
        "/x/l l 777 7:8 td/in.txt T",
        "/x/sub d 755 0:0",
        "/x/sub/x f 640 7:8 <x> T",
        "/x/td d 710 7:8 T",
        "/x/td/in.txt f 640 7:8 <in> T",
    ], unpack=True),
    case("add_tar_on_file", ["x.tar"], "/file", "mkdir /file: not a directory", unpack=True),
    case("copy_tar", ["x.tar"], "/x/", [
        "/x d 755 0:0",
        "/x/x.tar f 644 0:0 10240 bytes T",
    ]),
    case("heredoc", [], "/x", ["/x f 644 0:0 <hi\n>"], contents={"name": b"hi\n"}),
    case("heredoc_folder", [], "/x/", [
        "/x d 755 0:0",
        "/x/b f 755 0:0 <b\n>",
        "/x/name f 755 0:0 <hi\n>",
    ], contents={"name": b"hi\n", "b": b"b\n"}, chmod="755"),
    case("scratch_chown_name", ["a.txt"], "/x", "invalid user index: -1", chown="app", scratch=True),
    case("workdir", [], "/w/x", [
        "/w d 755 0:0",
        "/w/x d 755 0:0",
    ], make_directory=True),
    case("workdir_user", [], "/w/x", [
        "/w d 755 1001:1002",
        "/w/x d 755 1001:1002",
    ], chown="app", make_directory=True),
    case("parents", ["dir/sub/two.txt", "a.txt"], "/x/", [
        "/x d 755 0:0 T",
        "/x/a.txt f 644 0:0 <a> T",
        "/x/dir d 750 0:0",
        "/x/dir/sub d 755 0:0",
        "/x/dir/sub/two.txt f 644 0:0 <2> T",
    ], parents=True),
    case("parents_glob", ["dir*/*.md", "**/two.txt"], "/x/", [
        "/x d 755 0:0 T",
        "/x/dir d 750 0:0",
        "/x/dir/sub d 755 0:0",
        "/x/dir/sub/two.txt f 644 0:0 <2> T",
        "/x/dir2 d 755 0:0",
        "/x/dir2/b.md f 644 0:0 <b> T",
    ], parents=True),
    case("parents_pivot", ["dir/./sub/two.txt"], "/x/", [
        "/x d 755 0:0 T",
        "/x/sub d 755 0:0",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ], parents=True),
    case("parents_dir", ["dir/sub"], "/existing/", [
        "/existing d 700 0:0 T",
        "/existing/dir d 750 0:0",
        "/existing/dir/sub d 755 0:0 T",
        "/existing/dir/sub/deep d 755 0:0 T",
        "/existing/dir/sub/deep/three.md f 644 0:0 <3> T",
        "/existing/dir/sub/two.txt f 644 0:0 <2> T",
    ], parents=True),
    case("parents_missing", ["dir/nothing"], "/x/", '"/dir/nothing": not found', parents=True),
    case("parents_glob_none", ["dir/*.none"], "/x/", ["/x d 755 0:0 T"], parents=True),
    case("exclude", ["dir"], "/x/", [
        "/x d 755 0:0 T",
        "/x/empty d 755 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/sub d 755 0:0 T",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ], excludes=("*.txt", "sub/deep")),
    case("exclude_exception", ["dir"], "/x/", [
        "/x d 755 0:0 T",
        "/x/sub d 755 0:0",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ], excludes=("*", "!sub/two.txt")),
    case("exclude_all_below", ["dir"], "/x/", [
        "/x d 755 0:0 T",
        "/x/empty d 755 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/one.txt f 600 0:0 <1> T",
        "/x/sub d 755 0:0 T",
        "/x/sub/deep d 755 0:0 T",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ], excludes=("**/*.md",)),
    case("exclude_not_the_source", ["a.txt"], "/x/", [
        "/x d 755 0:0",
        "/x/a.txt f 644 0:0 <a> T",
    ], excludes=("*.txt",)),
    case("chmod_symbolic", ["dir"], "/x/", [
        "/x d 755 0:0 T",
        "/x/empty d 775 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/one.txt f 664 0:0 <1> T",
        "/x/sub d 775 0:0 T",
        "/x/sub/deep d 775 0:0 T",
        "/x/sub/deep/three.md f 664 0:0 <3> T",
        "/x/sub/two.txt f 664 0:0 <2> T",
    ], chmod="go=u,o-w,a+X"),
    case("chmod_symbolic_bad", ["dir"], "/x/", "invalid syntax", chmod="u+q"),
    case("several_to_scratch", ["dir", "run.sh"], "/x/", [
        "/x d 755 0:0",
        "/x/empty d 755 0:0 T",
        "/x/link l 777 0:0 one.txt T",
        "/x/one.txt f 600 0:0 <1> T",
        "/x/run.sh f 755 0:0 <#!> T",
        "/x/sub d 755 0:0 T",
        "/x/sub/deep d 755 0:0 T",
        "/x/sub/deep/three.md f 644 0:0 <3> T",
        "/x/sub/two.txt f 644 0:0 <2> T",
    ], scratch=True),
]
# fmt: on


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("trees")
    made = {"context": make_source(place / "s"), "stage": make_source(place / "st"), "base": make_base(place / "b")}
    give(made["stage"], 5, 6)
    stamp(made["stage"], STAMP)
    return made


@pytest.mark.parametrize(("order", "stage", "scratch", "expected"), CASES)
def test_is_copied_as_docker_does(
    order: CopyOrder, stage: bool, scratch: bool, expected: Expected, trees: dict[str, Path], tmp_path: Path
) -> None:

    target = Target(tmp_path, None if scratch else trees["base"])
    order = replace(order, files=Files(trees["stage" if stage else "context"]))
    if isinstance(expected, str):
        with pytest.raises(BuildError) as caught:
            target.copy(order)
        assert str(caught.value) == expected
    else:
        target.copy(order)
        assert target.changes() == expected
