"""A server on loopback that has recordings of known sound, and misbehaves on demand."""

from __future__ import annotations

import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import scipy.signal
import soundfile

SR, DURATION = 8000, 60.0
# Neighbouring samples are alike, so that a codec keeps the shape.
_NOISE = np.random.default_rng(0).normal(size=(round(SR * DURATION), 2))
WAVEFORM = scipy.signal.lfilter([0.05], [1, -0.95], _NOISE, axis=0) / 2


def encoded(y: np.ndarray = WAVEFORM, *, kind: str = "WAV") -> bytes:
    """A recording as a file that soundfile writes."""
    file = io.BytesIO()
    soundfile.write(file, y, SR, format=kind, subtype="PCM_16")
    return file.getvalue()


def clip(video: str, start: float = 20, end: float = 30) -> str:
    return f"{video:_<11}_{start:.3f}_{end:.3f}.wav"


GOOD = encoded()


class Server:
    """What the server has by path, how it behaves, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.statuses: dict[str, list[int]] = {}  # answered before the file is
        self.behaviour: dict[str, str] = {}
        self.requests: list[tuple[float, str, str | None]] = []  # time.time(), path, range
        self.closing = threading.Event()
        self.stall = 60.0  # s
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/"

    def have(self, *clips: str, file: bytes = GOOD, behaviour: str = "", statuses: tuple[int, ...] = ()) -> None:
        """Have a recording for the video of each clip."""
        for c in clips:
            self.files[c[:11]], self.behaviour[c[:11]], self.statuses[c[:11]] = file, behaviour, list(statuses)

    def count(self, c: str) -> int:
        """Requests for the video of a clip."""
        return sum(video == c[:11] for _, video, _ in self.requests)

    def wait_for(self, c: str) -> None:
        until = time.time() + 60
        while self.count(c) == 0:
            assert time.time() < until
            time.sleep(0.01)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, wanted = handler.path.strip("/"), handler.headers.get("Range")
        self.requests.append((time.time(), path, wanted))
        behaviour, file = self.behaviour.get(path), self.files.get(path)
        if file is None or self.statuses.get(path):
            handler.send_error(404 if file is None else self.statuses[path].pop(0))
            return
        first, last = 0, len(file) - 1
        if wanted is not None and behaviour != "no ranges":
            first, last = (int(place) for place in wanted.removeprefix("bytes=").split("-"))
            last = min(last, len(file) - 1)
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(file)}")
        else:
            handler.send_response(200)
        body = file[first : last + 1]
        handler.send_header("Content-Type", "text/html" if behaviour == "page" else "audio/mpeg")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        try:
            if wanted is not None and behaviour in ("stalls", "breaks off"):
                handler.wfile.write(body[:1000])
                if behaviour == "breaks off":
                    return
                self.closing.wait(self.stall)
                body = body[1000:]
            handler.wfile.write(body)
        except ConnectionError:
            pass  # who has what it wants hangs up

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
