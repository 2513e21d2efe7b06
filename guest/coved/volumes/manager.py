"""The volumes domain: named directories that outlive containers (the ``local`` driver)."""

import asyncio
import builtins
import contextlib
import json
import logging
import os
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from coved.errors import Conflict, EngineError, InvalidParameter, NotFound, no_room
from coved.events import Events
from coved.filters import Filters
from coved.finishing import to_the_end
from coved.shares.shares import Shares
from coved.store.database import Database, Row
from coved.store.trees import copy_tree, is_empty, remove_tree, tree_size
from coved.volumes import exchange, local_options
from coved.volumes.mounting import Mounting, binds, clear_mounts

log = logging.getLogger(__name__)

DRIVER = "local"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
_RANDOM_NAME = re.compile("[0-9a-f]{64}")

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_NAME_MAX = 255

_SCHEMA = (
    """
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        labels TEXT NOT NULL,
        options TEXT NOT NULL,
        created_ns INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE volume_references (
        volume TEXT NOT NULL REFERENCES volumes (name),
        container_id TEXT NOT NULL,
        PRIMARY KEY (volume, container_id)
    ) STRICT;
    """,
)


@dataclass(frozen=True)
class Volume:
    """``path`` is the directory that containers see; ``created`` is UTC."""

    name: str
    path: Path
    created: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def anonymous(self) -> bool:
        return ANONYMOUS_LABEL in self.labels

    @property
    def mounted(self) -> bool:
        """It is something that is mounted on ``path`` while it is used, and no directory of the data disk."""
        return local_options.needs_mount(self.options)


@dataclass(frozen=True)
class Pruned:
    """What a prune removed; ``reclaimed`` in bytes."""

    names: list[str]
    reclaimed: int


