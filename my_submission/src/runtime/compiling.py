"""torch.compile for the network between the STFT pair: a minute or two to begin with, less time for a chunk from then on.

    runner = pick_runner("auto", device)                # auto, yes or no
    runner.expect(runs)                                 # so many runs of a chunk through a network are going to come
    runner.run(network, spec, batch_size)               # [B, 2C, F, L] -> [B, S, 2C, F, L]
    compiled(network.separate_spec)                     # the same for a network in training

What comes out is what comes out without it, up to the rounding of the precision. All networks of a config share one graph,
for batches of one size. Inductor keeps what it has compiled in its own cache (TORCHINDUCTOR_CACHE_DIR, or in the system's
folder for temporary files), from where the next process has it in seconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import statistics
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from my_submission.src.common.errors import UserError
from my_submission.src.runtime.device import is_out_of_memory

CHOICES = ("auto", "yes", "no")
BACKEND: str | Callable[..., Any] = "inductor"

# What auto goes by. On a CPU and without a cache, 50 to 90 s went by before the first chunk. Then a chunk took the network of
# the demo an eighth less time in float32 and 3 % less in bf16; the published one gained nothing in float32, an eighth in bf16
# (torch 2.13; tests/benchmarks/speed.py with --compile and without). Whether it has paid is measured once it is there.
START_UP = 90.0  # seconds
SAVED = 0.1  # of the time that chunks take
WORTH = 3  # times START_UP, which has to be saved
TIMED = 3  # full batches, after a first one that does not count


class SpecNetwork(Protocol):
    """A network that maps spectrograms."""

    def separate_spec(self, spec: Tensor) -> Tensor:
        """[B, 2C, F, L] -> [B, S, 2C, F, L]."""
        ...


class CompilingError(UserError):
    """A network that cannot be compiled here."""


class Notice(UserWarning):
    """Something to know, and nothing to worry about."""

    label = "note"


class Eager:
    """Networks as they are."""

    def expect(self, runs: float) -> None:
        """Of no interest here."""

    def run(self, network: SpecNetwork, spec: Tensor, batch_size: int) -> Tensor:
        """[B, 2C, F, L] -> [B, S, 2C, F, L]."""
        return network.separate_spec(spec)


class Compiled:
    """Networks compiled, at the first run. A batch that is not full is filled up: there is one graph, of one size.

    On CUDA each network is recorded as a CUDA graph at its first runs, and replayed from then on: nothing is launched one by
    one. What a replay gives lies where the next one will write, and is copied from there.
    """

    def __init__(self, device: torch.device) -> None:
        self.graphs = device.type == "cuda"
        self.separate_spec = compiled(_separate_spec, graphs=self.graphs)

    def expect(self, runs: float) -> None:
        """Of no interest here."""

    def run(self, network: SpecNetwork, spec: Tensor, batch_size: int) -> Tensor:
        """[B, 2C, F, L] -> [B, S, 2C, F, L], B being batch_size at most. Raises CompilingError."""
        batch = len(spec)
        if batch < batch_size:
            spec = F.pad(spec, (0,) * 7 + (batch_size - batch,))  # with zeros: the items of a batch do not know each other
        torch.compiler.cudagraph_mark_step_begin()
        with explained():
            estimate = self.separate_spec(network, spec)[:batch]
        return estimate.clone() if self.graphs else estimate


class Auto:
    """Networks as they are for a few batches, which are timed; then compiled, where what is left to do is worth it.

    Where they turn out to be no quicker compiled, or cannot be compiled, it goes on as before. Each decision is a Notice.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.runner: Eager | Compiled = Eager()
        self.settled = False
        self.left = 0.0  # runs that are expected to come
        self.timed: list[float] = []  # seconds that a chunk took
        self.before = 0.0  # the same before compiling

    def expect(self, runs: float) -> None:
        """Expect that many runs of a chunk through a network, or as many as were expected, if that is more."""
        self.left = max(self.left, runs)

    def run(self, network: SpecNetwork, spec: Tensor, batch_size: int) -> Tensor:
        """[B, 2C, F, L] -> [B, S, 2C, F, L]."""
        if self.settled:
            return self.runner.run(network, spec, batch_size)
        begin = time.perf_counter()
        try:
            estimate = self.runner.run(network, spec, batch_size)
        except CompilingError as error:
            self._settle(Eager(), f"{error}; going on without")
            return network.separate_spec(spec)
        self.left -= len(spec)
        if len(spec) == batch_size:
            self.timed.append((time.perf_counter() - begin) / batch_size)
        if len(self.timed) > TIMED:
            seconds = statistics.median(self.timed[1:])
            self.timed = []
            if isinstance(self.runner, Eager):
                self._decide(seconds)
            elif seconds < self.before:
                self._settle(self.runner, f"compiled: {seconds:.2g} s for a chunk and seed, {self.before:.2g} s before")
            else:
                self._settle(Eager(), f"compiled, but no quicker ({seconds:.2g} s for a chunk and seed): going on without")
        return estimate

    def _decide(self, seconds: float) -> None:
        left = max(0.0, self.left) * seconds
        if left * SAVED < WORTH * START_UP:
            self._settle(Eager(), f"not compiled: only about {_spoken(left)} of work left (--compile yes does it anyway)")
            return
        _note(
            f"compiling the network first, which may take {_spoken(START_UP)}; without it, about {_spoken(left)} of work are "
            "left (--compile no goes without)"
        )
        self.runner, self.before = Compiled(self.device), seconds

    def _settle(self, runner: Eager | Compiled, message: str) -> None:
        self.runner, self.settled = runner, True
        _note(message)


