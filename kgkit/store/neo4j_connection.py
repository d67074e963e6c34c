"""One Neo4j server as the adapter uses it: sessions, what is retried, and driver errors as lines people can act on."""

from __future__ import annotations

import logging
import re
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import neo4j
from neo4j.exceptions import (
    AuthError,
    DriverError,
    IncompleteCommit,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
)

from kgkit.errors import ReadOnlyStoreError, RetryableStoreError, StoreError
from kgkit.store import neo4j_cypher as cypher

OLDEST = (5, 13)  # the first with db.create.setNodeVectorProperty and valueType()
RETRIES = 15.0  # seconds that the driver goes on trying a transaction that may be repeated
PATIENCE = 40.0  # seconds that a restarting server is waited for when the outcome of a write is unknown
COMMITS = 3  # times that a transaction is begun whose commit is not answered
_SERVERS_LOCK_CODES = ("Neo.TransientError.Transaction.DeadlockDetected",)

# The driver's warnings about retries are for those who ask for logs, not for people's terminals.
logging.getLogger("neo4j").addHandler(logging.NullHandler())

T = TypeVar("T")
S = TypeVar("S")


class _Rows(list[Any]):
    """A list that travels as one, and is a few letters in a log."""

    def __repr__(self) -> str:
        return f"[{len(self)} values]"


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a statement, made ready for the driver.

    The driver (6.4) makes text of every value of every statement, for a log that is off: 70% of a client's time when it
    sends embeddings. So long lists are wrapped in one whose text is short.
    """
    return {name: _Rows(value) if isinstance(value, list) else value for name, value in given.items()}


class Connection:
    """A driver with kgkit's habits. Every method raises StoreError, never an error of the driver."""

    def __init__(self, driver: neo4j.Driver, uri: str, database: str | None, read_only: bool) -> None:
        self.driver, self.uri, self.database, self.read_only = driver, uri, database, read_only
        # Marks our transactions, so that those of a broken connection can be waited for.
        self.job = uuid.uuid4().hex
        self._bookmarks = neo4j.GraphDatabase.bookmark_manager()

    def check(self) -> None:
        """Raises StoreError when the server is away, refuses us, or is too old."""
        with self.errors():
            agent = self.driver.get_server_info().agent
        found = re.match(r"Neo4j/(\d+)\.(\d+)", agent)
        if found is None or tuple(map(int, found.groups())) < OLDEST:
            raise StoreError(
                f"{self.uri} is {agent}: kgkit needs Neo4j {OLDEST[0]}.{OLDEST[1]} or newer "
                "(`kgkit neo4j start` runs one)"
            )

    def session(self, *, write: bool, fetch_size: int = 1000) -> neo4j.Session:
        """A session of the driver; without `write` the server refuses statements that change anything.

        Server notes (such as that id() is deprecated) are not for people's terminals.
        """
        if write and self.read_only:
            raise ReadOnlyStoreError(f"{self.uri} was opened read-only")
        return self.driver.session(
            database=self.database,
            default_access_mode=neo4j.WRITE_ACCESS if write else neo4j.READ_ACCESS,
            bookmark_manager=self._bookmarks,
            fetch_size=fetch_size,
            notifications_min_severity=neo4j.NotificationMinimumSeverity.OFF,
        )

    def read(self, text: str, **params: Any) -> list[neo4j.Record]:
        """All rows of a statement of our own; retried while the server is away."""
        return self.read_each(lambda record: record, text, **params)

    def read_each(self, take: Callable[[neo4j.Record], T], text: str, **params: Any) -> list[T]:
        """The same with each row turned into something smaller as it comes.

        On a cluster these ask the leader, so that they see all that was written.
        """
        sent = parameters(params)
        with self.errors(), self.session(write=not self.read_only, fetch_size=100) as session:
            return session.execute_read(lambda tx: [take(record) for record in tx.run(_own(text), sent)])

    def write(self, text: str, **params: Any) -> tuple[list[neo4j.Record], neo4j.SummaryCounters]:
        """Runs a statement that may be repeated without harm: it is retried, also when its answer was lost.

        The counters are those of the attempt that made or deleted most nodes: one that was committed, and whose answer
        was lost, left the next nothing to do.
        """
        sent = parameters(params)
        counted: list[neo4j.SummaryCounters] = []

        def work(tx: neo4j.ManagedTransaction) -> tuple[list[neo4j.Record], neo4j.SummaryCounters]:
            result = tx.run(_own(text), sent)
            rows = list(result)
            counted.append(result.consume().counters)
            return rows, max(counted, key=lambda n: n.nodes_created + n.nodes_deleted)

        return self.transaction(work)

    def transaction(self, work: Callable[[neo4j.ManagedTransaction], T]) -> T:
        """One transaction of several statements, repeated as a whole on errors that may pass.

        Also when the answer to its commit was lost, which the driver leaves to us: the work must bear being done twice.
        """
        for attempt in range(COMMITS):
            try:
                with self.errors(), self.session(write=True) as session:
                    return session.execute_write(work)
            except RetryableStoreError as error:
                if not isinstance(error.__cause__, IncompleteCommit) or attempt == COMMITS - 1:
                    raise
        raise AssertionError("not reached")

    def once(self, text: str, params: Mapping[str, Any]) -> None:
        """Runs a statement that must not be repeated blindly.

        Raises RetryableStoreError when its outcome is unknown: look at the graph, then send what is not there. Only a
        deadlock is tried again here, as the server has rolled it back for certain.
        """
        statement = neo4j.Query(text, metadata={"kgkit": self.job})
        for attempt in range(20):
            try:
                with self.errors(), self.session(write=True) as session:
                    session.run(statement, parameters(params)).consume()
                return
            except StoreError as error:
                if getattr(error.__cause__, "code", None) not in _SERVERS_LOCK_CODES or attempt == 19:
                    raise
                time.sleep(0.02 * (attempt + 1))

    @contextmanager
    def unmanaged(self) -> Iterator[neo4j.Transaction]:
        """One transaction that is not repeated; taken back unless it was committed. `settle` waits for its end."""
        with self.errors(), self.session(write=True) as session:
            tx = session.begin_transaction(metadata={"kgkit": self.job})
            try:
                yield tx
            finally:
                with gone():
                    tx.close()

    def implicit(self, text: str, **params: Any) -> None:
        """Runs a statement with `IN TRANSACTIONS`, which the server allows only outside of one."""
        with self.errors(), self.session(write=True) as session:
            session.run(_own(text), parameters(params)).consume()

    def settle(self) -> None:
        """After an unknown outcome: waits until the server is back and has nothing of ours running any more.

        Raises RetryableStoreError after PATIENCE seconds.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:  # not `read`, whose pauses between attempts grow to half a minute
                with self.errors(), self.session(write=True) as session:
                    if session.run(cypher.UNFINISHED, job=self.job).single(strict=True)["unfinished"] == 0:
                        return
                trouble = RetryableStoreError(f"{self.uri} is still busy with a write of ours")
            except RetryableStoreError as error:
                trouble = error
            if time.monotonic() > deadline:
                raise trouble
            time.sleep(0.5)

    @contextmanager
    def writer_lock(self) -> Iterator[None]:
        """Keeps other kgkit writers of relationships out: what one of them is about to create, another must not.

        The lock is a transaction that is rolled back, so it goes with its process, and with the server.
        """
        with self.session(write=True) as session:
            with self.errors():
                lock = session.begin_transaction()
                lock.run(cypher.LOCK_WRITER).consume()
            try:
                yield
            finally:
                with gone():  # the server is, and the lock with it
                    lock.close()

    # -- errors ------------------------------------------------------------------------------------------------
    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except (DriverError, Neo4jError) as error:
            raise self.translate(error) from error
        except BaseException as error:
            if not unintelligible(error):
                raise
            # Not one to retry: the driver may have taken a connection back that is out of step.
            raise StoreError(
                f"{self.uri} answers with what is not Bolt, or it was damaged on its way ({_line(str(error))}): what was "
                "sent last may be in the graph or not; run the same command again"
            ) from error

    def translate(self, error: DriverError | Neo4jError) -> StoreError:
        """A driver's error as one line."""
        text = _line(error.message if isinstance(error, Neo4jError) and error.message else str(error))
        code = error.code if isinstance(error, Neo4jError) else None
        if isinstance(error, AuthError) or code == "Neo.ClientError.Security.AuthenticationRateLimit":
            return StoreError(
                f"{self.uri} refuses the name and password ({text}): set NEO4J_USERNAME and NEO4J_PASSWORD"
            )
        if code in ("Neo.ClientError.Statement.AccessMode", "Neo.ClientError.Security.Forbidden"):
            return ReadOnlyStoreError(text)
        if code and "OutOfMemory" in code:
            return StoreError(
                f"{self.uri}: the transaction needs more memory than the server has ({text}): give it more, for the "
                "managed server with `kgkit neo4j stop` and `kgkit neo4j start --memory 4g`"
            )
        if "SSLCertVerificationError" in text:
            return StoreError(
                f"{self.uri}: this machine trusts nobody who signed the server's certificate: name its file in "
                "SSL_CERT_FILE, or take any certificate with bolt+ssc:// or neo4j+ssc://"
            )
        if "handshake response" in text and "+s" not in self.uri.split("://")[0]:
            return RetryableStoreError(f"{self.uri} hangs up: does it want TLS (bolt+s://, neo4j+s://)?")
        if isinstance(error, ServiceUnavailable | SessionExpired):
            return RetryableStoreError(f"{self.uri} does not answer ({text}): is the server running?")
        if error.is_retryable():
            return RetryableStoreError(f"{self.uri}: {text}")
        return StoreError(f"{self.uri}: {text}")


