"""The guided tour's data and steps, without printing: MovieLens-100K with its Freebase graph, in an embedded graph."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from kgkit.cache import cache_folder, own_folder
from kgkit.errors import ConfigError

WHEEL = "recbole-1.2.1-py3-none-any.whl"
REQUIREMENT = "recbole==1.2.1"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
INSIDE = "recbole/dataset_example/ml-100k/"
FILES = ("ml-100k.inter", "ml-100k.item", "ml-100k.kg", "ml-100k.link", "ml-100k.user")
LINK = "movielens-100k"  # the wheel's own names other films (kgkit_connectors/movielens_100k.py)
WHY_IDS = (
    "(Films have names, which MovieLens gives. People, genres and studios stand by their Freebase ids: the facts in the "
    "recbole wheel come without names, Freebase closed in 2016, and no package that we found holds its names.)"
)


@dataclass(frozen=True)
class DemoQuery:
    """One of the tour's queries: what it answers, and the Cypher as a person would type it."""

    title: str
    cypher: str


QUERIES = (
    DemoQuery(
        "What user 42 bought",
        """MATCH (u:User {id: $user})-[p:PURCHASED]->(i:Entity)
RETURN i.name AS bought, p.rating AS rating
ORDER BY p.rating DESC, p.last DESC, i.name LIMIT 5""",
    ),
    DemoQuery(
        "... and is recommended",
        """MATCH (u:User {id: $user})-[r:RECOMMENDED]->(i:Entity)
RETURN r.rank AS rank, i.name AS recommended, r.score AS score
ORDER BY r.rank""",
    ),
    DemoQuery(
        "Why: what the recommended movies share with what user 42 bought",
        """MATCH (u:User {id: $user})-[r:RECOMMENDED]->(i:Entity)-[f:FACT]->(e:Entity)<-[g:FACT]-(b:Entity)<-[:PURCHASED]-(u)
WHERE f.relation = g.relation AND r.rank <= 5 AND e.id <> i.id
RETURN i.name AS recommended, f.relation AS because_of, coalesce(e.name, e.id) AS entity,
       count(DISTINCT b.id) AS bought_with_it, min(b.name) AS such_as
ORDER BY bought_with_it, recommended, because_of, entity LIMIT 12""",
    ),
    DemoQuery(
        "The movies nearest to Star Wars by written-back embedding",
        """MATCH (a:Entity {name: $movie}), (b:Entity)
WHERE b.item_id IS NOT NULL AND b.id <> a.id AND b.embedding_kgnn_ls IS NOT NULL
RETURN b.name AS movie, array_cosine_similarity(a.embedding_kgnn_ls, b.embedding_kgnn_ls) AS cosine
ORDER BY cosine DESC LIMIT 8""",
    ),
)


def movielens(data: Path | None) -> Path:
    """The folder of MovieLens-100K's atomic files: `data`, or the cached contents of the recbole wheel.

    The wheel is fetched by package name through pip, without its dependencies, and checked against its pinned hash.
    Raises ConfigError when a local folder lacks a file, or the download fails.
    """
    if data is not None:
        missing = [f for f in FILES if not (data / f).is_file()]
        if missing:
            raise ConfigError(
                f"--data {data}: no {', '.join(missing)} there (RecBole's atomic files of ml-100k)"
            )
        return data
    folder = cache_folder() / "ml-100k-1.2.1"
    if all((folder / f).is_file() for f in FILES):
        return folder
    own_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        requirement = Path(scratch, "requirement.txt")
        requirement.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        done = subprocess.run(
            [*command, "--disable-pip-version-check", "--dest", scratch, "--requirement", str(requirement)],
            capture_output=True,
            text=True,
        )
        wheel = Path(scratch, WHEEL)
        if done.returncode or not wheel.is_file():
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ConfigError(
                f"MovieLens-100K could not be downloaded ({said}): try again with a network, or give its files with "
                "--data DIR"
            )
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
            raise ConfigError(f"{WHEEL} is not the file that was pinned: refused; use --data DIR")
        unpacked = Path(scratch, "files")
        unpacked.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                (unpacked / name).write_bytes(archive.read(INSIDE + name))
        unpacked.replace(folder)
    return folder
