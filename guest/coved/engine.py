"""The engine: the domains put together, started and stopped in order."""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coved.activity import Activity
from coved.build.cache.snapshots import Snapshots
from coved.build.cache.steps import Steps
from coved.containers import Containers
from coved.containers.proxies_and_certificates import ProxiesAndCertificates
from coved.current_outside import CurrentOutside
from coved.events import Events
from coved.images import Images
from coved.networks import Networks
from coved.outside import Outside
from coved.registry import Registries, Settings
from coved.runtime.spawner_client import SpawnerClient
from coved.shares import Share, Table
from coved.shares.shares import Shares
from coved.store import upgrading
from coved.store.database import Database
from coved.volumes import Volumes
from coved.watching.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from coved.build.builder import Builder
    from coved.buildkit.history import History
    from coved.events.quiet import GivesBack
    from coved.files.manager import Files
    from coved.files.volume_archives import VolumeArchives
    from coved.link import protocol
    from coved.link.client import LinkClient
    from coved.names.keeping import Keeper
    from coved.runtime.keeper import SpawnerKeeper
    from coved.watching.emitter import Emitter

log = logging.getLogger(__name__)

SETTLE_S = 10.0
"""Seconds that the first client waits for what restart policies start, as dockerd lets it wait."""
BESIDE = "/host"
"""Where the files of a host lie, for an engine that runs beside it (`coved.remote.places`)."""
STARTER = Path("/usr/share/cove/starter.tar")


@dataclass(frozen=True)
class Config:
    """``root`` outlives the machine, ``state`` ends with it; ``link`` is None on a Linux host without the VM."""

    root: Path
    state: Path
    socket: Path
    link: Path | None
    version: str
    starter: Path = STARTER
    userns_remap: str = ""
    """The value of --userns-remap; "": containers have no user namespaces."""
    registries: Settings | Path = field(default_factory=Settings)
    """A file is read when the engine is made; certificates lie in the folder ``certs.d`` beside it."""
    outside: Outside | Path = field(default_factory=Outside)
    """Proxies, and whom TLS trusts; in a file the engine keeps what the host tells it."""
    beside: str = ""
    """The engine's name on a host that others use as well, to which a laptop has come (`coved.remote`); "" in the VM and without a link.
    There it leaves alone what is not its own: the clock, the memory, what other programs make of the network."""
    ssh_agent: tuple[Path, Path] | None = None
    """Where the host's SSH agent answers containers, and where its connection takes streams to it; None without a host."""


