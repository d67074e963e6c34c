"""A real Neo4j Community server on this machine, without Docker or a system Java: start, status, stop.

It listens on the loopback interface only, with a generated password in a file that only its owner can read. Data live
in the user's data folder; the environment variable KGKIT_NEO4J_HOME names another one (tests run their own server).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kgkit.errors import StoreError
from kgkit.processes import start_time
from kgkit.server_archive import java_options, make_later
from kgkit.server_exchange import finish_exchange, mark_ready
from kgkit.server_jars import class_path, fetched_jars, java, run_admin, write_arguments, write_private

DEFAULT_PORT = 7687
_MAIN = "org.neo4j.server.CommunityEntryPoint"
# A transaction's state is hash tables of gigabytes: with pages of 4 KiB a third of a write goes into finding them.
# The heap grows by regions, so these are whole huge pages too. Only Java on Linux knows the first option.
_HUGE_PAGES = ("-XX:+UseTransparentHugePages", "-XX:G1HeapRegionSize=8m") if sys.platform == "linux" else ()


@dataclass(frozen=True)
class ServerInfo:
    """A running server. `password_file` holds the password and nothing else; `log` is what to read when it fails."""

    uri: str
    username: str
    password_file: Path
    pid: int
    home: Path
    log: Path

    def password(self) -> str:
        """Reads the password. Raises StoreError when the file is gone."""
        try:
            return self.password_file.read_text().strip()
        except OSError as error:
            raise StoreError(f"cannot read the password of the managed Neo4j: {error}") from None


@dataclass(frozen=True)
class _Process:
    """What the pid file says. `started` tells the server from a later process that was given its pid."""

    pid: int
    started: str
    port: int


def home_dir() -> Path:
    """KGKIT_NEO4J_HOME, else `kgkit/neo4j` in the user's data folder."""
    if own := os.environ.get("KGKIT_NEO4J_HOME"):
        return Path(own).absolute()
    return (
        Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share").absolute()
        / "kgkit"
        / "neo4j"
    )


def start(
    *,
    home: Path | None = None,
    port: int = DEFAULT_PORT,
    memory: str | None = None,
    page_cache: str | None = None,
    wait: float = 180.0,
    say: Callable[[str], None] = lambda message: None,
) -> ServerInfo:
    """Starts the server, unless it runs already, and returns once Bolt answers.

    port: Bolt, on 127.0.0.1. memory, page_cache: Java heap and page cache, such as "2g" (None: `default_memory`,
    `default_page_cache`).
    wait: seconds until it counts as failed. `say` is told of anything slow.
    Raises StoreError: the port is taken, the extra is missing, jars cannot be fetched, or the server does not come up
    (the message names its log).
    """
    if os.name != "posix":
        raise StoreError(
            "the managed Neo4j runs on Linux and macOS; elsewhere use Docker: docker compose up -d"
        )
    memory, page_cache = memory or default_memory(), page_cache or default_page_cache()
    for option, size in (("--memory", memory), ("--page-cache", page_cache)):
        if not re.fullmatch(r"[1-9]\d*[kmg]", size.lower()):
            raise StoreError(f"{option} {size!r} is not a size: write it as 512m or 2g")
    home = home or home_dir()
    launcher, jars = java(), class_path(say)
    _make_folders(home)
    with _lock(home):
        if running := status(home=home):
            return running
        _check_port(port)
        _write_settings(home, port, memory, page_cache)
        _set_password(home, launcher, jars)
        return _begin(home, launcher, jars, port, memory, wait)


def exchange(home: Path, check: Callable[[], None], *, wait: float = 180.0) -> ServerInfo:
    """Puts the database that lies in `server_exchange.staging` in the place of the running server's own.

    check: called last before the server stops; what it raises leaves everything as it was. The server comes back on
    the same port, with the same settings and password. A kill at any moment leaves the one database or the other.
    Raises StoreError when the server does not run, or does not come up again.
    """
    launcher, jars = java(), class_path()
    with _lock(home):
        running = status(home=home)
        if running is None:
            raise StoreError("the managed Neo4j stopped in between: `kgkit neo4j start`, and the same again")
        check()
        port = int(running.uri.rsplit(":", 1)[1])
        stop(home=home)
        mark_ready(home)
        _check_port(port)
        return _begin(home, launcher, jars, port, _setting(home, "server.memory.heap.max_size"), wait)


