"""``--change``: what Dockerfile instructions make of an image's defaults."""

from __future__ import annotations

from typing import Any

import pytest
from coved.errors import InvalidParameter
from coved.images.changes import apply


def _applied(*changes: str, literal: bool = False, **config: Any) -> dict[str, Any]:
    apply(config, list(changes), literal=literal)
    return config


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        (['CMD ["a", "b"]'], {"Cmd": ["a", "b"]}),
        (["cmd a b"], {"Cmd": ["/bin/sh", "-c", "a b"]}),
        (["ENTRYPOINT a"], {"Entrypoint": ["/bin/sh", "-c", "a"]}),
        (["ENV A=1 B='two words'"], {"Env": ["A=1", "B=two words"]}),
        (["ENV A the rest"], {"Env": ["A=the rest"]}),
        (["ENV A=1", "ENV B=$A A=2 C=${N:-x}"], {"Env": ["A=2", "B=1", "C=x"]}),
        (["ENV A=1 \\\n B=2\n# comment\nUSER me"], {"Env": ["A=1", "B=2"], "User": "me"}),
        (['LABEL k="v w" l=m'], {"Labels": {"k": "v w", "l": "m"}}),
        (["EXPOSE 80 53/udp 90-91"], {"ExposedPorts": {"53/udp": {}, "80/tcp": {}, "90/tcp": {}, "91/tcp": {}}}),
        (["VOLUME /a /b"], {"Volumes": {"/a": {}, "/b": {}}}),
        (['VOLUME ["/a b"]'], {"Volumes": {"/a b": {}}}),
        (["WORKDIR srv", "WORKDIR ../x"], {"WorkingDir": "/x"}),
        (["WORKDIR //x"], {"WorkingDir": "/x"}),
        (["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
        (["ONBUILD RUN a", "ONBUILD USER b"], {"OnBuild": ["RUN a", "USER b"]}),
        (["HEALTHCHECK --interval=1s CMD x"], {"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Interval": 10**9}}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        ([" ", ""], {}),
    ],
)
def test_what_changes_make(changes: list[str], config: dict[str, Any]) -> None:
    assert _applied(*changes) == config


def test_what_there_was_stays() -> None:
    given = {
        "Env": ["A=1", "B=2"],
        "Labels": {"x": "y"},
        "ExposedPorts": {"1/tcp": {}},
        "WorkingDir": "/w",
        "Shell": ["sh"],
    }
    assert _applied("ENV A=3", "LABEL k=v", "EXPOSE 2", "WORKDIR $B", "CMD x", **given) == {
        "Env": ["A=3", "B=2"],
        "Labels": {"x": "y", "k": "v"},
        "ExposedPorts": {"1/tcp": {}, "2/tcp": {}},
        "WorkingDir": "/w/2",
        "Shell": ["sh"],
        "Cmd": ["sh", "x"],
    }


def test_dollars_of_a_history() -> None:
    assert _applied("ENV A=$B:${C} 'D'=\"$A\"", literal=True, Env=["B=1"]) == {"Env": ["B=1", "A=$B:${C}", "D=$A"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN x", "RUN is not a valid change command"),
        ("foo x", "foo is not a valid change command"),
        ("ARG x", "ARG is not a valid change command"),
        ("USER", "USER requires exactly one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("LABEL =", "LABEL names can not be blank"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("WORKDIR ${N:?why}", 'failed to process "${N:?why}": N: why'),
    ],
)
def test_changes_that_cannot_be(change: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        _applied("USER me", change)
    assert str(caught.value) == message