class Volumes:
    """Volumes lie in ``<root>/volumes/<name>/_data``; who uses them is kept in the database with them."""

    def __init__(self, database: Database, events: Events, root: Path) -> None:
        self._database = database
        self._events = events
        self._directory = root / "volumes"
        self._trash = root / "trash"
        self._populating: dict[str, asyncio.Lock] = {}
        self._looked_at: Counter[str] = Counter()
        self._going: set[str] = set()
        """Names of volumes that are no more, whose files are being deleted where those of the next of that name would be."""
        self._owed: set[str] = set()
        """Ids of containers that do not come to be, and whose references are still to be given up: nobody uses anything by those."""
        self._mounting = Mounting(lambda name: self._directory / name / "_data")
        with database.transaction():  # with what is adopted, or a kill would leave tables that know of no volume
            if not database.migrate("volumes", _SCHEMA):
                self._adopt_folders()

    def _adopt_folders(self) -> None:
        """When the metadata are new, and so have been lost if there are volumes: what is in these is all that is left."""
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted(self._directory.iterdir()):
                if _is_name(folder.name) and not folder.is_symlink() and folder.is_dir():
                    created_ns = folder.stat().st_mtime_ns
                    self._database.execute("INSERT INTO volumes VALUES (?, '{}', '{}', ?)", (folder.name, created_ns))
                    log.warning(
                        "no metadata of volume %s were found: it is kept, without labels and options", folder.name
                    )

    async def start(self) -> None:
        """Removes what an interrupted create or remove left behind, and undoes interrupted exchanges."""
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._trash.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in self._trash.iterdir():
            await self._put_back(folder)
        known = {row["name"] for row in self._database.query("SELECT name FROM volumes")}
        strays = [path for path in self._directory.iterdir() if path.name not in known]
        for path in [*strays, *self._trash.iterdir()]:
            await _delete(path)
        for name in known:
            for path in (self._directory / name, self._directory / name / "_data"):
                try:
                    path.mkdir()  # and nothing more: of what is mounted there nothing may be asked, it may never answer
                except FileExistsError:
                    continue
                except OSError as error:  # a full disk, say: what uses it fails, and the engine is there to make room
                    log.error("the folder of volume %s cannot be made: %s", name, error)
                    break

    # -- the API's verbs

    async def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        made_for: str = "",
    ) -> Volume:
        """Creates a volume, or finds the one of that name, whatever its options; without a name it is anonymous and gets a
        random one.

        Args:
            made_for: the id of a container that is being created, and without which nobody wants the volume: it refers to a
                new one from the beginning. If it does not come to be, ``give_up`` is to follow.

        Raises:
            InvalidParameter: the name, the driver or an option is not acceptable.
        """
        await self._settle()
        labels = dict(labels or {})
        if not name:
            name = secrets.token_hex(32)
            labels.setdefault(ANONYMOUS_LABEL, "")
        if driver not in ("", DRIVER):
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        validate_name(name)
        existing = self._find(name)
        if existing is not None:
            return existing
        if name in self._going:
            raise Conflict(f"create {name}: the volume that had this name is being removed")
        options = dict(options or {})
        try:
            local_options.validate(options)
        except InvalidParameter as error:
            raise InvalidParameter(f"create {name}: {error}") from None
        path = self._directory / name / "_data"
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.parent.chmod(0o701)
        path.chmod(0o755)
        return self._add(name, labels, options, made_for)

    def _add(self, name: str, labels: dict[str, str], options: dict[str, str], made_for: str = "") -> Volume:
        created_ns = int(datetime.now(UTC).timestamp() * 1e9)
        row = name, json.dumps(labels), json.dumps(options), created_ns
        with self._database.transaction():
            self._database.execute("INSERT INTO volumes VALUES (?, ?, ?, ?)", row)
            if made_for:
                self.acquire(name, made_for)
        self._events.publish("volume", "create", name, {"driver": DRIVER})
        return self.get(name)

    def get(self, name: str) -> Volume:
        """Raises ``NotFound``."""
        volume = self._find(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def exists(self, name: str) -> bool:
        return self._find(name) is not None

    def list(self, filters: Filters | None = None) -> list[Volume]:
        """Volumes by name that meet the filters dangling, driver, label and name."""
        filters = filters or Filters()
        filters.validate({"dangling", "driver", "label", "name"})
        dangling = filters.flag("dangling") if "dangling" in filters else None
        drivers = filters.get("driver")
        return [
            volume
            for volume in self._all()
            if filters.found_in("name", volume.name)
            and (not drivers or DRIVER in drivers)
            and filters.matches_labels(volume.labels)
            and (dangling is None or dangling is not bool(self.users(volume.name)))
        ]

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Removes a volume and its data.

        Raises:
            Conflict: containers refer to it, running or not.
            NotFound: there is none, unless ``force``.
        """
        if self._find(name) is None and force:
            return
        self.forget(name)
        await self.put_away(name)
        await self._settle()  # there is more room now

    def forget(self, name: str) -> None:
        """Removes the record of a volume, with the transaction under way if there is one; ``put_away`` is to follow at once.

        Raises NotFound, Conflict as ``remove`` does.
        """
        self.get(name)
        users = self.users(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        if self._looked_at[name]:
            raise Conflict(f"remove {name}: volume has active mounts")
        with self._database.transaction():
            self._database.execute("DELETE FROM volume_references WHERE volume = ?", (name,))  # of nobody, then
            self._database.execute("DELETE FROM volumes WHERE name = ?", (name,))

    def put_away(self, name: str) -> Awaitable[None]:
        """What is left to do of a removal: the name is free when this returns, the files are gone with what is to be awaited.

        Raises OSError; the files then stay for the next start.
        """
        # Moved away first: a new volume of this name must not find the old data while it is being deleted.
        condemned = self._trash / f"volume-{secrets.token_hex(8)}"
        try:
            (self._directory / name).rename(condemned)
        except OSError as error:
            if no_room(error) is None:
                raise
            # There is no block for another name in that folder. The files go where they are, then.
            condemned = self._directory / name
            self._going.add(name)
        self._populating.pop(name, None)
        self._mounting.forget(name)
        self._events.publish("volume", "destroy", name, {"driver": DRIVER})
        return self._delete(name, condemned)

    async def _delete(self, name: str, condemned: Path) -> None:
        if name not in self._going:
            await _delete(condemned)
            return
        try:
            await to_the_end(_delete(condemned))
        finally:
            self._going.discard(name)

    async def prune(self, filters: Filters | None = None, *, all_by_default: bool = False) -> Pruned:
        """Removes volumes that no container refers to: the anonymous ones, or all with the filter ``all=true``.

        Those with options stay, as with dockerd: what they mean may lie elsewhere. ``all_by_default`` is what clients before
        API 1.42 mean.
        """
        filters = filters or Filters()
        filters.validate({"all", "label", "label!"})
        if len(words := filters.get("all")) > 1:
            raise InvalidParameter(f"invalid filter 'all': {words}")
        try:
            everything = filters.flag("all", default=all_by_default)
        except InvalidParameter:
            problem = f'strconv.ParseBool: parsing "{words[0]}": invalid syntax'
            raise InvalidParameter(f"invalid filter 'all': {problem}") from None
        removed: list[str] = []
        reclaimed = 0
        await self._settle()
        for volume in self._all():
            if volume.options or not (everything or volume.anonymous) or not filters.matches_labels(volume.labels):
                continue
            if self.users(volume.name):
                continue
            try:
                size = await self.size(volume.name)
                await self.remove(volume.name)
            except (Conflict, NotFound, FileNotFoundError):
                continue  # taken into use, or removed, while its size was counted
            removed.append(volume.name)
            reclaimed += size
        self._events.publish("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return Pruned(removed, reclaimed)

    async def size(self, name: str) -> int:
        """Bytes of data in a volume, as du(1) counts them."""
        return await asyncio.to_thread(tree_size, self.path(name))

    # -- for the containers domain

    def path(self, name: str) -> Path:
        """The directory to mount; raises ``NotFound``."""
        return self.get(name).path

    async def mount(self, names: Iterable[str], user: object) -> None:
        """Mounts those of the volumes that are mounted, for a ``user`` (a container's id), until ``unmount``.

        Raises NotFound, EngineError when one cannot be mounted; then ``user`` has none of them.
        """
        try:
            for name in names:
                volume = self.get(name)
                if volume.mounted:
                    await self._mounting.hold(name, volume.options, user)
        except BaseException:
            await self.unmount(names, user)
            raise

    async def unmount(self, names: Iterable[str], user: object) -> None:
        """Takes off what nobody else uses; does nothing for volumes that are not mounted for ``user``."""
        for name in names:
            await self._mounting.let_go(name, user)

    @contextlib.asynccontextmanager
    async def opened(self, names: Iterable[str]) -> AsyncIterator[None]:
        """With the volumes mounted, for somebody who is no container; they are not removed meanwhile.

        Raises NotFound, EngineError.
        """
        names, user = list(names), object()
        self._looked_at.update(names)  # a removal while something is being mounted would take its files
        try:
            await self.mount(names, user)
            try:
                yield
            finally:
                await self.unmount(names, user)
        finally:
            self._looked_at.subtract(names)

    async def found(self, users: Mapping[str, Iterable[str]]) -> None:
        """At the engine's start: the ids of the containers that run, by the volumes that they use."""
        await self._mounting.found(users, self._directory)

    @contextlib.asynccontextmanager
    async def draft(self) -> AsyncIterator[Path]:
        """A folder on the data disk for what may become a volume's content. What is left in it goes, with the engine too."""
        folder = self._trash / f"volume-{secrets.token_hex(8)}"
        (folder / "_data").mkdir(mode=0o755, parents=True)
        try:
            yield folder / "_data"
        finally:
            await _delete(folder)

    async def fill(self, name: str, draft: Path, *, replace: bool) -> None:
        """Moves what is in a draft into a volume that is not mounted, all of it or nothing, to the disk.

        Raises NotFound, exchange.NotEmpty when it has content that is not to be replaced, OSError, EngineError.
        """
        target = self.path(name)
        work = asyncio.to_thread(exchange.exchange, draft.parent, name, target, replace=replace)
        try:
            await to_the_end(work)
        except exchange.NotPutBack as error:
            kept = await self._keep(name, draft.parent)
            raise EngineError(
                f"the files of volume {name} could not be exchanged: {error.__cause__}; "
                f"what could not be put back ({error}) is in {kept}"
            ) from error

    async def _put_back(self, folder: Path) -> None:
        """What an engine that was killed in an exchange has moved."""
        try:
            if not exchange.unfinished(folder):
                return
            name = exchange.volume_of(folder)
            try:
                await asyncio.to_thread(exchange.undo, folder, self._directory / (name or "?") / "_data")
                log.warning("the files of volume %s are as before an exchange that was broken off", name)
            except exchange.NotPutBack as error:
                kept = await self._keep(name or "volume", folder)
                log.error("what could not be put back into volume %s (%s) is in %s", name, error, kept)
        except OSError as error:
            log.error("the exchange in %s cannot be undone: %s", folder, error)

    async def _keep(self, name: str, folder: Path) -> str:
        """Makes a volume of what could not be put back; says where it is. If there is no room for one, the next start tries."""
        kept = f"{name[: _NAME_MAX - 9]}-{secrets.token_hex(4)}"
        try:
            volume = await self.create(kept)
            await asyncio.to_thread(exchange.give_up, folder, volume.path)
        except (OSError, EngineError) as error:
            log.error("%s stays: %s", folder, error)
            return str(folder)
        return f"the volume {kept}"

    def adopt(self, name: str, draft: Path) -> Volume:
        """Makes a volume of the content of a draft, at once or not at all. Raises InvalidParameter, Conflict."""
        validate_name(name)
        if self._find(name) is not None:
            raise Conflict(f"create {name}: somebody else has made this volume")
        folder = self._directory / name
        folder.mkdir(mode=0o701, exist_ok=True)  # one that no record tells of is a leftover
        folder.chmod(0o701)
        draft.rename(folder / "_data")
        return self._add(name, {}, {})

    def in_use(self, name: str) -> bool:
        """Whether a volume that is mounted is."""
        return self._mounting.in_use(name)

    def bind_within(self, shares: Shares) -> None:
        """Devices that are directories are of the user's computer, where it has them."""
        self._mounting.shares = shares

    def device(self, name: str) -> str:
        """The directory that a volume is by its options; "" for one of the engine's own, and one that is gone."""
        volume = self._find(name)
        return volume.options["device"] if volume is not None and binds(volume.options) else ""

    def acquire(self, name: str, container_id: str) -> None:
        """Records that a container refers to a volume, which cannot be removed before ``release``."""
        self.get(name)
        self._database.execute("INSERT OR IGNORE INTO volume_references VALUES (?, ?)", (name, container_id))

    def made_in_vain(self, containers: Collection[str]) -> set[str]:
        """At the engine's start: ids of those that volumes were made for, and that are not among the ``containers`` there are.

        All other references come and go with the record of their container, in one transaction: what is left of none is
        of a creation that an engine's death has ended.
        """
        return {row[0] for row in self._database.query("SELECT container_id FROM volume_references")} - {*containers}

    async def give_up(self, container_id: str) -> None:
        """The container does not come to be: what was made for it is removed, unless somebody else has come to use it.

        Never a volume that somebody has named: there may be a reference of no container, too, when records were lost. Volumes are
        gone when this first waits. What fails, as on a full disk, is logged; it is tried again when volumes come or go, and at the
        next start.
        """
        self._owed.add(container_id)
        await self._settle()

    async def _settle(self) -> None:
        """Gives up what is to be; however often this is cancelled, what is no more is deleted."""
        if deleting := [one for container_id in [*self._owed] for one in self._let_go(container_id)]:
            await to_the_end(_each(deleting))

    def _let_go(self, container_id: str) -> builtins.list[Awaitable[None]]:
        query = "SELECT volume FROM volume_references WHERE container_id = ? ORDER BY volume"
        names = [row["volume"] for row in self._database.query(query, (container_id,))]
        going, deleting = [], []
        try:
            with self._database.transaction():
                for name in names:
                    self.release(name, container_id)
                    if _RANDOM_NAME.fullmatch(name):
                        with contextlib.suppress(Conflict):
                            self.forget(name)
                            going.append(name)
        except EngineError as error:
            log.warning("the volumes made for container %s stay for now: %s", container_id[:12], error)
            return []
        self._owed.discard(container_id)
        for name in going:
            try:
                deleting.append(self.put_away(name))
            except OSError as error:
                log.warning("the files of volume %s stay for now: %s", name, error)
        return deleting

    def release(self, name: str, container_id: str) -> None:
        """The container is removed; does nothing when it does not refer to the volume."""
        self._database.execute(
            "DELETE FROM volume_references WHERE volume = ? AND container_id = ?", (name, container_id)
        )

    def users(self, name: str) -> builtins.list[str]:
        """Ids of the containers that refer to a volume, but for those that do not come to be."""
        rows = self._database.query(
            "SELECT container_id FROM volume_references WHERE volume = ? ORDER BY container_id", (name,)
        )
        return [row["container_id"] for row in rows if row["container_id"] not in self._owed]

    async def is_filled(self, name: str) -> bool:
        """Whether a volume is a folder with content; of one that is mounted nobody knows before it is. Raises NotFound."""
        volume = self.get(name)
        return not volume.mounted and not await asyncio.to_thread(is_empty, volume.path)

    async def populate(self, name: str, source: int, empty: Collection[str] = (), *, made_for: str = "") -> None:
        """Copies a directory's content, owners and modes included, into a volume that is still empty.

        This is what gives a new volume the files that the image has at its mount point. A volume with content is
        left as it is. ``source`` is the directory's descriptor. Raises NotFound, OSError; then nothing has been copied.

        Args:
            empty: names of files that the volume gets, too, where the directory has nothing of that name.
            made_for: the container that is being created, which does not look at the volume yet.
        """
        volume = self.get(name)
        draft = self._trash / f"volume-{secrets.token_hex(8)}"
        async with self._populating.setdefault(name, asyncio.Lock()):
            try:
                if not await to_the_end(asyncio.to_thread(_copy, source, volume, draft, empty)):
                    return
                if {*self.users(name)} - {made_for} or self._looked_at[name] > 1:
                    await to_the_end(asyncio.to_thread(_move_in, draft, volume))
                else:  # nobody would be left with the directory that was there: another may take its place, if it is empty
                    draft.rename(volume.path)
            except BaseException:
                await asyncio.to_thread(remove_tree, draft)
                raise

    # -- rows

    def _find(self, name: str) -> Volume | None:
        row = self._database.query_one("SELECT * FROM volumes WHERE name = ?", (name,))
        return None if row is None else self._volume(row)

    def _all(self) -> builtins.list[Volume]:
        return [self._volume(row) for row in self._database.query("SELECT * FROM volumes ORDER BY name")]

    def _volume(self, row: Row) -> Volume:
        name = row["name"]
        return Volume(
            name=name,
            path=self._directory / name / "_data",
            created=datetime.fromtimestamp(row["created_ns"] / 1e9, UTC),
            labels=json.loads(row["labels"]),
            options=json.loads(row["options"]),
        )


def validate_name(name: str) -> None:
    """Raises ``InvalidParameter`` in dockerd's words."""
    if len(name) == 1:
        raise InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _is_name(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and len(name) <= _NAME_MAX


def _copy(source: int, volume: Volume, draft: Path, empty: Collection[str] = ()) -> bool:
    """Copies to ``draft``, which is new then, when the volume is empty; what is mounted is filled where it is. False: nothing is
    left to do. Half a copy would be content that no later container replaces."""
    if not is_empty(volume.path):
        return False
    if not volume.mounted:
        draft.mkdir(mode=0o700)
        copy_tree(source, draft)
        _add_empty(draft, empty)
        return True
    try:
        copy_tree(source, volume.path)
        _add_empty(volume.path, empty)
    except BaseException:
        for name in {*os.listdir(source), *empty}:
            remove_tree(volume.path / name)
        raise
    return False


def _add_empty(folder: Path, names: Collection[str]) -> None:
    """Its owner's, and where nothing is: a symlink there, which may lead anywhere, is not followed."""
    owner = folder.stat()
    for name in names:
        with contextlib.suppress(FileExistsError):
            fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o755)
            try:
                os.fchown(fd, owner.st_uid, owner.st_gid)
                os.fchmod(fd, 0o755)
            finally:
                os.close(fd)


def _move_in(draft: Path, volume: Volume) -> None:
    """Into an empty volume that containers look at."""
    folder = draft.with_name(f"{draft.name}-in")
    folder.mkdir(mode=0o700)
    draft.rename(folder / "_data")
    try:
        with contextlib.suppress(exchange.NotEmpty):  # one of them was faster
            exchange.exchange(folder, volume.name, volume.path, replace=False, lasting=False)
    finally:
        if not exchange.unfinished(folder):
            remove_tree(folder)


async def _each(works: Iterable[Awaitable[None]]) -> None:
    for work in works:
        await work


async def _delete(path: Path) -> None:
    """What is nobody's any more; an exchange that was not undone has files of a volume's. A file that cannot be removed (a
    privileged container can make one immutable) stays until one can."""
    if exchange.unfinished(path):
        log.error("the files in %s stay: an exchange is to be undone", path)
        return
    try:
        await asyncio.to_thread(_remove, path)
    except OSError as error:
        log.warning("the files in %s stay for now: %s", path, error)


def _remove(path: Path) -> None:
    clear_mounts(path)  # those of an engine that was killed: their files are not the volume's
    remove_tree(path)
