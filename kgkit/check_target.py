"""`kgkit.check` of a graph that nobody has opened yet: an embedded one's file and log come first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kgkit.check import RESTORE, Finding, Report, Tell, check
from kgkit.errors import DamagedStoreError
from kgkit.store import ladybug_seal
from kgkit.store.ladybug_backup import seal_now
from kgkit.store.open import embedded_path, open_store


def check_target(target: Any, *, quick: bool = False, tell: Tell = lambda what, done, total: None) -> Report:
    """Looks through a graph by what people type after --store; an embedded graph's file and log before it is opened.

    Raises StoreError when there is no graph, or it cannot be reached; not for a graph that is damaged.
    """
    path = embedded_path(target)
    if path is None:
        with open_store(target, read_only=True) as store:
            return check(store, quick=quick, tell=tell)
    report = Report(str(path))
    path = Path(os.path.realpath(path.expanduser()))
    sealed = _file(report, path, tell)
    if report.findings:
        return report
    try:
        with open_store(target, read_only=True) as store:
            found = check(store, quick=quick, tell=tell)
    except DamagedStoreError as error:
        report.found("file", str(error), RESTORE)
        return report
    found.notes = report.notes + found.notes
    if found.whole and not quick and not sealed:
        seal = seal_now(path)
        found.notes.append(f"sealed now: {seal.size:,} bytes" if seal else "it could not be sealed")
    return found


def _file(report: Report, path: Path, tell: Tell) -> bool:
    """Compares a file with its seal, and reads its log; returns whether the seal is current and has sums."""
    if (log_error := ladybug_seal.damaged_log(path)) is not None:
        report.findings.append(_of(log_error, "log"))
    seal = ladybug_seal.read_seal(path)
    if not path.exists() or seal is None:
        report.notes.append(
            "the file has no seal yet, so a change on the disk cannot be told from what was written"
        )
        return False
    try:
        found = ladybug_seal.compare(path, moved=True, tell=lambda done, total: tell("bytes", done, total))
    except OSError as error:
        report.found("file", f"{path} cannot be read ({error.strerror})", RESTORE)
        return False
    current = seal.is_of(path)
    if found is not None and found.differ and (current or ladybug_seal.same_time(path, seal)):
        report.findings.append(_of(ladybug_seal.damage(path, found), "file"))
    elif found is not None and found.differ:
        report.notes.append(
            "the file was written since it was sealed, by a process that did not get to close it, or by another program"
        )
    elif seal.sums is None:
        report.notes.append(
            "the file's blocks were not sealed when it was closed, as that would have taken too long"
        )
    return current and seal.sums is not None


def _of(error: DamagedStoreError, what: str) -> Finding:
    text, _, remedy = str(error).rpartition(": ")
    return Finding(what, text, remedy)