def _begin(home: Path, launcher: Path, jars: list[Path], port: int, memory: str, wait: float) -> ServerInfo:
    """Launches the server with the settings that are written, and returns once Bolt answers."""
    finish_exchange(home)
    process = _launch(home, launcher, jars, port, memory)
    info = _info(home, _Process(process.pid, "", port))
    _wait_for_bolt(info, process, wait)
    return info


def status(*, home: Path | None = None) -> ServerInfo | None:
    """The running server, or None."""
    home = home or home_dir()
    try:
        process = _Process(**json.loads((home / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    with contextlib.suppress(ChildProcessError):  # reap it when this process started it
        os.waitpid(process.pid, os.WNOHANG)
    if not process.started or start_time(process.pid) != process.started:
        return None
    return _info(home, process)


def stop(*, home: Path | None = None, wait: float = 60.0) -> bool:
    """Stops the server and returns whether one ran. After `wait` seconds it is killed, which Neo4j recovers from."""
    home = home or home_dir()
    running = status(home=home)
    if running is None:
        return False
    for sign, patience in ((signal.SIGTERM, wait), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, sign)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if status(home=home) is None:
                (home / "server.json").unlink(missing_ok=True)
                with contextlib.suppress(StoreError):  # nobody waits for it
                    if jars := fetched_jars():  # and a stop is no time for a download
                        make_later(java(), jars)
                return True
            time.sleep(0.1)
    raise StoreError(f"the managed Neo4j (process {running.pid}) does not stop; see {running.log}")


@contextlib.contextmanager
def running_server(
    home: Path, *, port: int | None = None, memory: str | None = None, page_cache: str | None = None
) -> Iterator[ServerInfo]:
    """A server of its own in `home`, on a free port unless told, stopped at the end of the block."""
    info = start(home=home, port=port or free_port(), memory=memory, page_cache=page_cache)
    try:
        yield info
    finally:
        stop(home=home)


def default_memory() -> str:
    """The Java heap's upper limit unless told: half of the machine's memory, from 1 to 4 GiB.

    Answers of a model are replaced in one transaction, which takes 1.9 GB a million new relationships, and Neo4j lets
    transactions have 70% of the heap: 4 GiB are room for a million and a half, 2 GiB for 700,000, old ones counted too.
    """
    return f"{min(max(_machine_mib() // 2, 1024), 4096)}m"


def default_page_cache() -> str:
    """The memory for the graph's pages unless told: an eighth of the machine's, from 512 MiB to 4 GiB.

    Five million facts take 1.5 GB; with a third of them in memory they are read at a third of the rate.
    """
    return f"{min(max(_machine_mib() // 8, 512), 4096)}m"


def _machine_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- before the start --------------------------------------------------------------------------------------------


def _make_folders(home: Path) -> None:
    for name in ("conf", "data", "logs", "plugins", "import", "run", "lib"):
        (home / name).mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    """One start at a time. The lock goes with its process, so that nothing stays behind after a kill."""
    import fcntl

    with (home / "start.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _check_port(port: int, patience: float = 5.0) -> None:
    """Raises StoreError for a taken port; a server that was just killed needs a moment to let go of it."""
    deadline = time.monotonic() + patience
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports in TIME_WAIT are free
            try:
                probe.bind(("127.0.0.1", port))
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"port {port} is taken ({error.strerror}): stop what listens there, or choose another "
                        "with --port"
                    ) from None
        time.sleep(0.1)


def _write_settings(home: Path, port: int, memory: str, page_cache: str) -> None:
    settings = {
        "server.default_listen_address": "127.0.0.1",
        "server.bolt.listen_address": f"127.0.0.1:{port}",
        "server.bolt.advertised_address": f"127.0.0.1:{port}",
        "server.http.enabled": "false",
        "server.https.enabled": "false",
        "server.memory.heap.max_size": memory,
        "server.memory.pagecache.size": page_cache,
        "server.directories.import": "import",
        "dbms.security.auth_enabled": "true",
        "dbms.usage_report.enabled": "false",
        # Bolt's network threads wait 5 s twice for late comers, long after the databases are closed.
        "internal.dbms.bolt.netty_server_shutdown_quiet_period": "0",
        "db.tx_log.rotation.retention_policy": "1 hours 1g",
    }
    (home / "conf" / "neo4j.conf").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))


def _setting(home: Path, name: str) -> str:
    """A value out of the file that `_write_settings` wrote."""
    lines = (home / "conf" / "neo4j.conf").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)[name]


