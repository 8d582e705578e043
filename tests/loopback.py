"""A server on loopback that has recordings of known sound, and misbehaves on demand."""

import contextlib
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
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}  # by path, like the next
        self.behaviour: dict[str, str] = {}  # an HTTP status, page, no ranges, stalls or breaks off
        self.requests: list[tuple[float, str, str | None]] = []  # time.time(), path, range
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._http.server_port}/"

    def have(self, *clips: str, file: bytes = GOOD, behaviour: str = "") -> None:
        for c in clips:
            self.files[c[:11]], self.behaviour[c[:11]] = file, behaviour

    def count(self, c: str) -> int:
        """Requests for the video of a clip."""
        return sum(video == c[:11] for _, video, _ in self.requests)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, wanted = handler.path.strip("/"), handler.headers.get("Range")
        self.requests.append((time.time(), path, wanted))
        behaviour, file = self.behaviour.get(path, ""), self.files.get(path)
        if file is None or behaviour.isdigit():
            handler.send_error(int(behaviour or 404))
            return
        body = file
        if wanted is not None and behaviour != "no ranges":
            first, last = (int(place) for place in wanted.removeprefix("bytes=").split("-"))
            body = file[first : last + 1]
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(file)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Type", "text/html" if behaviour == "page" else "audio/mpeg")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # who has what it wants hangs up
            if wanted is None or behaviour not in ("stalls", "breaks off"):
                handler.wfile.write(body)
                return
            handler.wfile.write(body[:1000])
            if behaviour == "stalls":
                self._closing.wait(60)

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