class Engine:
    """Owns the domains, which the API's server brings to clients. Nobody else may use ``config.root``.

    ``keeper`` has what an engine before this one kept; None: its supervisor keeps nothing.
    """

    def __init__(self, config: Config, keeper: Keeper | None = None) -> None:
        for directory in (config.root, config.state):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.config = config
        self.stopping = asyncio.Event()
        self._keeper: SpawnerKeeper | None = None
        self.link: LinkClient | None = None
        self._gives_back: GivesBack | None = None
        self.shares: Shares | None = None
        """Folders of the user's computer; None where that is the engine's own."""
        self.watched: Watched | None = None
        self._watching: asyncio.Task[None] | None = None
        if config.link is not None:
            from coved.link import client  # only where there is a laptop

            if not config.beside:
                from coved.events.quiet import GivesBack  # only in the VM: another system's memory is its own business

                self._gives_back = GivesBack()
            self.link = client.LinkClient(config.link, config.version, set_clock=not config.beside)
            self.shares = Shares(zone=lambda: self.outside.now.zone, beside=BESIDE if config.beside else "")
            self.link.on_shares = self._share
            self.watched = Watched(self.link.watch)
            self.link.watched = lambda: self.watched.paths if self.watched is not None else ()
            self.link.on_changes = self._changes_told
        self.outside = CurrentOutside(config.outside)
        self.proxies_and_certificates = ProxiesAndCertificates(self.outside, config.state)
        if self.link is not None:
            self.link.on_outside = self.outside.renew
        self.database = upgrading.opened(config.root / "metadata.db")
        self.identity = _identity(self.database)
        self.events = Events()
        self.images = Images(self.database, self.events, config.root)
        # Not with the builder, which few sessions need: the layers that are the build cache's must not go with their images.
        self.snapshots = Snapshots(self.database, self.images, config.root)
        self.steps = Steps(self.database, self.snapshots)
        self.volumes = Volumes(self.database, self.events, config.root)
        self.networks = Networks(self.database, self.events, config.state, self.link, keeper, config.beside)
        self.registries = Registries(
            self.database,
            self.events,
            self.images,
            config.root / "tmp",
            config.registries if isinstance(config.registries, Settings) else Settings.of_file(config.registries),
            self.networks.sandboxes.ports.reached_by,
            self.outside,
        )
        self.spawner = SpawnerClient(config.state / "spawner.sock", config.state / "shims")
        self.containers = Containers(
            database=self.database,
            events=self.events,
            images=self.images,
            volumes=self.volumes,
            networks=self.networks,
            spawner=self.spawner,
            root=config.root,
            proxies_and_certificates=self.proxies_and_certificates,
            shares=self.shares,
            watched=self.watched,
            userns_remap=config.userns_remap,
        )

        self.activity = Activity(self.containers.any_up)
        self.containers.on_change(self.activity.changed)

    @functools.cached_property
    def files(self) -> Files:
        from coved.files.manager import Files  # what it needs of archives is not for every start

        return Files(self.containers, self.images, self.events)

    @functools.cached_property
    def volume_archives(self) -> VolumeArchives:
        from coved.files.volume_archives import VolumeArchives  # what it needs of archives is not for every start

        return VolumeArchives(self.volumes)

    @functools.cached_property
    def builder(self) -> Builder:
        from coved.build.builder import Builder  # most sessions of an engine build nothing

        return Builder(
            self.database, self.images, self.registries, self.networks, self.spawner, self.snapshots, self.steps,
            self.config.root, self.proxies_and_certificates,
        )  # fmt: skip

    @functools.cached_property
    def build_history(self) -> History:
        from coved.buildkit.history import History  # most sessions of an engine build nothing

        return History(self.config.root / "build" / "history")

    async def start(self, answer: Callable[[], None]) -> None:
        """Takes up what an earlier engine left running, then calls ``answer``, which lets clients in; the link hears of it last."""
        if self.config.link is None:
            # In the VM, PID 1 has started the spawner, and it outlives the engine.
            from coved.runtime.keeper import SpawnerKeeper  # not in the VM

            self._keeper = SpawnerKeeper(self.spawner.socket_path, self.spawner.shims_dir)
            self._keeper.start()
        await self.images.start(self.config.starter)
        await self.volumes.start()
        await self.containers.start()
        await self.snapshots.start()  # when what an earlier engine's builds ran is ended
        self.steps.start()
        if self.link is None:
            upgrading.let_in(self.config.root / "metadata.db")
            await self.containers.life.settle(SETTLE_S)
            answer()
            if self._keeper is not None:
                await self._keeper.started()
            return
        answer()
        self.link.on_shutdown = self.containers.shutdown
        await self.link.start()  # before containers are started: their ports are published through it
        await self.containers.life.settle(SETTLE_S)
        upgrading.let_in(self.config.root / "metadata.db")  # the host lets nobody in before it hears that all is ready
        if self._gives_back is not None:
            self._gives_back.happened()  # the boot was a load, too
            self.events.on_event = self._gives_back.happened
        self.link.announce_ready()
        self.activity.follow(self.link.announce_activity)

    async def _share(self, told: protocol.Shares) -> tuple[dict[str, str], list[str]]:
        assert self.shares is not None
        folders = tuple(Share(one.tag, one.path, one.read_only, one.driver, one.token) for one in told.shares)
        table = Table(folders, told.windows, told.fold_case, told.sockets)
        self.shares.machine, self.shares.listed = told.machine, told.listed
        answer = await self.shares.set(table, told.lost)
        self._watching = asyncio.get_running_loop().create_task(self.containers.watch_again())  # when this is answered
        return answer

    def _changes_told(self, changes: protocol.Changes) -> None:
        self._emitter.take(changes)

    @functools.cached_property
    def _emitter(self) -> Emitter:
        from coved.watching.emitter import Emitter  # only for containers that have folders of the user's computer

        assert self.link is not None and self.watched is not None
        return Emitter(self.link.changed)

    def request_stop(self) -> None:
        """Asks for the engine's end by ``stopping``; safe to call more than once."""
        self.stopping.set()

    async def stop_containers(self, timeout_s: float) -> None:
        """At most for ``timeout_s`` seconds; ``close`` is to follow, when no client is served any more."""
        if self.link is not None:
            self.link.announce_stop()
        try:
            await self.containers.shutdown(timeout_s)
        except Exception:
            log.exception("stopping containers failed")

    async def close(self) -> None:
        """Lets go of sockets, threads and files; containers keep running."""
        if self._gives_back is not None:
            await self._gives_back.close()
        self.activity.close()
        if self.link is not None:
            await self.link.close()
        if "build_history" in vars(self):
            await self.build_history.close()
        if "builder" in vars(self):
            await self.builder.close()
        await self.snapshots.close()
        if "files" in vars(self):
            await self.files.close()
        if "volume_archives" in vars(self):
            await self.volume_archives.close()
        await self.containers.close()
        await self.networks.close()
        await self.registries.close()
        await self.images.close()
        self.database.close()
        if self._keeper is not None:
            await self._keeper.close()


def _identity(database: Database) -> str:
    """The engine's id, made once for a data directory."""
    database.migrate("engine", ("CREATE TABLE engine (id TEXT PRIMARY KEY) STRICT;",))
    row = database.query_one("SELECT id FROM engine")
    if row is not None:
        return str(row["id"])
    import uuid  # once in an engine's life

    identity = str(uuid.uuid4())
    database.execute("INSERT INTO engine VALUES (?)", (identity,))
    return identity
