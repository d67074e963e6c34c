"""The embedded engine's handle: one per file and process, locked against other writers, with its hazards closed off.

Measured on ladybug 0.22.0, and the reason for every rule here:

* Two `Database` objects that write one file lose each other's rows without an error. So a process has one writing
  Engine per file (opening again shares it), and `<path>.lock` keeps other processes out.
* The log does not hold what a COPY writes. Of one that stands in a transaction nothing is left when the process ends after
  COMMIT and before a checkpoint, while all else of the transaction is there. A COPY by itself ends with a checkpoint, so
  what it wrote is in the file when it returns, or it raises. So no transaction has a COPY (`copy` asserts it): what is to
  appear at one instant is copied into a table beside (`kgkit.store.ladybug_tables.fill_aside`), and the transaction that
  puts it in place, DROP and RENAME, is in the log. Nothing is said to be done before its COPY has returned.
* A bulk COPY of nodes that fails half-way leaves a broken key index in memory. `copy_nodes` is for keys proven new,
  outside transactions, and opens the file anew after any error.
* A key index that a COPY (or MERGE, or CREATE) makes more than twice as large loses a key now and then: the node is
  there, and no look-up by its id finds it. (In 6 of 50 tries from 8,000 to 40,000 keys to three to nine times as many; in
  none of 55 to less than twice as many, in none of 185 from fewer than 8,000.) So `copy_nodes` goes by slices.
* A closed `Database` lives as long as anything of its statements does, such as the frames of an exception that somebody
  keeps; and when it dies it removes the log, with what was written since by the handle that took its place. So `_guard`
  empties these frames.
* A prepared statement keeps the Arrow tables that it scanned alive. So every call has its own connection.
* The native Arrow collector shifts values into other rows when there are nulls (seen on every type). So `arrow` uses
  it only where nulls are impossible.
* A log whose last record is cut off (by kill -9 in the middle of a commit) makes the engine refuse the whole file,
  unless told to replay it up to there: then the graph is that of the last commit.
* A COPY to a relationship table that is not empty takes 64 bytes for each node and direction, whatever its rows, until
  the file is opened anew; and no COPY can do without its texts' bytes in memory, although it sends its numbers to disk
  where pages are short. So a graph of very many nodes keeps its facts in several tables (`kgkit.store.ladybug_parts`).
* A COPY takes 270 bytes a relationship until it ends, and its checkpoint, which rewrites most of the table, frees them
  little by little: hundreds of MiB that the C library keeps. So `copy` hands them back while it runs, before it begins
  what others left, and before a very large one all pages that the engine keeps; and it goes by slices where memory is short.
* A checkpoint that fails for want of pages may lose what was committed before it. So a statement that writes has all
  pages that there are; only a COPY, before which the log is empty, and after which rows are counted, has few.
* A handle takes 8 bytes for each page that it may keep, used or not: of a machine with 256 GiB 430 MiB. So a writer's
  pages are limited.
* A reader in another process does not notice that the file below it was rewritten. So readers look at its time stamp
  before and after each query, and open it anew when it changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import ladybug

from kgkit.errors import ReadOnlyStoreError, RetryableStoreError, StoreError
from kgkit.lazy import pa
from kgkit.memory import lean, let_go, resident
from kgkit.schema import identifier
from kgkit.store import ladybug_seal
from kgkit.store.ladybug_known import KnownHeads, KnownNodes
from kgkit.store.ladybug_parts import TYPE, parts_for, parts_of, spread, visible_of

ARROW_CHUNK = 2_000_000  # rows a chunk of the engine's Arrow collector; larger is faster, up to here
READ_TRIES = 5
LARGE = 100_000  # rows of a statement that leaves much memory behind
REOPEN_FROM = 500_000  # rows of a COPY that needs all the room there is
ROOM = 840 << 20  # bytes that the process grows by at most while it writes, if it can be helped
VERY_MANY = 4_000_000  # rows of a COPY that goes by halves at most
COPY_BYTES, KEY_BYTES, ROW_BYTES = 64 << 20, 50, 270  # of a COPY: in any case, a key that is indexed, a row
POOL = 8 << 30  # bytes of pages of a writer
FEW_PAGES = 300 << 20  # the same, while it fills a graph of many nodes; more where a statement needs them
MANY_NODES = 1_000_000
FEW_KEYS = 4_000  # of so few none is lost, however many come
_FULL = (
    "{path}: the disk is full: what was stored before is safe, what was being written is not stored; make room and run the "
    "same command again"
)
_WRITES = re.compile(r"\b(CREATE|MERGE|SET|DELETE|ALTER|DROP)\b")  # of kgkit's own statements
Stamp = tuple[tuple[int, int, int], ...]
T = TypeVar("T")


class _PagesError(StoreError):
    """A statement needs more pages than there may be."""


class _CheckpointError(StoreError):
    """A statement was committed, and the checkpoint after it failed.

    The engine says then that nothing is lost; but what a COPY wrote is in memory only.
    """


class _CheckpointPagesError(_CheckpointError, _PagesError):
    """The same for want of pages."""


class Engine:
    """An open database file. Get one by `Engine.open`, give it back by `release`; safe to share among threads."""

    _writers: ClassVar[dict[str, Engine]] = {}
    _registry: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path, read_only: bool) -> None:
        self.path, self.read_only = path, read_only
        self._users = 1
        self.left_open, self.since = (
            False,
            0.0,
        )  # whether the last writer had not closed it; when this one opened it
        self._mutex = threading.RLock()
        self._transaction: ladybug.Connection | None = None
        self._lock_file: int | None = None if read_only else _lock(path)
        self._stamp: Stamp = ()
        self._most = resident() + ROOM
        self.known: dict[str, KnownNodes] = {}  # by label; see kgkit.store.ladybug_known
        self.heads: dict[str, KnownHeads] = {}  # by relationship type
        self.all_have_rids = False  # whether that is known of all facts
        self._few_pages, self._few = False, FEW_PAGES  # whether pages are few now, and how many bytes that is
        self.parts: tuple[
            str, ...
        ] = ()  # tables beside the first of their type; see kgkit.store.ladybug_parts
        self._visible: tuple[
            str, ...
        ] = ()  # relationship types, where there are tables that are nobody's yet
        self._large = False  # whether nodes are known to be many
        try:
            self._database = self._open_database()
            self._large = bool(parts_for(self.parts, TYPE))
        except BaseException:
            self._unlock()
            raise

    @classmethod
    def open(cls, path: Path, *, read_only: bool, create: bool = True) -> Engine:
        """The engine of a file. A file that this process already writes is shared, also with readers.

        Raises StoreError for what cannot be opened, RetryableStoreError when another process writes it.
        """
        path = Path(os.path.realpath(path.expanduser()))
        with cls._registry:
            shared = cls._writers.get(str(path))
            if shared is not None:
                shared._users += 1
                return shared
            _check_path(path, read_only, create)
            ladybug_seal.opened(path)
            left_open, since = not read_only and ladybug_seal.left_open(path), time.monotonic()
            engine = cls(path, read_only)
            engine.left_open, engine.since = left_open, since
            if not read_only:
                cls._writers[str(path)] = engine
            return engine

    def release(self) -> None:
        """Gives the engine back; the last user closes the file."""
        with self._registry, self._mutex:
            self._users -= 1
            if self._users:
                return
            if not self.read_only:
                del self._writers[str(self.path)]
            try:
                self._close_database()
                if not self.read_only:
                    ladybug_seal.closed(self.path, self.since)
            finally:
                self._unlock()

    # -- statements ----------------------------------------------------------------------------------------------
    def rows(
        self, cypher: str, params: Mapping[str, Any] | None = None, *, one_table: bool = False
    ) -> list[list[Any]]:
        """Runs one statement and returns its rows. Arrow tables may be parameters (`LOAD FROM $t`).

        one_table: a type means the table of this name, and not the others that its relationships may have.
        """
        if "DELETE" in cypher or "DROP TABLE" in cypher:
            self.known.clear()

        def run(connection: ladybug.Connection) -> list[list[Any]]:
            text = cypher if one_table else self._spread(cypher)
            return list(_execute(connection, text, params).get_all())

        if self._few_pages and _WRITES.search(cypher):
            self._all_pages()
        return self._call(run)

    def arrow(
        self,
        cypher: str,
        params: Mapping[str, Any] | None = None,
        *,
        never_null: bool = False,
        one_table: bool = False,
    ) -> pa.Table:
        """Runs one statement and returns its columns. one_table: as in `rows`.

        `never_null` promises that no value can be null. Only then the engine's native collector is used: it is up to
        3x as fast, but takes no parameters, shifts values into other rows without an error when there are nulls, and
        gives no rows when the columns are exactly two offsets.
        """

        def run(connection: ladybug.Connection) -> pa.Table:
            text = cypher if one_table else self._spread(cypher)
            if never_null and not params:
                return connection.query_as_arrow(text, ARROW_CHUNK).get_as_arrow()
            return _execute(connection, text, params).get_as_arrow(chunk_size=-1)

        return self._call(run)

    def people(
        self, cypher: str, params: Mapping[str, Any], *, write: bool
    ) -> tuple[list[str], list[list[Any]]]:
        """Runs people's own Cypher: one statement, read-only unless `write`. Returns column names and rows."""

        if write:
            self.known.clear()
            self.heads.clear()
            self.all_have_rids = False
            self._all_pages()

        def run(connection: ladybug.Connection) -> tuple[list[str], list[list[Any]]]:
            if not write:
                connection.execute("BEGIN TRANSACTION READ ONLY")
            try:
                # A parameter makes the engine prepare the text: it then refuses a second statement behind a ';',
                # and a $parameter that nobody gave, both of which it otherwise accepts in silence.
                result = _execute(connection, self._spread(cypher), {"kgkit_unused": 0, **params})
                return result.get_column_names(), result.get_all()
            finally:
                if write:
                    self._look_at_tables(connection)
                else:
                    with contextlib.suppress(RuntimeError):
                        connection.execute("ROLLBACK")

        return self._call(run)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements within are kept or, after any exception, forgotten together."""
        with self._mutex:
            if self._transaction is not None:
                raise StoreError("a transaction is already open")
            self._all_pages()
            connection = self._connect()
            self._transaction = connection
            try:
                self._guard(lambda: connection.execute("BEGIN TRANSACTION"))
                try:
                    yield
                except BaseException:
                    self.known.clear()
                    with contextlib.suppress(RuntimeError):
                        connection.execute("ROLLBACK")
                    raise
                self._guard(lambda: connection.execute("COMMIT"))
            finally:
                self._transaction = None
                self._look_at_tables(connection)
                self.heads.clear()  # offsets of nodes that it made were for the time being
                connection.close()

    @property
    def in_transaction(self) -> bool:
        """Whether `transaction` is open (on this thread: others wait)."""
        return self._transaction is not None

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps other threads out between statements that belong together. Raises ReadOnlyStoreError for readers."""
        if self.read_only:
            raise ReadOnlyStoreError(f"{self.path} is open for reading only")
        with self._mutex:
            yield

    def checkpoint(self) -> None:
        """Moves the log into the file. Vectors need it every few thousand rows: its cost is super-linear in them."""
        self.rows("CHECKPOINT")

    def make_room(self, *, to_write: bool = False) -> None:
        """Lets go of the pages that the engine keeps, when the process holds much.

        A graph of many nodes has FEW_PAGES from then on, but `to_write`, which a SET needs, all of them.

        Closing moves the log into the file, which takes as long for a few rows as for many: for a COPY, which does the
        same, or before statements over many rows.
        """
        with self._mutex:
            few_pages = self._large and not to_write
            fewer = few_pages and not self._few_pages
            if self.read_only or self.in_transaction or not (fewer or resident() > self._most // 2):
                return
            self._few_pages = few_pages
            self._reopen(forget=False)
            let_go()

    def copy(
        self,
        into: Callable[[], str],
        table: pa.Table,
        keys: int,
        *,
        most: int | None = None,
        few_pages: bool = False,
    ) -> None:
        """Appends nodes, or relationships between the ids in columns head and tail; other columns are properties.

        It goes by slices that there is room for, of `most` rows at most, each committed by itself, and in the file when
        the next one begins. into: gives the table for the next one. keys: nodes whose key index it reads. few_pages:
        whether it can do with FEW_PAGES, where nodes are many. Never within a transaction, whose log would lack the rows.
        """
        assert not self.in_transaction
        few_pages = few_pages and keys >= MANY_NODES
        self._large = self._large or few_pages
        at = 0
        while at < table.num_rows:
            rows = left = table.num_rows - at
            name = into()
            if left >= (LARGE if few_pages else REOPEN_FROM):
                self._few_pages = few_pages
                self._reopen()
            else:
                self.make_room(to_write=not few_pages)
            if left >= LARGE:
                let_go()
            room = (self._most - resident() - COPY_BYTES - KEY_BYTES * keys) // ROW_BYTES
            # Each slice rewrites the table, and whoever holds very many rows has room for a half of them.
            room = max(REOPEN_FROM, room, table.num_rows // 2 if table.num_rows > VERY_MANY else 0)
            room = most if few_pages and most else room
            # Of one size: what a slice takes depends more on what is stored than on its rows.
            rows = -(-left // -(-left // min(room, most or room)))
            with lean(self._most // 2) if rows >= LARGE else contextlib.nullcontext():
                self._copy(name, table.slice(at, rows))
            if rows >= LARGE:
                let_go()
            at += rows

    def _copy(self, name: str, table: pa.Table) -> None:
        names = ", ".join(identifier(c) for c in table.column_names if c not in ("head", "tail"))
        pattern = (
            f"()-[r:{identifier(name)}]->()" if "head" in table.column_names else f"(n:{identifier(name)})"
        )
        count = f"MATCH {pattern} RETURN count(*)"
        before = self.rows(count) if self._few_pages else None
        while True:
            try:
                self.rows(f"COPY {identifier(name)} ({names}) FROM $t", {"t": table})
                return
            except _CheckpointPagesError:
                if before is None:
                    raise
                held = self.rows(count)[0][0] - before[0][0]
                if held == table.num_rows:
                    return
                if held:
                    raise

    def copy_nodes(self, label: str, table: pa.Table) -> None:
        """Bulk-loads nodes whose keys are proven new and distinct; column names are the properties.

        Never within a transaction: a rolled-back COPY of nodes corrupts the engine's memory.
        """
        before = held = self.count(label)
        while (at := held - before) < table.num_rows:
            part = table.slice(at, max(FEW_KEYS, held * 9 // 10) if held else table.num_rows)
            try:
                self.copy(lambda: label, part, held, few_pages=True)
            except BaseException:
                self._few_pages = False
                self._reopen()
                if self.count(label) != before:
                    raise StoreError(
                        f"{self.path}: a bulk load of {label} nodes failed and left {self.count(label) - before:,} of "
                        f"{table.num_rows:,} behind: run the same command again"
                    ) from None
                raise
            held += part.num_rows

    def count(self, label: str) -> int:
        """Nodes of a label."""
        return int(self.rows(f"MATCH (n:{identifier(label)}) RETURN count(*)")[0][0])

    # -- the handle ----------------------------------------------------------------------------------------------
    def _call(self, run: Callable[[ladybug.Connection], T]) -> T:
        with self._mutex:
            if self._transaction is not None:
                connection = self._transaction
                return self._guard(lambda: run(connection))
            if self.read_only:
                return self._consistent(run)
            while True:
                try:
                    return self._guard(lambda: self._alone(run))
                except (_PagesError, _CheckpointError) as error:
                    if self._few_pages and isinstance(error, _PagesError):
                        self._few *= 2
                        self._few_pages = self._few < _pool(self.read_only)
                    elif not isinstance(error, _CheckpointError):
                        raise
                    # After a checkpoint that failed, what the engine holds is not what the file and its log hold.
                    self._reopen()
                    if isinstance(error, _CheckpointError):
                        raise

    def _alone(self, run: Callable[[ladybug.Connection], T]) -> T:
        connection = self._connect()
        try:
            return run(connection)
        finally:
            connection.close()

    def _consistent(self, run: Callable[[ladybug.Connection], T]) -> T:
        """A read that no writer in another process disturbed: tried again when the file changed meanwhile."""
        for attempt in range(READ_TRIES):
            if attempt:
                time.sleep(0.05 * attempt)
            stamp = _stamp(self.path)
            try:
                if stamp != self._stamp:
                    self._reopen()
                value = self._guard(lambda: self._alone(run))
            except StoreError:
                if _stamp(self.path)[:1] == stamp[:1] or attempt == READ_TRIES - 1:
                    raise
                continue
            if _stamp(self.path)[:1] == stamp[:1]:
                return value
        raise RetryableStoreError(f"{self.path} is being written all the time: read it again later")

    def _connect(self) -> ladybug.Connection:
        return ladybug.Connection(self._database)

    def _reopen(self, forget: bool = True) -> None:
        """`forget` where nodes may be missing afterwards, or have to make room."""
        if forget:
            self.known.clear()
        self._close_database()
        self._database = self._open_database()

    def _close_database(self) -> None:
        """Moves the log into the file, unless that fails, and closes.

        What is committed is safe in the log, out of which the next writer goes on.
        """
        if not self.read_only and _log_of(self.path).exists():
            try:
                with contextlib.closing(self._connect()) as connection:
                    connection.execute("CHECKPOINT")
            except RuntimeError:
                # The disk is full. Closing would write what is left of the log, and ends the process when it cannot. So
                # the handle is given up as it is, for as long as the process lives.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._database))
                return
        self._database.close()

    def _all_pages(self) -> None:
        """Before what may need more than FEW_PAGES."""
        if self._few_pages:
            self._few_pages = False
            self._reopen()

    def _open_database(self) -> ladybug.Database:
        stamp = _stamp(self.path)
        pool = _pool(self.read_only)
        try:
            try:
                database = ladybug.Database(
                    str(self.path),
                    buffer_pool_size=min(pool, self._few) if self._few_pages else pool,
                    read_only=self.read_only,
                )
            except Exception as error:
                if (found := ladybug_seal.explained(self.path, error)) is not None:
                    raise found from None
                if self.read_only and ("recovery is pending" in str(error) or _torn(error)):
                    _recover(self.path)
                    database = ladybug.Database(str(self.path), read_only=True)
                elif _torn(error):
                    database = _open_torn(self.path)
                else:
                    raise
        except Exception as error:
            self._stamp = ()  # so that the next read tries again
            raise error if isinstance(error, StoreError) else _open_error(self.path, error) from None
        self._stamp = stamp
        with contextlib.closing(ladybug.Connection(database)) as connection:
            self._look_at_tables(connection)
        return database

    def _look_at_tables(self, connection: ladybug.Connection) -> None:
        rows = _execute(connection, "CALL SHOW_TABLES() RETURN name, type", None).get_all()
        self.parts = parts_of([name for name, _ in rows])
        self._visible = visible_of([name for name, type_ in rows if type_ == "REL"])

    def _spread(self, cypher: str) -> str:
        return spread(cypher, self.parts, self._visible) if self.parts or self._visible else cypher

    def _guard(self, run: Callable[[], T]) -> T:
        try:
            return run()
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)
            if not isinstance(error, Exception):
                raise
            found = ladybug_seal.explained(self.path, error)
            if found is None and not isinstance(error, RuntimeError):
                raise
            failure = found or _statement_error(self.path, error)
        raise failure  # here, so that it has no context

    def _unlock(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def _execute(
    connection: ladybug.Connection, cypher: str, params: Mapping[str, Any] | None
) -> ladybug.QueryResult:
    result = connection.execute(cypher, dict(params) if params else None)
    assert isinstance(result, ladybug.QueryResult)
    return result


def _stamp(path: Path) -> Stamp:
    """Identity, size and time of the file and of its log."""
    out = []
    for file in (path, _log_of(path)):
        try:
            found = file.stat()
            out.append((found.st_ino, found.st_size, found.st_mtime_ns))
        except OSError:
            out.append((0, 0, 0))
    return tuple(out)


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


def _check_path(path: Path, read_only: bool, create: bool) -> None:
    if path.is_dir():
        raise StoreError(f"{path} is a directory: give the path of a graph file, such as {path / 'graph.kg'}")
    exists = path.exists() and path.stat().st_size > 0
    if (read_only or not create) and not exists:
        raise StoreError(f"there is no graph at {path}: make one with `kgkit ingest ... --store {path}`")
    if exists and not os.access(path, os.R_OK if read_only else os.R_OK | os.W_OK):
        raise StoreError(f"{path}: permission denied")
    if not path.parent.is_dir():
        raise StoreError(f"{path}: there is no directory {path.parent}")


def _lock(path: Path) -> int:
    """Takes `<path>.lock`, which stays behind (unlocked) so that nobody locks a file that was just removed."""
    name = path.with_name(path.name + ".lock")
    try:
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StoreError(f"{name}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(handle, 20).decode(errors="replace").strip()
        os.close(handle)
        raise RetryableStoreError(
            f"{path} is being written by another process{f' ({owner})' if owner else ''}: try again when it is done"
        ) from None
    with contextlib.suppress(OSError):  # of a full disk; who holds it is told to people only
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
    return handle


def _recover(path: Path) -> None:
    """Finishes what a killed writer's checkpoint began, which a reader may not. Raises RetryableStoreError while that
    writer lives."""
    handle = _lock(path)
    try:
        _open_torn(path).close()
    finally:
        os.close(handle)


def _torn(error: Exception) -> bool:
    """Whether the log ends within a record: its writer was killed while writing it."""
    return "WAL file is corrupted" in str(error) or ".wal with size" in str(error)


def _open_torn(path: Path) -> ladybug.Database:
    """Replays the log up to where it is whole. What follows was never said to be committed."""
    return ladybug.Database(
        str(path), buffer_pool_size=_pool(read_only=False), throw_on_wal_replay_failure=False
    )


def _pool(read_only: bool) -> int:
    """Bytes of pages that a handle may keep; 0 is the engine's own choice, which is 80 % of the machine's memory."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0 if read_only else min(POOL, machine * 4 // 5)


def _open_error(path: Path, error: Exception) -> StoreError:
    text = _one_line(error)
    if "Could not set lock" in text:
        return RetryableStoreError(f"{path} is being written by another process: try again when it is done")
    if _is_full(text):
        return StoreError(_FULL.format(path=path))
    if "not a valid" in text:
        return StoreError(f"{path} is not a graph of kgkit (or of another version of the engine)")
    return StoreError(f"{path} cannot be opened: {text}")


def _statement_error(path: Path, error: Exception) -> StoreError:
    text = _one_line(error)
    committed = text.startswith(("Transaction committed successfully, but", "Checkpoint failed"))
    if _is_full(text):
        text = _FULL.format(path=path)
    elif committed:
        text = f"what was written last may be missing, run the same command again ({text})"
    if "buffer pool is full" in text:
        return _CheckpointPagesError(text) if committed else _PagesError(text)
    if committed:
        return _CheckpointError(text)
    if "read-only transaction" in text or "read-only database" in text or "read only" in text.lower():
        return ReadOnlyStoreError(f"the statement writes, but only reading is allowed here ({text})")
    if "write transaction" in text:
        return RetryableStoreError(f"{path} is being written: {text}")
    if text.startswith("Parameter ") and text.endswith("not found."):
        return StoreError(f"no value given for the parameter ${text.split()[1]}")
    if "does not exist" in text and "Table" in text:
        text += " Labels and types are those of `kgkit stats`"
    elif "Cannot find property" in text:
        text += " A property exists once something was stored in it"
    return StoreError(text)


def _is_full(text: str) -> bool:
    """Whether the engine, or the system, says that there is no room."""
    # Part of a write, without an error; or, in a checkpoint, pages by which the file could not be extended.
    short = re.search(r"numBytesToWrite: \d+ numBytesWritten: \d|numBytesRead: 0 ", text)
    return bool(short) or os.strerror(errno.ENOSPC) in text or os.strerror(errno.EDQUOT) in text


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
