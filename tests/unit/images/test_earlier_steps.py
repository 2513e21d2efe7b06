"""An image's defaults of some steps ago, as both of Docker's builders have written the history."""

from typing import Any

import pytest
from coved.errors import InvalidParameter
from coved.images.earlier import earlier

LAYERS = [f"sha256:{digit * 64}" for digit in "123"]
NOP = "/bin/sh -c #(nop) "


def document(*history: tuple[str, bool], **config: Any) -> dict[str, Any]:
    return {
        "created": "2024-01-09T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": LAYERS[: sum(layer for _, layer in history)]},
        "history": [
            {"created": f"2024-01-0{day}T00:00:00Z", "created_by": line, **({} if layer else {"empty_layer": True})}
            for day, (line, layer) in enumerate(history, 1)
        ],
    }


def test_layers_and_time_are_those_of_then() -> None:
    now = document(("ADD base", True), ("RUN a", True), ("CMD a", False), ("RUN b", True))
    assert earlier(now, 1)["rootfs"]["diff_ids"] == LAYERS[:2]
    assert len(earlier(now, 1)["history"]) == 3
    assert earlier(now, 2)["rootfs"]["diff_ids"] == LAYERS[:2]
    assert earlier(now, 3)["rootfs"]["diff_ids"] == LAYERS[:1]
    assert earlier(now, 3)["created"] == "2024-01-01T00:00:00Z"
    assert len(now["history"]) == 4


@pytest.mark.parametrize("prefix", ["", NOP, NOP + " "])
def test_defaults_are_those_of_then(prefix: str) -> None:
    now = document(
        ("ADD base", True),
        (f'{prefix}CMD ["sh"]', False),
        (f"{prefix}ENV A=1 B=2", False),
        (f"{prefix}USER me", False),
        (f"{prefix}ENV A=3 C=4", False),
        (f"{prefix}LABEL x=y", False),
        (f'{prefix}ENTRYPOINT ["/entry"]', False),
        (f'{prefix}CMD ["serve"]', False),
        Cmd=["serve"],
        Entrypoint=["/entry"],
        Env=["PATH=/bin", "A=3", "B=2", "C=4"],
        Labels={"x": "y", "kept": "1"},
        User="me",
        WorkingDir="/w",
    )
    rest = {"User": "me", "WorkingDir": "/w"}
    all_env = ["PATH=/bin", "A=3", "B=2", "C=4"]
    labels = {"x": "y", "kept": "1"}
    assert earlier(now, 1)["config"] == {
        **rest, "Cmd": ["sh"], "Entrypoint": ["/entry"], "Env": all_env, "Labels": labels,
    }  # fmt: skip
    assert earlier(now, 2)["config"] == {**rest, "Cmd": ["sh"], "Env": all_env, "Labels": labels}
    then = earlier(now, 4)["config"]
    assert sorted(then["Env"]) == ["A=1", "B=2", "PATH=/bin"] and then["Labels"] == {"kept": "1"}
    assert "User" not in earlier(now, 5)["config"]
    assert earlier(now, 6)["config"] == {
        "Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"kept": "1"}, "WorkingDir": "/w",
    }  # fmt: skip


@pytest.mark.parametrize("steps", [0, 4, 100])
@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (0, "has no history: there is nothing that it could go back to"),
        (1, "has one step: there is nothing that it could go back to"),
        (2, "has 2 steps: it can go back by 1"),
        (3, "has 3 steps: it can go back by 1 to 2"),
    ],
)
def test_how_far_it_goes_back(layers: int, words: str, steps: int) -> None:
    with pytest.raises(InvalidParameter, match=f"^the image {words}$"):
        earlier(document(*[("RUN a", True)] * layers), steps)


def test_a_history_that_does_not_tell() -> None:
    squashed = document(("ADD base", True), ("RUN a", True))
    squashed["rootfs"]["diff_ids"].pop()
    with pytest.raises(InvalidParameter, match="does not tell"):
        earlier(squashed, 1)