def _set_password(home: Path, launcher: Path, jars: list[Path]) -> None:
    """Before the first start: generates the password, and gives it to Neo4j by its own admin tool.

    The tool wants it as an argument, and arguments show in `ps`: `run_admin` shows only the path of a private file.
    """
    password = home / "password"
    if (home / "data" / "databases" / "system").exists():
        if not password.exists():
            raise StoreError(
                f"{password} is gone, and Neo4j keeps only a hash: put the password back into that file, "
                f"or remove {home / 'data'} to begin with an empty graph"
            )
        return
    if not password.exists():
        write_private(password, secrets.token_urlsafe(24))
    secret = password.read_text().strip()
    # "--" in front, as a generated password may begin with a dash.
    command = ["dbms", "set-initial-password", "--", secret]
    done = run_admin(home, launcher, jars, command, options=java_options(launcher, jars))
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).replace(secret, "...").split())[:300]
        raise StoreError(f"the password of the managed Neo4j could not be set: {said}")


# -- the process -------------------------------------------------------------------------------------------------


def _launch(home: Path, launcher: Path, jars: list[Path], port: int, memory: str) -> subprocess.Popen[bytes]:
    arguments = home / "run" / "server.args"
    command = [
        f"-Xmx{memory}",
        *_HUGE_PAGES,
        *java_options(launcher, jars),
        _MAIN,
        f"--home-dir={home}",
        f"--config-dir={home / 'conf'}",
        "--console-mode",
    ]
    write_arguments(arguments, jars, command)
    with (home / "logs" / "console.log").open("ab") as log:
        process = subprocess.Popen(
            [str(launcher), f"@{arguments}"],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives the terminal and its Ctrl-C
        )
    record = _Process(process.pid, start_time(process.pid) or "", port)
    write_private(home / "server.json", json.dumps(asdict(record)))
    return process


def _wait_for_bolt(info: ServerInfo, process: subprocess.Popen[bytes], wait: float) -> None:
    """Returns when an authenticated client is served. Raises StoreError with the log's last error otherwise."""
    import neo4j
    from neo4j.exceptions import AuthError, DriverError, Neo4jError

    deadline = time.monotonic() + wait
    port = int(info.uri.rsplit(":", 1)[1])
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                continue
        with neo4j.GraphDatabase.driver(info.uri, auth=(info.username, info.password())) as driver:
            try:
                driver.verify_connectivity()
                return
            except AuthError as error:
                _end(process)
                raise StoreError(
                    f"the managed Neo4j does not take the password in {info.password_file} ({error.message})"
                ) from None
            except (DriverError, Neo4jError):
                continue  # the port is open before the database is
    ended = process.poll()
    _end(process)
    what = f"stopped with code {ended}" if ended is not None else f"did not answer within {wait:.0f} s"
    raise StoreError(f"the managed Neo4j {what}: {_last_words(info.log)} (log: {info.log})")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _last_words(log: Path) -> str:
    """The last line of a log that tells of an error, else its last line."""
    lines = log.read_text(errors="replace").splitlines()[-200:] if log.exists() else []
    errors = [
        line for line in lines if re.search(r"ERROR|Error|Exception", line) and not line.startswith("\tat ")
    ]
    return " ".join((errors or lines or ["it said nothing"])[-1].split())[:300]


def _info(home: Path, process: _Process) -> ServerInfo:
    return ServerInfo(
        uri=f"bolt://127.0.0.1:{process.port}",
        username="neo4j",
        password_file=home / "password",
        pid=process.pid,
        home=home,
        log=home / "logs" / "console.log",
    )
