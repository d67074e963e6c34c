"""Breaks N-Triples at random and reads them with the compiled parser under AddressSanitizer and with its Python twin.

    python tests/native/fuzz_ntriples.py --seconds 600 --seed 7

builds ntriples.c with gcc's -fsanitize=address,undefined and runs itself again with that library. Input and output
lie in memory of their exact size, so that one byte too far ends the process with the sanitizer's report. The seed of
each round is printed with what went wrong, and `--seed SEED --rounds 1` does that round again.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kgkit.native.ntriples
from kgkit.native.ntriples import LITERALS, NODES, ONE_LANGUAGE, Parsed, Parser, Verdict

NS = "http://rdf.freebase.com/ns/"
SOURCE = Path(kgkit.native.ntriples.__file__).with_name("ntriples.c")
SANITIZED = "KGKIT_SANITIZED_LIBRARY"
TERMS = [
    b"<http://a/s>", b"<http://a/p>", b"<" + NS.encode() + b"m.0abc>", b"<" + NS.encode() + b"drop.x>",
    b"<" + NS.encode() + b"name>", b"<" + NS.encode() + b"fact.y>", b"<" + NS.encode() + b">", b"<http://a/\\u00e9>",
    b"<http://rdf.freebase.com/n\\u0073/m.9>", b"_:b1", b"_:b.1-c", b'"x"', b'"x"@en', b'"x"@de-AT', b'""',
    b'"1"^^<http://www.w3.org/2001/XMLSchema#int>', b'"a\\t\\"\\\\z"', b'"\\U0001F600"', '"caf\u00e9"'.encode(),
    b"true", b"false", b"-4.5e-7", b"+.5", b"12.", b"<>", b"_:", b'"',
]  # fmt: skip
ODD = [b'"', b"\\", b">", b"<", b".", b" ", b"\t", b"_:", b"@", b"^^", b"\r", b"#", b"\xc3", b"\x80", b"\x00", b"\xf4\x90",
       b"\\u0041", b"\\u", b"\\U0010FFFF", b"\\uD800", b"-", b"e", b"1", b"\n", b"\xed\xa0\x80", b":", b"t"]  # fmt: skip


def verdict(name: str) -> Verdict:
    """Leaves out some predicates, takes only nodes or literals of others."""
    if name.startswith("drop."):
        return Verdict(0, 3, 4)
    if name.startswith("name"):
        return Verdict(LITERALS | ONE_LANGUAGE, 5, 6)
    return Verdict(NODES, 7, 8) if name.startswith("fact.") else Verdict(NODES | LITERALS)


def block(rng: random.Random) -> bytes:
    """Up to some forty lines, most of them broken a little; at times cut anywhere."""
    lines = []
    for _ in range(rng.randrange(1, 40)):
        line = bytearray(rng.choice((b" ", b"\t", b"")).join(rng.choice(TERMS) for _ in range(3)) + b" .")
        for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
            at = rng.randrange(len(line) + 1)
            line[at : at + rng.randrange(3)] = rng.choice(ODD)
        lines.append(bytes(line))
    data = rng.choice((b"\n", b"\n", b"\r\n")).join(lines) + rng.choice((b"", b"\n"))
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data


def plain(parsed: Parsed, parser: Parser) -> dict[str, Any]:
    """Everything that a parser says."""
    parsed.subjects.validate(full=True)
    parsed.objects.validate(full=True)
    tags = parser.tags()
    rows = zip(
        parsed.subjects.to_pylist(),
        parsed.predicates.tolist(),
        parsed.objects.to_pylist(),
        parsed.kinds.tolist(),
        [tags[t] if t >= 0 else None for t in parsed.tags.tolist()],
        strict=True,
    )
    said = {"rows": list(rows), "rejects": parsed.rejects, "counts": parsed.counts.tolist()}
    return {**said, "triples": parsed.triples, "lines": parsed.lines}


def exact(data: bytes) -> Any:
    """A copy in memory of its exact size: Python's own bytes have a zero behind them that hides a read too far."""
    held = (ctypes.c_char * len(data))()
    held.raw = data
    return held


def one_round(seed: int) -> int:
    """Compares the parsers on one seed's blocks; the number of lines. Raises AssertionError where they differ."""
    rng = random.Random(seed)
    namespace, language = rng.choice((NS, NS, "")), rng.choice(("en", "EN", ""))
    library = ctypes.CDLL(os.environ[SANITIZED])
    compiled: Any = kgkit.native.ntriples._Compiled(library, verdict, namespace, language)
    from kgkit.native.ntriples_twin import TwinParser

    twin = TwinParser(verdict, namespace, language)
    lines, number = 0, 1
    for _ in range(20):
        data = block(rng)
        compiled._capacity, compiled._columns = (
            0,
            {},
        )  # columns of this block's size, not of a larger one before
        expected = plain(twin.parse(data, number), twin)
        got = plain(compiled.parse(exact(data), number), compiled)
        assert got == expected, f"seed {seed}: {data!r}\ncompiled {got}\ntwin     {expected}"
        lines += expected["lines"]
        number += expected["lines"]
    return lines


def build(folder: Path) -> Path:
    """ntriples.c with the sanitizers. Raises subprocess.CalledProcessError."""
    library = folder / "ntriples_sanitized.so"
    flags = ["-std=gnu11", "-O1", "-g", "-shared", "-fPIC", "-fno-omit-frame-pointer"]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["gcc", *flags, *checks, str(SOURCE), "-o", str(library)], check=True)
    return library


def run_sanitized(library: Path, seconds: float, seed: int, rounds: int) -> subprocess.CompletedProcess[str]:
    """This file again, with the sanitizers' runtime loaded before everything else."""
    runtimes = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        **os.environ,
        SANITIZED: str(library),
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",  # Python itself never frees all
        "PYTHONMALLOC": "malloc",  # so that every object of Python has guards around it
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, __file__, f"--seconds={seconds}", f"--seed={seed}", f"--rounds={rounds}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def main() -> int:
    """Fuzzes until the time is over or the rounds are done; 1 when something was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=0, help="0: as many as the time allows")
    options = parser.parse_args()
    if SANITIZED not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            done = run_sanitized(build(Path(folder)), options.seconds, options.seed, options.rounds)
        print(done.stdout + done.stderr)
        return done.returncode
    began, seed, lines = time.monotonic(), options.seed, 0
    while time.monotonic() - began < options.seconds and not 0 < options.rounds <= seed - options.seed:
        print(f"seed {seed}", flush=True, file=sys.stderr)
        lines += one_round(seed)
        seed += 1
    print(f"{seed - options.seed} rounds, {lines} lines: no difference, no error of memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
