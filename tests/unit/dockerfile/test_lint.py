"""The build checks: what is warned of, in BuildKit's words, and how Dockerfiles say what not to warn of."""

from __future__ import annotations

import time

import pytest
from coved.dockerfile.ignore import Matcher
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.lint import check, options_of, violation
from coved.dockerfile.parser import parse
from coved.dockerfile.rules import Options
from coved.dockerfile.stage_checks import BaseImage
from hypothesis import given
from hypothesis import strategies as st

_BASE = {"busybox": BaseImage({"PATH": "/bin", "HOME": "/root"}, platform="linux/amd64")}


def _found(text: str, **how: object) -> list[tuple[str, int, str]]:
    warnings = check(parse(text.encode()), **{"images": _BASE, **how})  # type: ignore[arg-type]
    return [(warning.rule, warning.location.first, warning.message) for warning in warnings]


@pytest.mark.parametrize(
    ("text", "rule", "line", "message"),
    [
        ("FROM a AS Base", "StageNameCasing", 1, "Stage name 'Base' should be lowercase"),
        ("FROM a as b", "FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match"),
        ("from a AS b", "FromAsCasing", 1, "'AS' and 'from' keywords' casing do not match"),
        ("FROM busybox\nRUN a \\\n\n  b", "NoEmptyContinuation", 4, "Empty continuation line"),
        (
            "FROM busybox\nrun x\nRUN y",
            "ConsistentInstructionCasing",
            2,
            "Command 'run' should match the case of the command majority (uppercase)",
        ),
        (
            "from busybox\nrun x\nRun y",
            "ConsistentInstructionCasing",
            3,
            "Command 'Run' should match the case of the command majority (lowercase)",
        ),
        (
            "FROM a AS b\nFROM a AS b",
            "DuplicateStageName",
            2,
            'Duplicate stage name "b", stage names should be unique',
        ),
        (
            "FROM a AS scratch",
            "ReservedStageName",
            1,
            'Stage name should not use the same name as reserved stage "scratch"',
        ),
        (
            "FROM busybox\nCMD run me",
            "JSONArgsRecommended",
            2,
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ),
        (
            "FROM busybox\nMAINTAINER me",
            "MaintainerDeprecated",
            2,
            "Maintainer instruction is deprecated in favor of using label",
        ),
        (
            "ARG vresion=1\nFROM busybox:1${version}",
            "UndefinedArgInFrom",
            2,
            "FROM argument 'version' is not declared (did you mean vresion?)",
        ),
        (
            "FROM busybox\nWORKDIR a",
            "WorkdirRelativePath",
            2,
            'Relative workdir "a" can have unexpected results if the base image changes',
        ),
        (
            "FROM busybox\nENV PATH=$PAHT:/x",
            "UndefinedVar",
            2,
            "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        ),
        ("FROM busybox\nCOPY $unknown /", "UndefinedVar", 2, "Usage of undefined variable '$unknown'"),
        ("FROM busybox\nCOPY <<EOF /\n$unknown\nEOF", "UndefinedVar", 2, "Usage of undefined variable '$unknown'"),
        ("FROM busybox\nARG a=$unknown", "UndefinedVar", 2, "Usage of undefined variable '$unknown'"),
        (
            'FROM busybox\nCMD ["a"]\nCMD ["b"]',
            "MultipleInstructionsDisallowed",
            2,
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM busybox\nHEALTHCHECK NONE\nHEALTHCHECK CMD x",
            "MultipleInstructionsDisallowed",
            2,
            "Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM busybox\nLABEL a b",
            "LegacyKeyValueFormat",
            2,
            '"LABEL key=value" should be used instead of legacy "LABEL key value" format',
        ),
        (
            "FROM --platform=${TARGETPLATFORM} busybox",
            "RedundantTargetPlatform",
            1,
            "Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
        ),
        (
            "FROM busybox\nENV my_Secret=1 sunflower=2 PUBLIC_KEY=3 password_file=4",
            "SecretsUsedInArgOrEnv",
            2,
            'Do not use ARG or ENV instructions for sensitive data (ENV "my_Secret")',
        ),
        (
            "FROM busybox\nARG apikey",
            "SecretsUsedInArgOrEnv",
            2,
            'Do not use ARG or ENV instructions for sensitive data (ARG "apikey")',
        ),
        (
            "ARG TAG\nFROM busybox:$TAG",
            "InvalidDefaultArgInFrom",
            2,
            "Default value for ARG busybox:$TAG results in empty or invalid base image name",
        ),
        (
            "FROM --platform=linux/amd64 busybox",
            "FromPlatformFlagConstDisallowed",
            1,
            'FROM --platform flag should not use constant value "linux/amd64"',
        ),
        (
            "FROM busybox\nEXPOSE 80/TCP",
            "ExposeProtoCasing",
            2,
            "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        ),
        (
            "FROM busybox\nEXPOSE 127.0.0.1:80:80",
            "ExposeInvalidFormat",
            2,
            "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ),
        (
            "FROM --platform=$BUILDPLATFORM busybox",
            "InvalidBaseImagePlatform",
            1,
            'Base image busybox was pulled with platform "linux/amd64", expected "linux/arm64" for current build',
        ),
    ],
)
def test_a_warning(text: str, rule: str, line: int, message: str) -> None:
    build = "linux/arm64" if rule == "InvalidBaseImagePlatform" else "linux/amd64"
    arguments = {"BUILDPLATFORM": build, "TARGETPLATFORM": "linux/amd64"}
    assert _found(text, arguments=arguments, build_args={"TAG": "1"}) == [(rule, line, message)]


@pytest.mark.parametrize(
    "text",
    [
        "FROM busybox AS b",
        "from busybox as b",
        'FROM busybox\nCMD ["a"]\nENTRYPOINT ["a"]',
        'FROM busybox\nSHELL ["sh"]\nCMD x',
        'FROM busybox AS a\nSHELL ["sh"]\nFROM a\nCMD x',
        'FROM busybox AS a\nCMD ["x"]\nFROM a\nCMD ["y"]',
        "FROM busybox\nWORKDIR /a\nWORKDIR b",
        "FROM busybox AS a\nWORKDIR /a\nFROM a\nWORKDIR b",
        "FROM busybox\nARG foo\nCOPY x${foo} /",
        "FROM busybox AS a\nARG foo\nFROM a\nCOPY x${foo} /",
        "FROM busybox\nWORKDIR $HOME",
        "FROM busybox\nRUN echo $anything",
        "FROM busybox\nARG a=1 b=$a\nARG BUILDKIT_SBOM_SCAN_STAGE=1",
        "FROM unknown\nWORKDIR $whatever_it_has",
        "FROM --platform=$BUILDPLATFORM busybox",
        "FROM --platform=linux/amd64 busybox AS amd64-stage",
        "ARG BUILDPLATFORM\nFROM --platform=${BUILDPLATFORM:-linux/amd64} busybox",
        "ARG A\nFROM busybox${A}",
        "ARG X=busybox\nFROM $X",
        "FROM busybox AS a\nONBUILD ARG trigger\nFROM a\nCOPY $trigger /",
        "FROM busybox AS a\nCOPY $unknown /\nFROM busybox",
        "FROM busybox\nEXPOSE 80/udp 90-92",
        "FROM busybox\n# check=skip=JSONArgsRecommended // why\nCMD x",
        "FROM busybox\n# check=skip=all\nENV secret=1",
        "# check=skip=all\nFROM a AS B\ncmd x",
        "# check=skip=StageNameCasing,JSONArgsRecommended\nFROM a AS B\nCMD x",
        "\n# check=skip=RedundantTargetPlatform\nFROM --platform=$TARGETPLATFORM busybox",
        "#!/usr/bin/env x\n# check=skip=all\nFROM a AS B",
    ],
)
def test_no_warnings(text: str) -> None:
    assert _found(text) == []


def test_what_goes_into_other_stages_is_checked_as_well() -> None:
    text = "FROM busybox AS a\nCOPY $x /\nFROM busybox AS b\nCOPY $y /\nFROM busybox\nCOPY --from=a $z /\nRUN --mount=from=b x"
    assert [line for _, line, _ in _found(text)] == [2, 4, 6]
    assert [line for _, line, _ in _found(text, target="b")] == [4]
    assert [line for _, line, _ in _found(text.replace("from=a", "from=0"), target="")] == [2, 4, 6]


def test_files_that_stay_behind() -> None:
    text = "FROM busybox\nCOPY taken . left /\nADD left/file https://x/left /\nCOPY --from=busybox left /"
    assert _found(text, ignore=Matcher(["left"])) == [
        ("CopyIgnoredFile", 2, 'Attempting to Copy file "left" that is excluded by .dockerignore'),
        ("CopyIgnoredFile", 3, 'Attempting to Add file "left/file" that is excluded by .dockerignore'),
    ]
    assert _found(text, ignore=Matcher(["left", "!left/file"])) == []
    assert [message for *_, message in _found("FROM busybox\nCOPY . /", ignore=Matcher(["*"]))] == [
        'Attempting to Copy file "." that is excluded by .dockerignore'
    ]
    assert _found("FROM busybox\nCOPY . /", ignore=Matcher([".*"])) == []


def test_descriptions_are_an_experiment() -> None:
    text = "# check=experimental=InvalidDefinitionDescription\n# other\nARG a\n# b it is\nFROM busybox AS b\n# no\nARG c d\n#\nARG e"
    assert _found(text) == [
        ("InvalidDefinitionDescription", 3, "Comment for ARG should follow the format: `# a <description>`"),
        ("InvalidDefinitionDescription", 7, "Comment for ARG should follow the format: `# <arg_key> <description>`"),
    ]
    assert _found(text.partition("\n")[2]) == []
    assert len(_found(text.replace("InvalidDefinitionDescription", "all"))) == 2


def test_a_page_of_a_rule() -> None:
    [warning] = check(parse(b"FROM a\nCMD x"))
    assert warning.url == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    assert warning.description.startswith("JSON arguments recommended for ENTRYPOINT/CMD")


def test_warnings_that_end_the_build() -> None:
    dockerfile = parse(b"# check=skip=JSONArgsRecommended;error=true\nFROM busybox AS A\nCMD x\nENV a b")
    options = options_of(dockerfile)
    warnings = check(dockerfile)
    assert violation(warnings, options) == "lint violation found for rules: StageNameCasing, LegacyKeyValueFormat"
    assert violation([], options) == ""
    assert violation(warnings, options_of(dockerfile, "skip=StageNameCasing")) == ""
    assert [warning.rule for warning in check(dockerfile, options=options_of(dockerfile, ""))] == [
        "StageNameCasing",
        "JSONArgsRecommended",
        "LegacyKeyValueFormat",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skip", 'invalid check option "skip"'),
        ("foo=bar", 'invalid check option "foo"'),
        (
            "error=maybe",
            'failed to parse check option "error=maybe": strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_options_that_are_none(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        options_of(parse(b"FROM a"), text)
    assert str(caught.value) == f"failed to parse check options: {message}"


def test_options() -> None:
    assert Options.parse(" skip=A, B;error=1;experimental=all ") == Options(
        skip=frozenset({"A", "B"}), error=True, experimental_all=True
    )
    assert Options.parse("") == Options()


def test_hostile_files_take_no_longer() -> None:
    start = time.perf_counter()
    found = _found("FROM busybox\n" + "".join(f"ENV A{i}=$B{i}\n" for i in range(3000)))
    assert len(found) == 3000
    assert time.perf_counter() - start < 5


_step = st.sampled_from(
    "ENV a=$b;ARG a=$a;ARG c;WORKDIR $a;EXPOSE $a 80:80;CMD x;ONBUILD ENV q=$r;COPY --from=0 $a /;COPY --from=x . .;"
    "USER ${a:?no};SHELL [];RUN --mount=from=x,target=/y z;HEALTHCHECK NONE;VOLUME $v;FROM $a;FROM x AS x;FROM scratch".split(
        ";"
    )
)


@given(st.lists(_step, max_size=12))
def test_checks_of_whatever_is_a_dockerfile(steps: list[str]) -> None:
    try:
        dockerfile = parse("\n".join(["ARG a", "FROM busybox AS x", *steps]).encode())
    except DockerfileError:
        return
    check(dockerfile, images=_BASE)
