"""Read audio that libsndfile cannot, such as m4a, wma or the sound of a film, through ffmpeg, where it is installed.

    part = probe(Path("film.mp4"))               # the first audio stream, at its own rate and channels
    file = part.open(path)                       # read like a soundfile.SoundFile, from a pipe

Nothing is copied to the disk. A process that is no longer read is killed, also when this program ends.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from my_submission.src.audio.parts import DamagedError, Part

BYTES_PER_SAMPLE = 4  # float32
TOLERANCE = 0.5  # seconds by which a header may promise too much
# Formats whose headers tell a stream's length. For the others, ffprobe estimates it.
WITH_LENGTH = {"mov", "matroska", "asf"}
_running: set[subprocess.Popen[bytes]] = set()


def is_there() -> bool:
    """Whether both programs are installed."""
    return bool(shutil.which("ffmpeg") and shutil.which("ffprobe"))


@dataclass(frozen=True)
class PipedPart(Part):
    """The first audio stream of a file, which ffmpeg decodes."""

    sample_rate: int = 0  # Hz
    channels: int = 0
    promised: int = 0  # samples per channel that there must be

    def open(self, path: Path) -> PipedSound:
        """Start to decode the file at `path`. Raises OSError."""
        return PipedSound(self, path)


def probe(path: Path) -> PipedPart:
    """Return the first audio stream of a file. Raises DamagedError if ffprobe finds none, and OSError."""
    entries = "stream=codec_type,sample_rate,channels,duration:stream_tags=DURATION:format=format_name,duration"
    command = ["ffprobe", *_safe(), "-show_entries", entries, "-of", "json", _url(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    found = json.loads(done.stdout.decode(errors="replace") or "{}") if done.returncode == 0 else {}
    streams = found.get("streams", [])
    sounds = [stream for stream in streams if stream.get("codec_type") == "audio"]
    rate, channels = (int(sounds[0].get(key, 0)) for key in ("sample_rate", "channels")) if sounds else (0, 0)
    if not rate or not channels:
        raise DamagedError(f"holds no audio that ffmpeg can read{_reason(done.stderr, path)}")
    seconds = _promised_seconds(found.get("format", {}), sounds[0], is_only=len(streams) == 1)
    note = f"holds {len(sounds)} audio streams; the first is read" if len(sounds) > 1 else ""
    return PipedPart(
        is_certain=False,
        is_promised=seconds > 0,
        note=note,
        sample_rate=rate,
        channels=channels,
        promised=max(0, round((seconds - TOLERANCE) * rate)),
    )


def _promised_seconds(container: dict[str, Any], stream: dict[str, Any], is_only: bool) -> float:
    """Return the duration that a file's header promises for a stream; 0 if it promises none."""
    if not WITH_LENGTH & set(str(container.get("format_name")).split(",")):
        return 0.0
    clock = re.match(r"(\d+):(\d+):([\d.]+)$", str(stream.get("tags", {}).get("DURATION")))
    if clock:
        return 3600 * int(clock[1]) + 60 * int(clock[2]) + float(clock[3])
    return float(stream.get("duration") or (container.get("duration") if is_only else None) or 0)


class PipedSound:
    """The part of soundfile.SoundFile's interface that reading needs. Raises DamagedError where ffmpeg reports an error."""

    subtype, extra_info = "FLOAT", ""

    def __init__(self, part: PipedPart, path: Path) -> None:
        self.samplerate, self.channels, self.frames = part.sample_rate, part.channels, part.promised
        self.path = path
        self.messages = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe would fill up
        self.process: subprocess.Popen[bytes] | None = None
        self._start()

    def _start(self) -> None:
        form = ["-f", "f32le", "-c:a", "pcm_f32le", "-ar", str(self.samplerate), "-ac", str(self.channels), "pipe:1"]
        command = ["ffmpeg", "-nostdin", "-xerror", *_safe(), "-i", _url(self.path), "-map", "0:a:0", *form]
        # In a session of its own, Ctrl-C on a terminal does not reach it; this program then kills it.
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.messages, start_new_session=True
        )
        _running.add(self.process)

    def read(self, num_samples: int, dtype: str = "float32", always_2d: bool = True) -> NDArray[np.float32]:
        """Return samples [n, C]; n is less than `num_samples` only at the end."""
        assert (dtype, always_2d) == ("float32", True)
        assert self.process is not None
        assert self.process.stdout is not None
        size = BYTES_PER_SAMPLE * self.channels
        data = self.process.stdout.read(num_samples * size)
        if len(data) < num_samples * size:
            failed = self.process.wait()
            self.messages.seek(0)
            reason = _reason(self.messages.read(1 << 16), self.path)
            if failed:
                raise DamagedError(f"is damaged: ffmpeg cannot decode it{reason}")
            if reason:
                warnings.warn(f"{self.path}: is odd to ffmpeg{reason}; all that it decodes is read", stacklevel=3)
        return np.frombuffer(data[: len(data) // size * size], "<f4").astype(np.float32).reshape(-1, self.channels)

    def seek(self, start: int) -> None:
        """Decode from the beginning up to sample `start`."""
        self._stop()
        self._start()
        while start > 0 and (skipped := len(self.read(min(start, 1 << 16)))):
            start -= skipped

    def close(self) -> None:
        """Kill the process if it still runs, and wait for it."""
        self._stop()
        self.messages.close()

    def _stop(self) -> None:
        if self.process is not None:
            _kill(self.process)
            self.process = None

    def __enter__(self) -> PipedSound:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "process", None) is not None:
            self.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and wait for it."""
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    _running.discard(process)


@atexit.register
def _kill_all() -> None:
    """Kill the processes that an interrupted program still reads. Daemon threads may be waiting for them."""
    for process in list(_running):
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()


def _safe() -> list[str]:
    """Return options that keep a file, which may be a playlist, from opening others on the network."""
    return ["-v", "error", "-protocol_whitelist", "file,pipe"]


def _url(path: Path) -> str:
    """Return a path as ffmpeg takes it, whatever its name begins with."""
    return f"file:{path}"


def _reason(messages: bytes, path: Path) -> str:
    """Return the first line of a program's messages in brackets, or nothing if there is none."""
    lines = [line for line in messages.decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    reason = re.sub(r"^\[[^]]*\] ", "", lines[0]).replace(f"{_url(path)}: ", "").replace(f"{path}: ", "")
    return f" ({reason.strip()})"
