"""What tests need to start other processes."""

from __future__ import annotations

import signal


def hears_control_c() -> None:
    """`preexec_fn` of a child: undoes what a background shell does to its jobs, which start deaf to SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
