"""A region, open: the collaborators that every verb works with."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom

from ebsim.backends.backend import Backend
from ebsim.backends.local_directory import LocalDirectory
from ebsim.catalog.snapshot_index import has_terms_indexed, index_terms, note_terms_indexed
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.reclaim import Reclaimer
from ebsim.chunkstore.sessions import Session, Sessions
from ebsim.clock import Clock, SystemClock
from ebsim.durable_files import Files
from ebsim.engine.home import prepare_home, region_path
from ebsim.engine.reserve import Reserve
from ebsim.errors import Conflict, MetadataCorrupt, NotFound
from ebsim.ids import AccountId
from ebsim.metadata.lmdb_environment import DATA_FILE
from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.transactions import Metadata, Reader, Table, Transaction

_SEED = b"fingerprint_seed"
_GENERATION = b"generation"
METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Region:
    """One store, open, and the account that acts in it.

    Attributes:
        request_id: Of the API request that it acts for, as events of volumes tell it;
            ``dataclasses.replace`` gives a region for one request.
        seed: The store's fingerprint seed; lost with the metadata, and then made anew.
    """

    name: str
    account_id: AccountId
    home: Path
    path: Path
    seed: int
    clock: Clock
    random: Random
    files: Files
    backend: Backend
    metadata: Metadata
    sessions: Sessions
    reserve: Reserve
    chunks: ChunkReader
    metadata_identity: int
    request_id: str = ""

    def close(self) -> None:
        """Release files.  Sessions must have ended."""
        self.metadata.close()
        self.backend.close()

    def refuse_old_metadata(self) -> None:
        """Refuse to write to metadata that a rebuild has put aside since it was opened."""
        if metadata_identity(self.files, self.path) != self.metadata_identity:
            raise Conflict(
                "the metadata was rebuilt meanwhile. Nothing was changed. Run the command again."
            )

    def reclaimer(self, *, ended: Collection[str] = ()) -> Reclaimer:
        """What gives space back; the sessions *ended* are sure to add to no pack any more."""

        def is_alive(session_id: str) -> bool:
            return session_id not in ended and self.sessions.is_alive(session_id)

        return Reclaimer(self.backend, self.metadata, is_alive)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for one verb.

        A verb that fails leaves its session as a crash would, for ``recover`` to clear.
        """
        session = self.open_session()
        try:
            yield session
        except BaseException:
            session.abandon()
            raise
        session.close()

    def open_session(self) -> Session:
        """A session that the caller closes or abandons."""
        try:
            session = self.sessions.open()
        except FileNotFoundError as error:
            raise NotFound(f"the region {self.name} was removed. Nothing was changed.") from error
        try:
            self.refuse_old_metadata()
        except BaseException:
            session.abandon()
            raise
        return session


def open_region(
    home: Path,
    name: str,
    account_id: AccountId,
    *,
    create: bool = True,
    clock: Clock | None = None,
    random: Random | None = None,
    files: Files | None = None,
) -> Region:
    """Open the region *name* of *home*, making both where they are missing and *create* is.

    Does not clear up after crashed processes: ``recover`` does.

    Raises:
        NotFound: there is no such home or region, and none was to be made.
        UnsupportedFormat: a newer ebsim made the home.
        InvalidRequest: the home lies in another home or on a network file system.
        MetadataCorrupt: there are packs or manifests, and no metadata.
    """
    files = files or Files()
    random = random or SystemRandom()
    home = home.absolute()
    path = region_path(home, name)
    prepare_home(home, files, create=create)
    if not create and files.status(path) is None:
        raise NotFound(
            f"there is no region {name} in {home}. Take a snapshot to make it, or name another "
            "with --region or EBSIM_REGION."
        )
    _refuse_lost_metadata(files, path)
    for folder in ("packs", "snapshots", "sessions", METADATA):
        if files.status(path / folder) is None:
            files.make_directories(path / folder)
    reserve = Reserve(path / "reserve", files)
    backend = LocalDirectory(path, files)
    metadata = LmdbMetadata(path / METADATA)
    try:
        seed = _read_or_make_seed(metadata, random, is_empty=not _stored_names(files, path))
        if not metadata.read(has_terms_indexed):
            metadata.run(index_terms)
    except BaseException:
        metadata.close()
        raise
    return Region(
        name=name,
        account_id=account_id,
        home=home,
        path=path,
        seed=seed,
        clock=clock or SystemClock(),
        random=random,
        files=files,
        backend=backend,
        metadata=metadata,
        sessions=Sessions(path / "sessions", random, files),
        reserve=reserve,
        chunks=ChunkReader(backend, metadata),
        metadata_identity=metadata_identity(files, path),
    )


def _stored_names(files: Files, path: Path) -> list[str]:
    """The packs and manifests in the region at *path*."""
    folders = (path / "packs", path / "snapshots")
    return [n for folder in folders for n in files.file_names(folder) if not n.startswith(".")]


def _lost_metadata(path: Path) -> MetadataCorrupt:
    found = "it is missing or empty, and the region has packs or manifests"
    return MetadataCorrupt(where=f"{path / METADATA}", found=found)


def _refuse_lost_metadata(files: Files, path: Path) -> None:
    """Refuse to begin an empty store where one with snapshots was."""
    if files.status(path / METADATA / DATA_FILE) is None and _stored_names(files, path):
        raise _lost_metadata(path)


def metadata_identity(files: Files, path: Path) -> int:
    """What tells the metadata of the region at *path* from one that a rebuild made since."""
    status = files.status(path / METADATA)
    return status.st_ino if status is not None else 0


def _read_or_make_seed(metadata: LmdbMetadata, random: Random, *, is_empty: bool) -> int:
    def read(reader: Reader) -> bytes | None:
        (row,) = reader.get_many(Table.STORE, [_SEED])
        return row

    def make(txn: Transaction) -> bytes:
        return read(txn) or make_seed(txn, random)

    found = metadata.read(read)
    if found is None and not is_empty:
        raise _lost_metadata(metadata.path.parent)
    return int.from_bytes(found or metadata.run(make), "little")


def make_seed(txn: Transaction, random: Random) -> bytes:
    """Give a new store, whose snapshots are all indexed, its fingerprint seed."""
    made = random.getrandbits(64).to_bytes(8, "little")
    txn.put_many(Table.STORE, [(_SEED, made)])
    note_terms_indexed(txn)
    return made


def raise_generation(txn: Transaction, generation: int) -> None:
    """Make every later write generation greater than *generation*."""
    txn.put_many(Table.STORE, [(_GENERATION, generation.to_bytes(8, "little"))])


def next_generation(txn: Transaction, now_ns: int) -> int:
    """A write generation that no snapshot of the region has: the time, made to rise."""
    (row,) = txn.get_many(Table.STORE, [_GENERATION])
    generation = max(now_ns, int.from_bytes(row or b"", "little") + 1)
    txn.put_many(Table.STORE, [(_GENERATION, generation.to_bytes(8, "little"))])
    return generation
