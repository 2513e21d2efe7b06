"""Licences as packages state them, and SPDX's names for them."""

from __future__ import annotations


def expression(stated: str) -> str:
    """The SPDX expression that `stated` is, as SPDX writes it; "" for everything else, such as "BSD" or "GPLv2+"."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        found = str(canonicalize_license_expression(stated))
    except InvalidLicenseExpression:
        return ""
    # A reference means a text, which a document would have to bring along.
    return "" if "LicenseRef-" in found else found
