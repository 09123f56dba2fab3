"""Run the wrapper on a generated song like the evaluator does: in a clean process, without a network.

    report = run_wrapper(root)                          # root is the repository's
    JUDGEMENTS["time"](report)                          # Verdict("pass", "11.2 s for 30 s of song ...")

The process has an empty home folder, a few of the caller's environment variables and no working proxy. Requests for another
machine are refused and recorded. The process is `python -m my_submission.src.challenge.trial_run FOLDER`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import site
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from my_submission.src import audio
from my_submission.src.challenge.verdict import FAIL, PASS, UNKNOWN, Verdict
from my_submission.src.evaluation.results import INSTRUMENTS, LIMIT
from my_submission.src.synth.command import make_song

SECONDS = 30
RATE = 44100  # Hz
SONG = "preflight"
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SYSTEMROOT")
PROXY = ("127.0.0.1", "9")  # nothing listens there. It also stops curl and wget, which the audit hook cannot see

MEMORY_LIMIT = 16e9  # bytes, both of the machine and of its GPU


@dataclasses.dataclass
class Report:
    """The measurements of a run. `error` is None if the wrapper finished."""

    error: str | None = None
    seconds: float = 0.0  # of separate_music_file, for SECONDS of song
    peak_bytes: int = 0  # of the process's resident memory; 0 if the system does not report it
    gpu: str | None = None  # its name; None without CUDA
    gpu_bytes: int = 0  # peak of the GPU memory that torch reserved
    network: list[str] = dataclasses.field(default_factory=list)  # machines that the code tried to reach
    stems: dict[str, dict[str, Any]] = dataclasses.field(
        default_factory=dict
    )  # as the model returned them: shape, finite, peak
    files: dict[str, list[int]] = dataclasses.field(default_factory=dict)  # as written: [samples, channels, Hz]


def run_wrapper(root: Path) -> Report:
    """Run the wrapper of the repository at `root` on a generated song, with a progress line on standard error."""
    with tempfile.TemporaryDirectory(prefix="preflight-") as name:
        folder = Path(name)
        for part in ("home", "predictions", f"dataset/{SONG}"):
            (folder / part).mkdir(parents=True)
        audio.write(folder / "dataset" / SONG / "mixture.wav", make_mixture(), RATE)
        status = _run(root, folder)
        report, log = folder / "report.json", (folder / "log").read_text(errors="replace").strip()
        if not report.is_file():
            reason = "killed, perhaps for want of memory" if status == -9 else f"exit status {status}"
            return Report(error=f"{reason}: {log[-300:]}")
        found = Report(**json.loads(report.read_text()))
        for path in sorted((folder / "predictions" / SONG).glob("*")):
            file = audio.AudioFile(path)
            found.files[path.stem] = [file.num_samples, file.channels, file.sample_rate]
        return found


def make_mixture() -> NDArray[np.float64]:
    """Make a mixture [n, 2]: a generated song, repeated three times, with a peak of 0.25, so that estimates do not clip."""
    stems = [stem.astype(np.float64) for stem in make_song(0, SECONDS / 3).values()]
    mixture = np.tile(sum(stems[1:], stems[0]), (3, 1))
    return 0.25 * mixture / np.abs(mixture).max()


def judge_stems(report: Report | None) -> Verdict:
    """Check that the wrapper returned four stems of the right shape, finite and unclipped, and asked for no network."""
    if report is None:
        return Verdict(UNKNOWN, "not run")
    shape = [SECONDS * RATE, 2]
    wrong = []
    if report.network:
        wrong += [f"the code wanted to reach {', '.join(sorted(set(report.network)))}; the evaluator has no network"]
    for name, found in report.stems.items():
        wrong += [f"{name} is {found['shape']}, expected {shape}"] if found["shape"] != shape else []
        wrong += [] if found["finite"] else [f"{name} holds NaN or infinite samples"]
        wrong += [f"{name} has a peak of {found['peak']:.2f}: it is clipped at 1"] if found["peak"] > 1 else []
    if report.error:
        wrong += [report.error]
    elif set(report.files) != set(INSTRUMENTS):
        wrong += [f"found the files {', '.join(report.files) or 'none'}, expected {', '.join(INSTRUMENTS)}"]
    else:
        wrong += [
            f"{name}.wav is {found}, expected {[*shape, RATE]}"
            for name, found in report.files.items()
            if found != [*shape, RATE]
        ]
    if wrong:
        return Verdict(FAIL, "; ".join(wrong))
    peak = max(found["peak"] for found in report.stems.values())
    return Verdict(PASS, f"four stems {shape}, finite, with a peak of {peak:.2f}, and no network asked for")


def judge_time(report: Report | None) -> Verdict:
    """Compare the run's time with the limit; only on a GPU, because the evaluator has one."""
    if report is None or report.error:
        return Verdict(UNKNOWN, "not run" if report is None else "the run came to no end")
    took = f"{report.seconds:.1f} s for {SECONDS} s of song"
    if report.gpu is None:
        return Verdict(UNKNOWN, f"{took} without CUDA; the limit is {LIMIT} x on a T4")
    ratio = report.seconds / SECONDS
    return Verdict(FAIL if ratio > LIMIT else PASS, f"{took} on {report.gpu}: {ratio:.2f} x; the limit is {LIMIT} x on a T4")


