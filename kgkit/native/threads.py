"""How many threads compiled kernels use: as many as torch does, so that one setting governs both."""

from __future__ import annotations

import os
import sys


def thread_count() -> int:
    """torch's thread count once torch is imported, else the processors this process may use."""
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
