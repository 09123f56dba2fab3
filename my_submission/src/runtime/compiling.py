"""torch.compile for the network between the STFT and its inverse: a slow start (1 to 2 minutes), then less time per chunk.

    run = compiled_runner(device)
    run(network, spec, batch_size)                      # [B, 2C, F, L] -> [B, S, 2C, F, L]
    compiled(network.separate_spec)                     # the same for a network in training

Compiling changes the result by no more than the rounding of the precision. All networks of a config share one graph, for
batches of one size. Inductor caches its work (TORCHINDUCTOR_CACHE_DIR, by default in the system's temporary folder), so the
next process starts in seconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from my_submission.src.common.errors import UserError
from my_submission.src.runtime.device import is_out_of_memory
from my_submission.src.runtime.network import SeparationNetwork

BACKEND: str | Callable[..., Any] = "inductor"


Runner = Callable[[SeparationNetwork, Tensor, int], Tensor]  # (network, spec [B, 2C, F, L], batch size) -> [B, S, 2C, F, L]


class CompilingError(UserError):
    """The network cannot be compiled here."""


def run_eagerly(network: SeparationNetwork, spec: Tensor, batch_size: int) -> Tensor:
    """Run the network without compiling: [B, 2C, F, L] -> [B, S, 2C, F, L]."""
    return network.separate_spec(spec)


def compiled_runner(device: torch.device) -> Runner:
    """Return a runner that compiles the network at its first call.

    A batch smaller than `batch_size` is padded: there is one graph, of one size. On CUDA each network becomes a CUDA graph.

    Raises CompilingError: here if something is missing, from the runner if the compiler fails.
    """
    require(device)
    graphs = device.type == "cuda"
    separate_spec = compiled(_separate_spec, graphs=graphs)

    def run(network: SeparationNetwork, spec: Tensor, batch_size: int) -> Tensor:
        batch = len(spec)
        if batch < batch_size:
            spec = F.pad(spec, (0,) * 7 + (batch_size - batch,))  # zeros: the items of a batch are independent
        torch.compiler.cudagraph_mark_step_begin()
        with translate_compile_errors():
            estimate = separate_spec(network, spec)[:batch]
        # A replay's output buffer is overwritten by the next replay, so it is cloned.
        return estimate.clone() if graphs else estimate

    return run


def compiled(function: Callable[..., Tensor], *, graphs: bool = False) -> Callable[..., Tensor]:
    """Return the function compiled as one graph, for tensors of one size; compiling happens at the first call.

    `graphs` records CUDA graphs (default: no). Inductor runs in its default mode. Its other modes compile for minutes longer;
    their speed has not been measured.
    """
    options: dict[str, str | int | bool | Callable[..., Any]] | None = {"triton.cudagraphs": True} if graphs else None
    return torch.compile(function, backend=BACKEND, fullgraph=True, dynamic=False, options=options)


def _separate_spec(network: SeparationNetwork, spec: Tensor) -> Tensor:
    """Take the network as an argument, so that all seeds share one graph."""
    return network.separate_spec(spec)


def require(device: torch.device) -> None:
    """Raise CompilingError if something that compiling needs is missing."""
    missing = missing_requirement(device)
    if missing:
        raise CompilingError(f"--compile needs {missing}, or leave --compile out")


def missing_requirement(device: torch.device) -> str:
    """Name the first thing that compiling for this device lacks, and the remedy; empty if nothing is missing."""
    if device.type not in ("cpu", "cuda"):
        return f"a CPU or CUDA, but the device is {device.type}; name another with --device"
    # the compiler that Inductor calls
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
def translate_compile_errors() -> Iterator[None]:
    """Turn the compiler's exceptions into a CompilingError with the reason; out-of-memory errors pass."""
    try:
        yield
    except Exception as error:
        modules = [kind.__module__ for kind in type(error).__mro__]
        out_of_memory = isinstance(error, RuntimeError) and is_out_of_memory(error)
        if out_of_memory or not any(name.startswith(("torch._dynamo", "torch._inductor")) for name in modules):
            raise
        # the line before the reason ends with "backend='inductor' raised:"
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.rstrip().endswith("raised:")]
        reason = lines[0] if lines else type(error).__name__
        raise CompilingError(f"the network cannot be compiled here ({reason}); leave --compile out") from error
