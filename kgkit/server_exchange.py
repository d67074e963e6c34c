"""The managed Neo4j's database made offline, and put in place of its own in steps that a kill cannot spoil.

In the server's home, beside its data:

    bulk/lock           held by whoever makes a database, and by the importer that a killed command leaves behind
    bulk/import/        an installation of its own, with the files to import and, in data/, the database made of them
    bulk/ready          that database is whole: the next start of the server moves it into place before anything else
    bulk/gathered/      what an ingest gathers first (`kgkit.bulk`)
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kgkit.errors import StoreError
from kgkit.server_archive import java_options
from kgkit.server_jars import class_path, java, run_admin

DATABASE = "neo4j"
# The importer's heap is small whatever the graph's size: its large tables are outside. Its collector for throughput
# takes a sixth less processor time than the default one.
_JAVA = ("-Xmx1g", "-XX:+UseParallelGC")
OFF_HEAP = "50%"  # of the machine's memory at most: about 10 bytes a node beside a page cache
_PLACES = (Path("databases") / DATABASE, Path("transactions") / DATABASE)


def bulk_folder(home: Path) -> Path:
    """Where everything about bulk loads into the server of `home` lies."""
    return home / "bulk"


def staging(home: Path) -> Path:
    """Folder of the files to import: relative names in `import_files` start here."""
    return bulk_folder(home) / "import"


@contextlib.contextmanager
def fresh_staging(home: Path, say: Callable[[str], None]) -> Iterator[int]:
    """An empty `staging` that nobody else uses, removed at the end. Gives the lock's descriptor for `import_files`."""
    import fcntl

    folder = staging(home)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another import into the managed Neo4j to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder.parent / "ready").exists():
            raise StoreError(
                "a bulk load was killed before its last step: `kgkit neo4j stop`, then `kgkit neo4j start` completes it"
            )
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("conf", "data", "run", "logs", "plugins", "lib"):
            (folder / name).mkdir(parents=True)
        (folder / "conf" / "neo4j.conf").write_text("dbms.usage_report.enabled=false\n")
        try:
            yield lock.fileno()
        finally:
            if not (folder.parent / "ready").exists():
                shutil.rmtree(folder, ignore_errors=True)


def import_files(home: Path, lock: int, arguments: Sequence[str]) -> tuple[int, int, int]:
    """Runs `database import full` within `staging`; returns how many nodes, relationships and properties it counted.

    Raises StoreError with the importer's own words when it fails.
    """
    command = ["database", "import", "full", "--bad-tolerance=0", "--overwrite-destination=true"]
    command += [f"--max-off-heap-memory={OFF_HEAP}", "--report-file=import.report", *arguments, DATABASE]
    launcher, jars = java(), class_path()
    options = [*_JAVA, *java_options(launcher, jars)]
    done = run_admin(staging(home), launcher, jars, command, options=options, hold=[lock])
    text = done.stdout + "\n" + done.stderr
    counts = [
        re.search(rf"^\s*(\d+) {what}\s*$", text, re.M) for what in ("nodes", "relationships", "properties")
    ]
    if done.returncode or None in counts:
        lines = [line for line in text.splitlines() if re.search(r"Exception|[Ee]rror|[Cc]aused", line)]
        said = " ".join((lines or text.strip().splitlines() or ["it said nothing"])[0].split())[:300]
        raise StoreError(
            f"Neo4j's importer failed ({said}): nothing was changed; --bulk never goes over Bolt"
        )
    nodes, relationships, properties = (int(found.group(1)) for found in counts if found is not None)
    return nodes, relationships, properties


def mark_ready(home: Path) -> None:
    """From here on the imported database is the one: whatever happens, `finish_exchange` completes the exchange."""
    for place in _PLACES:
        if not (staging(home) / "data" / place).is_dir():
            raise StoreError(f"{staging(home) / 'data' / place} is not there: nothing was exchanged")
    with (bulk_folder(home) / "ready").open("w") as file:
        os.fsync(file.fileno())


def finish_exchange(home: Path) -> None:
    """Moves a database that is ready into place; the server must not run. May be killed and called again at any step."""
    ready = bulk_folder(home) / "ready"
    if not ready.exists():
        return
    for place in _PLACES:
        made, own = staging(home) / "data" / place, home / "data" / place
        if made.exists():  # else it was moved before
            if own.exists():
                shutil.rmtree(own)
            own.parent.mkdir(parents=True, exist_ok=True)
            made.rename(own)
    ready.unlink()
    shutil.rmtree(staging(home), ignore_errors=True)