def judge_memory(report: Report | None) -> Verdict:
    """Compare the run's peak resident memory with the limit."""
    if report is None or not report.peak_bytes:
        return Verdict(UNKNOWN, "not run" if report is None else "this system does not report it")
    return _against_limit(report.peak_bytes)


def judge_gpu_memory(report: Report | None) -> Verdict:
    """Compare the run's peak of GPU memory with the limit."""
    if report is None or report.gpu is None:
        return Verdict(UNKNOWN, "not run" if report is None else "no CUDA here")
    return _against_limit(report.gpu_bytes)


def _against_limit(peak: int) -> Verdict:
    return Verdict(
        FAIL if peak > MEMORY_LIMIT else PASS, f"a peak of {peak / 1e9:.1f} GB; the limit is {MEMORY_LIMIT / 1e9:.0f} GB"
    )


JUDGEMENTS: dict[str, Callable[[Report | None], Verdict]] = {
    "wrapper run": judge_stems,
    "time": judge_time,
    "memory": judge_memory,
    "GPU memory": judge_gpu_memory,
}


def _run(root: Path, folder: Path) -> int:
    """Run the child process with its output in folder/log; return its exit status."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"HOME": str(folder / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONUSERBASE"] = site.getuserbase()  # keeps packages of `pip install --user`, although the home is empty
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        environment |= dict.fromkeys((name, name.upper()), f"http://{':'.join(PROXY)}")
    command = [sys.executable, "-m", "my_submission.src.challenge.trial_run", str(folder)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            return _wait(process, folder / "progress")
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], progress: Path) -> int:
    """Wait for the process; print its progress once a second on a terminal, otherwise once a minute."""
    live, started, printed = sys.stderr.isatty(), time.monotonic(), -1
    while True:
        elapsed = int(time.monotonic() - started)
        if live or elapsed // 60 > printed:
            printed = elapsed // 60
            done = (progress.read_text() if progress.is_file() else "") or "0"
            line = f"wrapper run: {done} of {SECONDS} s of song done, {elapsed} s so far (many minutes without a GPU)"
            print(f"\r{line}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)
        try:
            status = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue
        if live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        return status


def _child(folder: Path) -> None:
    """Run the wrapper on the song in `folder`; write report.json there."""
    report = Report()
    sys.addaudithook(lambda event, details: _refuse_network(event, details, report.network))
    try:
        _separate(folder, report)
    except BaseException as error:  # the user's code may end in any way, even with SystemExit
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        report.error = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
    report.peak_bytes = _peak_bytes()
    (folder / "report.json").write_text(json.dumps(dataclasses.asdict(report)))


def _separate(folder: Path, report: Report) -> None:
    from my_submission.aicrowd_wrapper import AIcrowdWrapper
    from my_submission.user_config import MySeparationModel

    inner = MySeparationModel.separate_music_file

    def watched(model: Any, mixture: NDArray[Any], sample_rate: int) -> tuple[dict[str, Any], dict[str, int]]:
        done = 0

        def on_progress(samples: int) -> None:
            nonlocal done
            done += samples
            (folder / "progress").write_text(f"{done / sample_rate:.0f}")

        if hasattr(model, "on_progress"):
            model.on_progress = on_progress
        stems, rates = inner(model, mixture, sample_rate)
        for name, stem in stems.items():  # checked here, because the 16-bit files show neither NaN nor clipping
            array = np.asarray(stem, np.float64)
            finite = bool(np.isfinite(array).all())
            peak = float(np.abs(array).max(initial=0)) if finite else 0.0
            report.stems[name] = {"shape": list(array.shape), "finite": finite, "peak": peak}
        return stems, rates

    patched: Any = MySeparationModel
    patched.separate_music_file = watched
    wrapper = AIcrowdWrapper(dataset_dir=f"{folder}/dataset/", predictions_dir=f"{folder}/predictions/")
    started = time.perf_counter()
    wrapper.separate_music_file(SONG)
    report.seconds = time.perf_counter() - started
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        report.gpu, report.gpu_bytes = torch.cuda.get_device_name(), torch.cuda.max_memory_reserved()


def _refuse_network(event: str, details: tuple[Any, ...], network: list[str]) -> None:
    """Let requests to this machine pass, and fail all others like a machine without a network (an audit hook)."""
    if event == "urllib.Request":
        url = urllib.parse.urlsplit(details[0])
        target = url.hostname if url.scheme in ("http", "https", "ftp") else None
    elif event in ("socket.connect", "socket.sendto") and isinstance(details[-1], tuple):
        target = _target(*details[-1][:2])
    elif event == "socket.getaddrinfo":
        target = _target(*details[:2])
    elif event == "socket.gethostbyname":
        target = _target(details[0], None)
    else:
        target = None
    if target is not None:
        network.append(target)
        raise OSError(f"no network: preflight does not let the code reach {target}")


def _target(host: str | bytes | None, port: object) -> str | None:
    """Return the machine that an address means; None for this machine itself."""
    host = host.decode(errors="replace") if isinstance(host, bytes) else host
    if (host, str(port)) == PROXY:
        return "another machine, through a proxy"
    return None if host in (None, "", "localhost", "::1") or host.startswith("127.") else host


def _peak_bytes() -> int:
    """Return the peak resident memory of this process, bytes.

    On Linux it is read from /proc, because ru_maxrss starts at the peak of the parent process there.
    """
    with contextlib.suppress(OSError, IndexError):
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
