"""How bad a vulnerability is: by its vectors, else by the words of its database."""

from __future__ import annotations

from typing import Any

import pytest
from cove.vulnerabilities.severity import UNKNOWN, Level, Severity, of

V2 = {"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:P/I:P/A:P"}
V3 = {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}
V30 = {"type": "CVSS_V3", "score": "CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"}
V4 = {"type": "CVSS_V4", "score": "CVSS:4.0/AV:L/AC:L/AT:P/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}
NONE = {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N"}


@pytest.mark.parametrize(
    ("scores", "words", "expected"),
    [
        # The scores are those of first.org's calculators.
        ([V3], [], Severity(Level.CRITICAL, 9.8)),
        ([V30], [], Severity(Level.MEDIUM, 6.1)),
        ([V4], [], Severity(Level.HIGH, 7.3)),
        ([V2], [], Severity(Level.HIGH, 7.5)),
        ([NONE], [], Severity(Level.NONE, 0.0)),
        ([V30, V4], ["CRITICAL"], Severity(Level.HIGH, 7.3)),
        ([], ["MODERATE"], Severity(Level.MEDIUM)),
        ([], ["not yet assigned", None, "high"], Severity(Level.HIGH)),
        ([], ["unimportant"], Severity(Level.LOW)),
        ([{"type": "Ubuntu", "score": "negligible"}], [], Severity(Level.LOW)),
        ([{"type": "Ubuntu", "score": "critical"}, V30], [], Severity(Level.MEDIUM, 6.1)),
        ([{"type": "Ubuntu", "score": "low"}, NONE], [], Severity(Level.NONE, 0.0)),
        ([{"type": "Ubuntu", "score": "low"}], ["high"], Severity(Level.HIGH)),
        ([{"type": "CVSS_V3", "score": "CVSS:3.1/nonsense"}], ["low"], Severity(Level.LOW)),
        ([{"type": "CVSS_V4", "score": ""}, "text", 7], [], UNKNOWN),
        ([], [], UNKNOWN),
        ([{"type": "new", "score": "9"}], ["nobody knows"], UNKNOWN),
    ],
)
def test_of_an_entry(scores: list[Any], words: list[Any], expected: Severity) -> None:
    assert of("CVE-1", scores, words) == expected


def test_a_package_that_is_malicious_is_as_bad_as_can_be() -> None:
    assert of("MAL-2024-1", [], []) == Severity(Level.CRITICAL)
    assert of("MAL-2024-1", [], ["low"]) == Severity(Level.LOW)
