import pytest
from coved.containers import list_filters
from coved.errors import InvalidParameter
from coved.filters import Filters


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["80"], {"80/tcp"}),
        (["53/udp", "80/tcp"], {"53/udp", "80/tcp"}),
        (["80-82"], {"80/tcp", "81/tcp", "82/tcp"}),
        (["1-2/sctp"], {"1/sctp", "2/sctp"}),
        ([], set()),
    ],
)
def test_ports(values: list[str], expected: set[str]) -> None:
    assert list_filters.ports(Filters({"publish": values}), "publish") == expected


@pytest.mark.parametrize("text", ["x", "80/x", "82-80", "1-99999999", "-1", "80-", "\u0663", ""])
def test_what_are_no_ports(text: str) -> None:
    with pytest.raises(InvalidParameter, match="error while looking up for expose"):
        list_filters.check(Filters({"expose": [text]}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("exited", "x", "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ("is-task", "x", "invalid filter 'is-task=[x]'"),
    ],
)
def test_other_values(name: str, value: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        list_filters.check(Filters({name: [value]}))
    assert str(refusal.value) == message


def test_right_values() -> None:
    list_filters.check(Filters({"exited": ["0", "-1", "137"], "is-task": ["false"], "publish": ["80-90"]}))
