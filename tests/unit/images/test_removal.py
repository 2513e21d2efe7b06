"""Which names and images go with a name or an id."""

from pathlib import Path

import pytest
from coved.errors import Conflict
from coved.images import removal
from coved.images.catalog import Catalog
from coved.images.documents import Platform
from coved.images.removal import Plan
from coved.store.blobs import BlobStore
from coved.store.database import Database

X, OTHER = "docker.io/library/x", "docker.io/library/other"
DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog(Database(tmp_path / "db"), BlobStore(tmp_path))
    for machine in ("amd64", "arm64"):
        made.add(BlobStore(tmp_path).put(b'{"os": "linux", "architecture": "%s"}' % machine.encode()), [])
    return made


def plan(catalog: Catalog, text: str, *, force: bool = False) -> Plan:
    return removal.plan(catalog, lambda _: [], text, force)


def by(catalog: Catalog, machine: str) -> str:
    (found,) = [image.id for image in catalog.all() if image.config["architecture"] == machine]
    return found


def test_a_digest_goes_with_the_last_tag_of_its_repository(catalog: Catalog) -> None:
    image = by(catalog, "amd64")
    for name in (f"{X}:1", f"{X}:2", f"{X}@{DIGEST}"):
        catalog.set_name(name, [image])
    assert plan(catalog, "x:1") == Plan(image, [f"{X}:1"], [])
    catalog.remove_name(f"{X}:1")
    assert plan(catalog, "x:2") == Plan(image, [f"{X}:2", f"{X}@{DIGEST}"], [image])
    catalog.set_name(f"{OTHER}:1", [image])
    assert plan(catalog, "x:2") == Plan(image, [f"{X}:2", f"{X}@{DIGEST}"], [])
    assert plan(catalog, f"x@{DIGEST}") == Plan(image, [f"{X}@{DIGEST}"], [])


def test_other_platforms_keep_a_name(catalog: Catalog) -> None:
    both = [by(catalog, "amd64"), by(catalog, "arm64")]
    catalog.set_name(f"{X}:1", both)
    catalog.set_name(f"{X}:own", both[:1])
    assert plan(catalog, both[0]) == Plan(both[0], [f"{X}:own"], [both[0]], {f"{X}:1": [both[1]]})
    assert plan(catalog, "x:1") == Plan(catalog.find("x:1").id, [f"{X}:1"], [both[1]])
    arm = Platform("linux", "arm64")
    assert removal.plan_platforms(catalog, lambda _: [], "x:1", False, [arm]) == Plan(
        both[1], [], [both[1]], {f"{X}:1": [both[0]]}
    )
    catalog.set_name(f"{OTHER}:1", both)
    with pytest.raises(Conflict, match="multiple repositories"):
        plan(catalog, both[0])
