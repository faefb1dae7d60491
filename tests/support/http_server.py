"""A real HTTP server with byte ranges that serves a folder and can be told to misbehave."""

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FaultyServer(ThreadingHTTPServer):
    """Serves `folder`. Each entry of `faults` befalls one of the next answers with content, in order:
    `cut` (the connection ends in mid-body), `503`, `short` (fewer bytes than asked, honestly told), `stall` (half of
    the body, then silence), `403`, `noise` (other bytes of the right number), `endless` (the whole, over and over)."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.faults: list[str] = []
        self.gets: Counter[str] = Counter()
        self.starts: list[int] = []
        """First byte of every range asked for."""
        self.knows_ranges = True
        self.stall_seconds = 30.0
        self.num_endless_bytes = 0
        """Sent in endless answers."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(path.stat().st_size if path.is_file() else 0))
        self.end_headers()

    def _send_endlessly(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            while self.server.num_endless_bytes < 2**30:
                self.wfile.write(data)
                self.server.num_endless_bytes += len(data)
        self.close_connection = True

    def do_GET(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, status = path.read_bytes(), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and self.server.knows_ranges:
            status, data = 206, data[int(asked[1]) : int(asked[2]) + 1]
        with self.server.lock:
            self.server.gets[path.name] += 1
            self.server.starts.append(int(asked[1]) if asked else 0)
            fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault == "short":
            data = data[: len(data) // 3]
        if fault == "noise":
            data = bytes(byte ^ 1 for byte in data)
        self.send_response(200 if fault == "endless" else status)
        if fault != "endless":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault == "endless":
            self._send_endlessly(data)
            return
        if fault in ("cut", "stall"):
            self.wfile.write(data[: len(data) // 2])
            if fault == "stall":
                time.sleep(self.server.stall_seconds)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.wfile.write(data)


@contextmanager
def serve(folder: Path) -> Iterator[FaultyServer]:
    server = FaultyServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
