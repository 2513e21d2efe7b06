"""From a few names to all packages of a system: dependencies, as debootstrap and a first `apt-get install` choose them.

There is nothing installed yet and every package is wanted in its newest version, so no search is needed: each dependency takes the
first alternative that something satisfies. Whether the result holds is checked, not assumed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from cove.debian.index import Index, Offer, Relation
from cove.errors import CoveError


def resolve(index: Index, names: Iterable[str]) -> list[Offer]:
    """All of `names`, the required packages, and what they depend on, by name. Raises `CoveError` when that cannot be had."""
    chosen: dict[str, Offer] = {}
    waiting: deque[Offer] = deque()

    def choose(offer: Offer) -> None:
        if offer.name not in chosen:
            chosen[offer.name] = offer
            waiting.append(offer)

    try:
        # All that is asked for is there before any alternative is decided: the awk that is required is the awk.
        for name in sorted({*names, *index.required()}):
            offer = index.newest(name)
            if offer is None:
                raise CoveError(f"Debian's index has no package {name}", _HINT)
            choose(offer)
        while waiting:
            offer = waiting.popleft()
            for group in offer.depends:
                if not _satisfied(group, chosen.values()):
                    choose(_first(index, offer, group))
        result = [chosen[name] for name in sorted(chosen)]
        _check(result)
    except ValueError as error:
        raise CoveError(f"Debian's index cannot be understood: {error}", _HINT) from error
    return result


_HINT = "the mirror may be incomplete, or just being updated: try again in some minutes, or name another with --mirror"


def _satisfied(group: Sequence[Relation], offers: Iterable[Offer]) -> bool:
    return any(offer.satisfies(relation) for offer in offers for relation in group)


def _first(index: Index, offer: Offer, group: Sequence[Relation]) -> Offer:
    for relation in group:
        for candidate in index.candidates(relation):
            return candidate
    wanted = " | ".join(
        f"{each.name} ({each.operator} {each.version})" if each.operator else each.name for each in group
    )
    raise CoveError(f"{offer} depends on {wanted}, which Debian's index does not have", _HINT)


def _check(offers: Sequence[Offer]) -> None:
    for offer in offers:
        for relation in offer.excludes:
            for other in offers:
                if other is not offer and other.satisfies(relation):
                    raise CoveError(f"{offer} cannot be installed beside {other}", _HINT)
