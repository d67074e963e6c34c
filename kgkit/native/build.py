"""Compiles the C files beside this one on first use, and loads them with ctypes (which releases the GIL).

A library is cached in the cache folder by its source, the headers, compiler, flags and processor, so each machine builds it
once. It is loaded only if nobody else could have put it there (`kgkit.cache.distrust`); from a folder that others can write
nothing is loaded, and each process builds for itself, in a private folder. The end of its name is a digest of its content:
that finds a file which a disk or a crash has damaged, no forgery. Without a compiler, or with KGKIT_NATIVE=0, `load` gives
None and callers take their slower twin.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from kgkit.cache import cache_folder, distrust, own_folder

log = logging.getLogger(__name__)

# Not -ffast-math: linking with it makes the whole process flush denormals to zero, and NaN must stay visible.
_FLAGS = (
    "-O3",
    "-std=gnu11",
    "-shared",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
)
# Tried in order until one works: some compilers have no OpenMP, some no -march=native.
_VARIANTS = (
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp"),
    ("-march=native",),
    (),
)


def load(name: str, **defines: int) -> ctypes.CDLL | None:
    """The compiled `<name>.c` with these macros, or None where it cannot be built or KGKIT_NATIVE=0 forbids it."""
    if os.environ.get("KGKIT_NATIVE", "1").lower() in ("0", "false", "no"):
        return None
    return _load(name, tuple(f"-D{macro}={value}" for macro, value in sorted(defines.items())))


@functools.cache
def _load(name: str, defines: tuple[str, ...]) -> ctypes.CDLL | None:
    source = Path(__file__).with_name(f"{name}.c")
    try:
        return ctypes.CDLL(str(_build(source, defines)))
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        log.info("no compiled %s kernels, their slower twins compute instead: %s", name, reason)
        return None


def _build(source: Path, defines: tuple[str, ...]) -> Path:
    """Path of the library built from `source`, compiled unless it is cached. Raises OSError when it cannot be built."""
    compiler = _compiler()
    key = hashlib.blake2b(digest_size=12)
    for text in (source, *sorted(source.parent.glob("*.h"))):
        key.update(text.read_bytes())
    key.update(repr((compiler, _version(compiler), _FLAGS, _VARIANTS, defines, _cpu())).encode())
    folder, name = _trusted(cache_folder() / "native"), f"{source.stem}-{key.hexdigest()}"
    if library := _cached(folder, name):
        return library
    failure = ""
    for variant in _VARIANTS:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / "built.so"
            command = [*compiler, *_FLAGS, *variant, *defines, str(source), "-o", str(built), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode == 0:
                built.chmod(0o700)
                # Atomic, so that processes that build at once do not see half a file.
                return built.replace(folder / f"{name}-{_digest(built)}.so")
            failure = done.stderr.strip() or f"{compiler[0]} failed"
    raise OSError(failure)


def _cached(folder: Path, name: str) -> Path | None:
    """The library of this name that may be loaded. One that may not is said, and taken away to be built again."""
    for library in sorted(folder.glob(f"{name}-*.so")):
        try:
            why = distrust(library)
            if why is None and library.stem.endswith(f"-{_digest(library)}"):
                return library
        except FileNotFoundError as error:  # taken away meanwhile, or a link to nothing
            why = str(error)
        log.warning("%s is not loaded but built again: %s", library, why or "its content has changed")
        library.unlink(missing_ok=True)
    return None


def _digest(library: Path) -> str:
    return hashlib.blake2b(library.read_bytes(), digest_size=8).hexdigest()


@functools.cache
def _trusted(cache: Path) -> Path:
    """The cache, without links, or a folder for this process alone where others could write to it. Raises OSError."""
    try:
        if (why := distrust(own_folder(cache))) is None:
            return cache.resolve()
        log.warning("what lies in %s is not loaded, and this process builds its own: %s", cache, why)
    except OSError as error:
        log.info("no cache of compiled libraries: %s", error)
    own = Path(tempfile.mkdtemp(prefix="kgkit-native-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    if why := distrust(own):
        raise OSError(f"no folder to build in: {why}")
    return own.resolve()


def _compiler() -> list[str]:
    """The C compiler as a command: CC when set, else the first of cc, gcc, clang."""
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise OSError("no C compiler (cc, gcc or clang) on PATH")


def _version(compiler: list[str]) -> str:
    return subprocess.run(
        [*compiler, "--version"], capture_output=True, text=True, timeout=30, check=True
    ).stdout


def _cpu() -> str:
    """What -march=native depends on: the architecture and the processor's feature flags."""
    info = Path("/proc/cpuinfo")
    flags = ""
    if info.exists():
        lines = info.read_text(errors="replace").splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {flags}"