def unintelligible(error: BaseException) -> bool:
    """Whether an error that is not of the driver's kinds comes from its reading of bytes, not all of which it checks.

    Those that its compiled decoder did not foresee are no `Exception`.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError | StoreError):
        return False
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(code.co_name == "fetch_message" and "neo4j" in code.co_filename for code in codes)


@contextmanager
def gone() -> Iterator[None]:
    """Around the end of something on a connection that may be lost: what the driver says of it is of no more use."""
    try:
        yield
    except (DriverError, Neo4jError):
        pass
    except BaseException as error:
        if not unintelligible(error):
            raise


def in_parallel(work: Callable[[S], T], items: Iterable[S], threads: int) -> Iterator[T | StoreError]:
    """`work` on every item in `threads` threads; items are made as they are needed, so that few are held at once.

    A StoreError is given back as a value: other items may have been written, and the caller decides. After the first
    of them no further item is begun.
    """
    lock, source, stop = threading.Lock(), iter(items), threading.Event()

    def run() -> list[T | StoreError]:
        done: list[T | StoreError] = []
        while not stop.is_set():
            with lock:
                try:
                    item = next(source)
                except StopIteration:
                    break
            try:
                done.append(work(item))
            except StoreError as error:
                stop.set()
                done.append(error)
        return done

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(run) for _ in range(threads)]:
            yield from future.result()


def value_of(done: T | StoreError) -> T:
    """A result of `in_parallel`, or its error raised."""
    if isinstance(done, StoreError):
        raise done
    return done


def _own(text: str) -> Any:
    """Cypher that was put together at run time; the driver's type asks for literals."""
    return text


def _line(text: str) -> str:
    return " ".join(text.split())[:400]
