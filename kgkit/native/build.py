"""Compiles the C files beside this one on first use, and loads them with ctypes (which releases the GIL).

A library is cached under the user's cache directory by its source, the headers, compiler, flags and processor, so each
machine builds it once. Without a compiler, or with KGKIT_NATIVE=0, `load` gives None and callers take their slower twin.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

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
    """Path of the library built from `source`, compiled unless it is cached."""
    compiler = _compiler()
    cache = cache_dir()
    key = hashlib.blake2b(digest_size=12)
    for text in (source, *sorted(source.parent.glob("*.h"))):
        key.update(text.read_bytes())
    key.update(repr((compiler, _version(compiler), _FLAGS, _VARIANTS, defines, _cpu())).encode())
    library = cache / f"{source.stem}-{key.hexdigest()}.so"
    if library.exists():
        return library
    cache.mkdir(parents=True, exist_ok=True)
    failure = ""
    for variant in _VARIANTS:
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            built = Path(scratch) / library.name
            command = [*compiler, *_FLAGS, *variant, *defines, str(source), "-o", str(built), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode == 0:
                built.replace(library)  # atomic, so that processes that build at once do not see half a file
                return library
            failure = done.stderr.strip() or f"{compiler[0]} failed"
    raise OSError(failure)


def cache_dir() -> Path:
    """Where compiled libraries live: KGKIT_CACHE, or the platform's cache directory."""
    if chosen := os.environ.get("KGKIT_CACHE"):
        return Path(chosen) / "native"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kgkit" / "native"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kgkit" / "native"


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
