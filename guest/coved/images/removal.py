"""What removing an image by some name or id means (dockerd's rules, and its words when it may not be)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from coved.errors import Conflict
from coved.images import reference
from coved.images.catalog import Catalog
from coved.images.documents import Platform
from coved.images.model import Image, ImageUser, UsersOf


@dataclass(frozen=True)
class Plan:
    """Canonical ``names`` to take away, the ids of the images that go as well, and names that other platforms keep."""

    image_id: str
    names: list[str]
    delete: list[str]
    kept: dict[str, list[str]] = field(default_factory=dict)


def plan(catalog: Catalog, users_of: UsersOf, text: str, force: bool) -> Plan:
    """Decides; raises ``NotFound`` or ``Conflict``."""
    image = catalog.find(text)
    names = catalog.names(image.id)
    if _is_id(image, text):
        repositories = {reference.parse(name).repository for name in names}
        if not force and (len(names) > 1 and len(repositories) > 1):
            raise _conflict(image, "must be forced", "image is referenced in multiple repositories")
        users = _check_users(image, users_of, force)
        if users and not names:  # it stays as long as they need it, and has no name that could go
            reason = f"image is being used by stopped container {users[0].container_id[:12]}"
            raise _conflict(image, "cannot be forced", reason)
        # Other platforms keep the names that they have in common.
        others = {name: [one for one in catalog.holders(name) if one != image.id] for name in names}
        kept = {name: holders for name, holders in others.items() if holders}
        return Plan(image.id, [name for name in names if name not in kept], [] if users else [image.id], kept)
    name = str(reference.parse(text).tagged())
    going = [name, *_left_alone(catalog, name)]
    last = [catalog.by_id(one) for one in catalog.holders(name) if {*catalog.names(one)} <= {*going}]
    users = [user for one in last for user in users_of(one.id)]
    if users and not force:
        raise Conflict(
            f'conflict: unable to remove repository reference "{text}" (must force) - container '
            f"{users[0].container_id[:12]} is using its referenced image {image.short_id}"
        )
    # With force the name goes. The image itself stays as long as containers need it, stopped ones too: their files are its.
    return Plan(image.id, going, delete=[one.id for one in last if not users_of(one.id)])


def _left_alone(catalog: Catalog, name: str) -> list[str]:
    """A repository's names with digests, which go when a name with a tag was the last of it that their image has."""
    going = reference.parse(name)
    if not going.tag:
        return []
    found: list[str] = []
    for image_id in catalog.holders(name):
        others = [one for one in catalog.names(image_id) if one != name]
        same = [one for one in others if reference.parse(one).repository == going.repository]
        if not any(reference.parse(one).tag for one in same):
            found += [one for one in same if one not in found]
    return found


def plan_platforms(catalog: Catalog, users_of: UsersOf, text: str, force: bool, platforms: Sequence[Platform]) -> Plan:
    """The same for some platforms of a name; raises ``NotFound`` or ``Conflict``."""
    going = {catalog.find(text, platform).id for platform in platforms}
    name = catalog.name_of(text)
    remaining = [] if name is None else [one for one in catalog.holders(name) if one not in going]
    if name is None or not remaining:
        return plan(catalog, users_of, text, force)
    last = [catalog.by_id(one) for one in sorted(going) if catalog.names(one) == [name]]
    users = {image.id: _check_users(image, users_of, force) for image in last}
    return Plan(
        last[0].id if last else remaining[0], [], [one for one, of in users.items() if not of], {name: remaining}
    )


def _check_users(image: Image, users_of: UsersOf, force: bool) -> list[ImageUser]:
    users = users_of(image.id)
    for user in users:
        if user.running:
            raise _conflict(
                image, "cannot be forced", f"image is being used by running container {user.container_id[:12]}"
            )
    if users and not force:
        raise _conflict(
            image, "must be forced", f"image is being used by stopped container {users[0].container_id[:12]}"
        )
    return users


def _conflict(image: Image, way_out: str, reason: str) -> Conflict:
    return Conflict(f"conflict: unable to delete {image.short_id} ({way_out}) - {reason}")


def _is_id(image: Image, text: str) -> bool:
    prefix = reference.id_prefix(text)
    if not prefix or not image.id.startswith(f"sha256:{prefix}"):
        return False
    return text.startswith("sha256:") or len(prefix) == 64 or str(reference.parse(text).tagged()) not in _names(image)


def _names(image: Image) -> set[str]:
    return {str(reference.parse(name)) for name in image.tags}


def chain_ids(diff_ids: Sequence[str]) -> dict[str, str]:
    """The chain id of each layer (OCI image spec, config.md), by its diff id; layers are shown by it."""
    chains: dict[str, str] = {}
    chain = ""
    for diff_id in diff_ids:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
        chains[diff_id] = chain
    return chains
