"""Which compiled libraries are loaded: only those that nobody else could have put there. A planted one leaves a trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kgkit.cache import cache_folder, own_folder
from kgkit.native import build

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler here")

LOADED = "from kgkit.native.build import load; print(load('rank').kgkit_rank_positives is not None)"


def load(cache: Path, umask: int = 0o022) -> str:
    """Loads the kernels in another process, which must work; returns what it said on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env={**os.environ, "KGKIT_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
        umask=umask,
    )
    assert done.stdout == "True\n"
    return done.stderr


class Planted:
    """A cache with a library in place of `rank`, under the very name that is looked for; loaded, it writes a file."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.trace = folder / "cache", folder / "it-ran"
        own_folder(self.cache)
        load(self.cache)
        (real,) = (self.cache / "native").glob("*.so")
        source, evil = folder / "evil.c", folder / "evil.so"
        source.write_text(
            "#include <stdio.h>\nvoid kgkit_rank_positives(void) {}\n"
            f'__attribute__((constructor)) static void run(void) {{ fclose(fopen("{self.trace}", "w")); }}\n'
        )
        subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(evil)], check=True)
        self.library = real.with_name(f"{real.stem.rpartition('-')[0]}-{build._digest(evil)}.so")
        real.unlink()
        evil.replace(self.library)
        self.library.chmod(0o700)

    def refused(self, *words: str, cache: Path | None = None) -> None:
        said = load(cache or self.cache)
        assert not self.trace.exists()
        assert len(said.splitlines()) == 1 and all(word in said for word in words), said


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path)


def test_what_one_put_there_oneself_is_loaded(planted: Planted) -> None:
    """So the other tests can fail: the planted library is found, and runs."""
    assert load(planted.cache) == "" and planted.trace.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o703, 0o1777])
def test_nothing_is_loaded_from_a_folder_that_others_can_write(planted: Planted, mode: int) -> None:
    folder = planted.cache / "native"
    folder.chmod(mode)
    planted.refused(f"others may write to {folder}", f"`chmod go-w {folder}`", "KGKIT_CACHE")
    assert [*folder.iterdir()] == [planted.library]  # built elsewhere, and taken away again
    folder.chmod(0o700)
    assert load(planted.cache) == "" and planted.trace.exists()


def test_nor_from_below_one(planted: Planted) -> None:
    planted.cache.chmod(0o777)
    planted.refused(f"others may write to {planted.cache} ")


def test_a_sticky_folder_above_is_as_good_as_tmp(planted: Planted) -> None:
    planted.cache.chmod(0o1777)
    assert load(planted.cache) == "" and planted.trace.exists()


def test_links_are_followed_before_they_are_judged(planted: Planted, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(planted.cache)
    planted.cache.chmod(0o777)
    planted.refused(f"others may write to {planted.cache} ", cache=link)
    planted.cache.chmod(0o700)
    elsewhere = tmp_path / "elsewhere"
    own_folder(elsewhere).chmod(0o777)
    moved = elsewhere / planted.library.name
    planted.library.replace(moved)
    planted.library.symlink_to(moved)
    planted.refused(f"others may write to {elsewhere} ", "built again")


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_library_that_others_can_write_is_built_again(planted: Planted, mode: int) -> None:
    planted.library.chmod(mode)
    planted.refused("built again", f"others may write to {planted.library}")
    (made,) = (planted.cache / "native").iterdir()
    assert made != planted.library and load(planted.cache) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["library", "folder", "cache"])
def test_what_belongs_to_another_user_is_not_loaded(planted: Planted, what: str) -> None:
    path = {"library": planted.library, "folder": planted.library.parent, "cache": planted.cache}[what]
    os.chown(path, 12345, 12345)
    planted.refused(f"{path} belongs to another user (uid 12345)", "KGKIT_CACHE")


def test_a_damaged_library_is_built_again(planted: Planted) -> None:
    """Not the file that its name speaks of: half written, say."""
    planted.library.write_bytes(planted.library.read_bytes() + b"\0")
    planted.refused("its content has changed")
    assert load(planted.cache) == "" and not planted.trace.exists()


def test_what_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Also where a umask lets the group write, as many systems have it."""
    cache = tmp_path / "a" / "b"
    assert load(cache, umask=0o002) == "" == load(cache, umask=0o002)
    made = [tmp_path / "a", cache, cache / "native", *(cache / "native").glob("*.so")]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 4


def test_a_cache_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert load(tmp_path / "file" / "cache") == ""


def test_there_is_one_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from kgkit import server_jars

    monkeypatch.setenv("KGKIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path == server_jars.cache_dir().parent
    monkeypatch.delenv("KGKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "xdg" / "kgkit"


def test_jars_that_others_could_have_put_there_are_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kgkit import server_jars
    from kgkit.errors import StoreError

    monkeypatch.setenv("KGKIT_CACHE", str(tmp_path))
    cache = own_folder(server_jars.cache_dir())
    (cache / "classpath.json").write_text('["one.jar"]')
    jar = cache / "one.jar"
    jar.touch(mode=0o600)
    assert server_jars.class_path() == [jar]
    jar.chmod(0o666)
    with pytest.raises(StoreError, match=f"others may write to {jar}"):
        server_jars.class_path()
    jar.chmod(0o600)
    cache.chmod(0o777)
    with pytest.raises(StoreError, match="Neo4j is not run from"):
        server_jars.class_path()