Runner = Eager | Compiled | Auto


def pick_runner(choice: str, device: torch.device) -> Runner:
    """How networks are run for `--compile`: auto, yes or no.

    auto leaves them as they are on CUDA: what compiling saves there is unmeasured. Raises CompilingError for `yes` where
    something is missing for it.
    """
    if choice not in CHOICES:
        raise CompilingError(f"compile is {choice!r}, expected {', '.join(CHOICES)}")
    if choice == "no":
        return Eager()
    if choice == "yes":
        require(device)
        _note(f"compiling the network first, which may take {_spoken(START_UP)} (--compile no goes without)")
        return Compiled(device)
    missing = what_is_missing(device)
    if device.type == "cpu" and not missing:
        return Auto(device)
    reason = f"that needs {missing}" if missing else f"what it saves on {device.type} is unmeasured; --compile yes does it"
    _note(f"not compiled: {reason}")
    return Eager()


def compiled(function: Callable[..., Tensor], *, graphs: bool = False) -> Callable[..., Tensor]:
    """The function compiled, at its first call, for tensors of one size, as a whole or with an error.

    graphs: as CUDA graphs. Else in Inductor's default mode, on CUDA too: it chooses channels-last there by itself and fuses
    what lies between convolutions; what its other modes would search for is unmeasured, and takes minutes more.
    """
    options = {"triton.cudagraphs": True} if graphs else None
    return torch.compile(function, backend=BACKEND, fullgraph=True, dynamic=False, options=options)


def _separate_spec(network: SpecNetwork, spec: Tensor) -> Tensor:
    """With the network as an argument, so that the next seed's is not compiled anew."""
    return network.separate_spec(spec)


def require(device: torch.device) -> None:
    """Raises CompilingError where something is missing for compiling."""
    missing = what_is_missing(device)
    if missing:
        raise CompilingError(f"--compile needs {missing}, or leave --compile out")


def what_is_missing(device: torch.device) -> str:
    """What compiling for that device needs and is not there, what to do about it; nothing where all is there."""
    if device.type not in ("cpu", "cuda"):
        return f"a CPU or CUDA, but the device is {device.type}; name another with --device"
    # the one that Inductor takes
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    if not shutil.which(compiler):
        return f"a C++ compiler ({compiler}), found none; install it (apt-get install g++), name another in CXX"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        return f"Python's headers, found no {header}; install them (apt-get install python3-dev)"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "Triton, found none; install it (pip install triton)"
    return ""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What the compiler raises inside becomes a CompilingError with the reason; but a full memory stays what it is."""
    try:
        yield
    except Exception as error:
        modules = [kind.__module__ for kind in type(error).__mro__]
        if is_out_of_memory(error) or not any(name.startswith(("torch._dynamo", "torch._inductor")) for name in modules):
            raise
        # "backend='inductor' raised:" comes before the reason
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.rstrip().endswith("raised:")]
        reason = lines[0] if lines else type(error).__name__
        raise CompilingError(f"the network cannot be compiled here ({reason}); leave --compile out") from error


def _note(message: str) -> None:
    warnings.warn(message, Notice, stacklevel=3)


def _spoken(seconds: float) -> str:
    """A duration in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
