"""Kubernetes' quantities (its API's documentation, "Quantity")."""

from __future__ import annotations

from decimal import Decimal

import pytest
from cove.kube import quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("2", 2), ("0.5", Decimal("0.5")), (".5", Decimal("0.5")), ("500m", Decimal("0.5")), ("100u", Decimal("0.0001")),
        ("1n", Decimal("0.000000001")), ("128974848", 128974848), ("129e6", 129_000_000), ("129M", 129_000_000), ("123Mi", 123 << 20),
        ("1Ki", 1024), ("1k", 1000), ("1.5Gi", 3 << 29), ("1E", 10**18), ("1Ei", 1 << 60), ("2e3", 2000), ("1E3", 1000), ("-1", -1),
    ],
)  # fmt: skip
def test_a_quantity_is_a_number(text: str, value: Decimal) -> None:
    assert quantity.parse(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "1 Gi",
        "1K",
        "1mi",
        "1GB",
        "0x10",
        "1e",
        "1e999",
        "1e3Mi",
        "nan",
        "inf",
        "1" * 50,
        "1_000",
        "\uff11Gi",
        "1.\u0665",
        "1e\u0663",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        quantity.parse(text)
