"""Hashes by which unchanged input is known again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kgkit.errors import ConnectorError
from kgkit.tabular.unpack import is_pipe

_CHUNK = 4 << 20


def fingerprint(files: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """Hex digest of the files' names and contents and of the settings; where the files lie does not matter.

    A pipe can be read only once, so that it is never known again: its digest is another each time.

    Raises ConnectorError for a file that cannot be read.
    """
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=16)
    for path in sorted(files, key=lambda p: (p.name, str(p))):
        digest.update(f"\0{path.name}\0".encode())
        if is_pipe(path):
            digest.update(os.urandom(16))
            continue
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except FileNotFoundError:
            raise ConnectorError("no such file", path) from None
        except OSError as error:
            raise ConnectorError(f"cannot be read: {error.strerror}", path) from None
    return digest.hexdigest()
