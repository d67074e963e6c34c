"""A TCP proxy that does to a connection what networks do: refuse, cut, delay, stall, trickle, garble."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

COMMIT = b"\x00\x02\xb0\x12\x00\x00"  # Bolt's message, in a chunk of its own
# How many seconds a server lets its clients wait for a sign of life: 120, as a number of one byte.
PATIENCE = b"connection.recv_timeout_seconds"
SMALL = 64  # bytes a piece of a trickle


@dataclass
class Fault:
    """What happens, and when. kind: one of `KINDS`.

    after: bytes that the client sends through all connections before the fault begins; or `at_commit`: the next message
    that commits begins it. times: how often it happens; the connections that follow are sound.
    """

    kind: str
    after: int = 0
    at_commit: bool = False
    times: int = 1
    seconds: float = 0.05  # of a delay, for each piece of the server's answer


# refuse: no connection; cut: both ends closed before the client's bytes reach the server; lost: the server gets them, and
# its answer is lost; latency: each answer comes late; stall: nothing comes any more, and nobody says so; trickle: the
# answer comes in small pieces; garbage: other bytes come in its place.
KINDS = ("refuse", "cut", "lost", "latency", "stall", "trickle", "garbage")


class Proxy:
    """Listens on `port` and passes to a server's port; a thread of its own. Use as a context manager."""

    def __init__(self, upstream: int, fault: Fault | None = None, patience: int | None = None) -> None:
        """patience: seconds that clients are told to wait for a silent server, 1 to 127, in place of the server's own."""
        self._upstream, self.fault = upstream, fault
        self._patience = None if patience is None else PATIENCE + bytes([patience])
        self.sent = 0  # bytes from clients, all connections together
        self.happened = 0  # times that the fault came
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def arm(self, fault: Fault) -> None:
        """Sets a fault, counting from now."""
        self.sent = self.happened = 0
        self.fault = fault

    @property
    def _due(self) -> Fault | None:
        """The fault, if it is to happen by now."""
        fault = self.fault
        over = fault is None or self.happened >= fault.times
        return None if over or fault is None or fault.at_commit or self.sent < fault.after else fault

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        due = self._due
        if due is not None and due.kind == "refuse":
            self.happened += 1
            _reset(writer)
            return
        try:
            there, away = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            _reset(writer)
            return
        line = _Line(self, reader, writer, there, away)
        self._start(line.requests())
        self._start(line.answers())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Line:
    """One connection. A fault, once it is `on`, stays until the connection ends."""

    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        away: asyncio.StreamWriter,
    ) -> None:
        self.proxy, self.reader, self.writer, self.there, self.away = proxy, reader, writer, there, away
        self.on: Fault | None = None

    async def requests(self) -> None:
        with suppress(OSError):
            while data := await self.reader.read(65536):
                self.proxy.sent += len(data)
                self._begin(data)
                if self.on is not None and self.on.kind == "cut":
                    return self._end()
                if self.on is not None and self.on.kind == "stall":
                    continue
                self.away.write(data)
                await self.away.drain()
        self._close(self.away)

    def _begin(self, data: bytes) -> None:
        proxy = self.proxy
        fault, due = proxy.fault, proxy._due
        if fault is not None and fault.at_commit and proxy.happened < fault.times and COMMIT in data:
            due = fault
        if due is not None and self.on is None and due.kind != "refuse":
            proxy.happened += 1
            self.on = due

    async def answers(self) -> None:
        with suppress(OSError):
            while data := await self.there.read(65536):
                for part in await self._changed(data):
                    self.writer.write(part)
                    await self.writer.drain()
                    if self.on is not None and self.on.kind == "trickle":
                        await asyncio.sleep(0.001)
                if self.on is not None and self.on.kind in ("lost", "garbage"):
                    return self._end()
        self._close(self.writer)

    async def _changed(self, data: bytes) -> list[bytes]:
        """The server's bytes as the client gets them."""
        if self.proxy._patience is not None:
            data = data.replace(PATIENCE + b"\x78", self.proxy._patience)
        kind = self.on.kind if self.on is not None else ""
        if kind in ("lost", "stall"):
            return []
        if kind == "latency" and self.on is not None:
            await asyncio.sleep(self.on.seconds)
        if kind == "garbage":
            return [bytes((byte * 167 + 13) % 256 for byte in data[:1000])]
        if kind == "trickle":
            return [data[at : at + SMALL] for at in range(0, len(data), SMALL)]
        return [data]

    def _end(self) -> None:
        for end in (self.writer, self.away):
            _reset(end)

    def _close(self, end: asyncio.StreamWriter) -> None:
        if self.on is None or self.on.kind != "stall":  # a black hole does not hang up
            with suppress(OSError):
                end.close()


def _reset(end: asyncio.StreamWriter) -> None:
    """Closes without a goodbye."""
    end.transport.abort()
