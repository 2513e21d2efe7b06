"""Variables replaced: BuildKit's words and modifiers, and which fields of which instruction they stand in."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from coved.dockerfile import words
from coved.dockerfile.expansion import Expander, expand, expand_text, expand_title
from coved.dockerfile.instructions import Copy, DockerfileError, Expose, Heredoc, Mount, Run
from coved.dockerfile.parser import parse_instruction
from hypothesis import given
from hypothesis import strategies as st

_ENVIRONMENT = {"A": "value", "EMPTY": "", "PATH": "/usr/local/bin:/bin", "S": "two  words", "한": "국", "_x1": "y"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("$A", "value"),
        ("$A$A", "valuevalue"),
        ("${A}s", "values"),
        ("$As", ""),
        ("$_x1-$한", "y-국"),
        ("$", "$"),
        ("a$/b$ c", "a$/b$ c"),
        ("$1a", "a"),
        ("$12a", "a"),
        ("$@$*$#$?$$$!", ""),
        ("\\$A", "$A"),
        ("\\a\\\\", "a\\"),
        ("a\\", "a"),
        ("'$A \\' b", "$A \\ b"),
        ('"$A \\" \\$A \\a \\\\"', 'value " $A \\a \\'),
        ("\"it's\" 'a\"b'", "it's a\"b"),
        ("${N-d}|${EMPTY-d}|${A-d}", "d||value"),
        ("${N:-d}|${EMPTY:-d}|${A:-d}", "d|d|value"),
        ("${N+d}|${EMPTY+d}|${A+d}", "|d|d"),
        ("${N:+d}|${EMPTY:+d}|${A:+d}", "||d"),
        ("${A?no}|${A:?no}|${EMPTY?no}", "value|value|"),
        ("${N:-${A}x}", "valuex"),
        ("${N:-${M:-${A:+deep}}}", "deep"),
        ("${N:-'}'}${N:-\"}\"}", "}}"),
        ("${N:-a\\}b}", "a}b"),
        ("${N:-$A b}", "value b"),
        ("${PATH#*/}", "usr/local/bin:/bin"),
        ("${PATH##*/}", "bin"),
        ("${PATH%/*}", "/usr/local/bin:"),
        ("${PATH%%/*}", ""),
        ("${PATH%%:*}", "/usr/local/bin"),
        ("${A#?}", "alue"),
        ("${A%%?}", "valu"),
        ("${A#x}", "value"),
        ("${A#}${A%}", "valuevalue"),
        ("${A#${N:-va}}", "lue"),
        ("${PATH/bin/sbin}", "/usr/local/sbin:/bin"),
        ("${PATH//bin/sbin}", "/usr/local/sbin:/sbin"),
        ("${PATH//\\//-}", "-usr-local-bin:-bin"),
        ("${PATH/l*n/X}", "/usr/X"),
        ("${PATH//bin/}", "/usr/local/:/"),
        ("${A//?/x}", "xxxxx"),
        ("${A//*/x}", "x"),
        ("${A///x}", "xvxaxlxuxex"),
        ("${A/v/$A}", "valuealue"),
        ("${A//v/[$0]}", "[]alue"),
        ("${A//v/[\\$0]}", "[\\v]alue"),
        ("${N//a/b}${N/a/b}", ""),
        ("a<b <<c", "a<b <<c"),
        ("${A:-unused $(x)}", "value"),
    ],
)
def test_texts(text: str, result: str) -> None:
    assert expand_text(text, _ENVIRONMENT) == result


@pytest.mark.parametrize(
    ("pattern", "value", "shortest", "longest"),
    [
        ("a*c", "abcabcx", "abcx", "x"),
        ("*", "abc", "abc", ""),
        ("a?c", "abcd", "d", "d"),
        ("\\*x", "*xy", "y", "y"),
        ("\\?\\\\", "?\\y", "y", "y"),
        ("a.c", "abc", "abc", "abc"),
        ("()[]{}^$.+|", "()[]{}^$.+|z", "z", "z"),
        ("*b*", "abab", "ab", ""),
        ("*b", "a\nb", "a\nb", "a\nb"),
        ("*c*e", "abcdede", "de", ""),
    ],
)
def test_prefixes(pattern: str, value: str, shortest: str, longest: str) -> None:
    environment = {"V": value, "P": pattern}
    assert expand_text("${V#$P}", environment) == shortest
    assert expand_text("${V##$P}", environment) == longest


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("'a", "unexpected end of statement while looking for matching single-quote"),
        ('"a', "unexpected end of statement while looking for matching double-quote"),
        ("${", "syntax error: missing '}'"),
        ("${A:-b", "syntax error: missing '}'"),
        ("${A:-'b}", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:-a}", "syntax error: bad substitution"),
        ("${{A}}", "syntax error: bad substitution"),
        ("${A=b}", "unsupported modifier (=) in substitution"),
        ("${A:=b}", "unsupported modifier (:=) in substitution"),
        ("${A:#b}", "unsupported modifier (:#) in substitution"),
        ("${A", "unsupported modifier (\ufffd) in substitution"),
        ("${N?}", "N: is not allowed to be unset"),
        ("${N:?}", "N: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${N:?because $A}", "N: because value"),
        ("${A/b", "syntax error: missing '/' in ${}"),
        ("${A//b}", "syntax error: missing '/' in ${}"),
        ("${A/b/c", "syntax error: missing '}'"),
        ("${A#\\x}", "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
        ("${A//\\x/}", "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
    ],
)
def test_texts_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        expand_text(text, _ENVIRONMENT)
    shown = text.replace("\\", "\\\\").replace('"', '\\"')
    assert str(caught.value) == f'failed to process "{shown}": {why}'


def test_another_escape_character() -> None:
    assert expand_text("C:\\$A `$A", _ENVIRONMENT, "`") == "C:\\value $A"
    assert expand_text('"`"\\a`b"', {}, "`") == '"\\a`b'


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("a b", ["a", "b"]),
        ("$S", ["two", "words"]),
        ('x"$S"y', ["xtwo  wordsy"]),
        ("x${S}y", ["xtwo", "wordsy"]),
        ("'a b'\\ c", ["a b c"]),
        ("$EMPTY '' ", []),
        (" a\u00a0b ", ["a", "b"]),
        ("80${N:-90}", ["8090"]),
    ],
)
def test_words(text: str, split: list[str]) -> None:
    assert list(Expander(_ENVIRONMENT).words(text)) == split


def test_which_variables_were_asked_for() -> None:
    expander = Expander(_ENVIRONMENT)
    expander.instruction(parse_instruction("COPY --chown=$O ${A:-$B} \"${EMPTY}\" '$no' \\$no $D"))
    assert expander.used == {"A", "EMPTY"}
    assert expander.unset == {"O", "B", "D"}


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("ENV $A='$A' b=\"$A\"c", {"pairs": (("value", "$A"), ("b", "valuec"))}),
        ("ENV a $A 'b'", {"pairs": (("a", "value b"),)}),
        ("ENV A=1 B=$A", {"pairs": (("A", "1"), ("B", "value"))}),
        ("LABEL a=$A", {"pairs": (("a", "value"),)}),
        ("ARG $A=$A b", {"pairs": (("$A", "value"), ("b", None))}),
        ("EXPOSE $S 80", {"ports": ("two", "words", "80")}),
        ("VOLUME $A $S", {"paths": ("value", "two  words")}),
        ("WORKDIR /$A", {"path": "/value"}),
        ("USER $A", {"user": "value"}),
        ("STOPSIGNAL $A", {"signal": "value"}),
        ("CMD $A", {"words": None}),
        ("MAINTAINER $A", {"name": "$A"}),
        ("ONBUILD USER $A", {"trigger": "USER $A"}),
        ("HEALTHCHECK CMD $A", {"test": ("CMD-SHELL", "$A")}),
        ('SHELL ["$A"]', {"words": ("$A",)}),
        (
            "COPY --chown=$A --chmod=$A --exclude=$A $A '$A' /$A",
            {
                "chown": "value",
                "chmod": "value",
                "excludes": ("$A",),
                "sources": ("value", "$A"),
                "destination": "/value",
            },
        ),
        ("ADD --checksum=$A x $A", {"checksum": "value", "destination": "value"}),
    ],
)
def test_fields_of_instructions(text: str, fields: dict[str, object]) -> None:
    instruction = parse_instruction(text)
    expanded = expand(instruction, _ENVIRONMENT)
    if text.startswith("CMD"):
        assert expanded == instruction
        return
    assert {name: getattr(expanded, name) for name in fields} == fields
    assert (expanded.source, expanded.location) == (instruction.source, instruction.location)


def test_mounts_of_commands() -> None:
    run = expand(
        parse_instruction("RUN --mount=type=$T,target=/${A},uid=$U,id='$A' --mount=type=bind,target=$A echo $A"),
        {"T": "cache", "U": "7", **_ENVIRONMENT},
    )
    assert isinstance(run, Run)
    assert run.mounts == (Mount("cache", "/value", uid=7, id="value"), Mount(target="value"))
    assert run.command.words == ("echo $A",)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("type=x", 'unsupported mount type "x"'),
        ("type=bnid", 'unsupported mount type "bnid" (did you mean bind?)'),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("trget=/x", "unexpected key 'trget' in 'trget=/x' (did you mean target?)"),
        ("ro=x", "invalid value for ro: x"),
        ("required", "unexpected key 'required' for mount type 'bind'"),
        ("size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("type=cache,sharing=x", 'unsupported sharing value "x"'),
        ("sharing=shared", "invalid cache sharing set for bind mount"),
        ("uid=1", 'uid not allowed for "bind" type mounts'),
        ("type=cache,uid=$A", "invalid value value for uid"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,gid=4294967296", "invalid value 4294967296 for gid"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,sharing=private", "secret mount should not define sharing"),
        ("", "failed to parse csv mounts: EOF"),
    ],
)
def test_mounts_that_are_none(flag: str, message: str) -> None:
    if not flag:
        with pytest.raises(DockerfileError) as early:
            parse_instruction("RUN --mount= x")
        assert str(early.value) == message
        return
    run = parse_instruction(f"RUN --mount={flag} x")
    with pytest.raises(DockerfileError) as caught:
        expand(run, _ENVIRONMENT)
    assert str(caught.value) == message
    assert caught.value.location == run.location


def test_documents() -> None:
    copy = expand(parse_instruction("COPY <<a <<'b' /\n\"$A\" '$A' \\$A `\na\n$A\nb"), _ENVIRONMENT, "`")
    assert isinstance(copy, Copy)
    assert copy.documents == (Heredoc("a", "\"value\" 'value' $A `\n"), Heredoc("b", "$A\n", False))
    run = parse_instruction("RUN <<a\n$A\na")
    assert expand(run, _ENVIRONMENT) == run


def test_refusals_say_where() -> None:
    with pytest.raises(DockerfileError) as caught:
        expand(parse_instruction("\nWORKDIR ${N:?no}"), {})
    assert str(caught.value) == 'failed to process "${N:?no}": N: no'
    assert caught.value.location == parse_instruction("\nWORKDIR x").location
    with pytest.raises(DockerfileError, match="VOLUME specified can not be an empty string"):
        expand(parse_instruction("VOLUME $N"), {})


def test_titles() -> None:
    assert expand_title('copy $A "b" /\nA\na', _ENVIRONMENT) == "COPY value b /"
    assert (
        expand_title("run echo \"$A\" '$A' $N ${N:-x}", _ENVIRONMENT, command=True)
        == "RUN echo \"value\" '$A' $N ${N:-x}"
    )
    assert expand_title("run echo 'a", _ENVIRONMENT) == "RUN echo 'a"


def test_an_empty_port() -> None:
    ports = expand(parse_instruction("EXPOSE $N"), {})
    assert isinstance(ports, Expose)
    assert ports.ports == ()


@given(
    st.lists(st.sampled_from([*"$${}:-+?#%/\\'\"` ab*?<\n", "A", "${A", "${N:-", "${A//"]), max_size=30).map("".join),
    st.text("ab*/\\\n", max_size=8),
    st.sampled_from("\\`"),
)
def test_whatever_is_expanded_comes_to_something_or_is_refused(text: str, value: str, escape: str) -> None:
    with suppress(DockerfileError):
        assert isinstance(expand_text(text, {"A": value, "a": "b"}, escape), str)


@given(st.text("ab*?", max_size=6), st.text("ab\n", max_size=8), st.booleans())
def test_patterns_are_what_expressions_would_be(pattern: str, value: str, longest: bool) -> None:
    star = ".*" if longest else ".*?"
    match = re.match("".join({"*": star, "?": "."}.get(char, char) for char in pattern), value)
    expected = value[match.end() :] if match else value
    assert expand_text("${V##$P}" if longest else "${V#$P}", {"V": value, "P": pattern}) == expected


@given(st.text("ab?*", min_size=1, max_size=5), st.text("ab\n", max_size=8), st.booleans())
def test_replacements_are_what_expressions_would_be(pattern: str, value: str, everywhere: bool) -> None:
    expression = re.sub(r"\*+", "*", pattern).replace("?", ".").replace("*", ".*")
    if everywhere:
        # Python replaces an empty match right behind another one as well, and Go does not.
        pieces, behind = [], -1
        position = 0
        for match in re.finditer(expression, value):
            if match.end() == match.start() == behind:
                continue
            pieces += [value[position : match.start()], "X"]
            position = behind = match.end()
        expected = "".join([*pieces, value[position:]])
    else:
        expected = re.sub(expression, "X", value, count=1)
    text = "${V//$P/X}" if everywhere else "${V/$P/X}"
    assert expand_text(text, {"V": value, "P": pattern}) == expected


_BIG = "a" * 60_000


@pytest.mark.parametrize(
    "text",
    [
        "${" * 30_000,
        "${A:-" * 12_000 + "}" * 12_000,
        "${BIG#" + "*a" * 20_000 + "b}",
        "${BIG//" + "*a" * 100 + "b/x}",
        "${BIG%%*b*c*d*e*f*g}" * 3000,
        "${BIG//a/$BIG}",
        "$BIG" * 15_000,
        '"' + "$A" * 30_000 + '"',
        "'" * 60_001,
        "<" * 60_000,
        "\\" * 60_001,
    ],
)
def test_hostile_texts_take_no_longer(text: str) -> None:
    start = time.perf_counter()
    with suppress(DockerfileError):
        expand_text(text, {"A": "a", "BIG": _BIG})
    assert time.perf_counter() - start < 5


def test_values_do_not_grow_without_end() -> None:
    environment = {"A": "x" * 1000}
    with pytest.raises(DockerfileError, match=f"variables of more than {words.LIMIT} characters"):
        for _ in range(30):
            environment["A"] = expand_text("$A$A", environment)
    with pytest.raises(DockerfileError, match="substitutions are nested too deep"):
        expand_text("${N:-" * 200 + "}" * 200, {})
    assert expand_text("${N:-" * 50 + "x" + "}" * 50, {}) == "x"
