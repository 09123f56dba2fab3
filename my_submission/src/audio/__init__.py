"""Audio: files and streams (files), stems (stem_writer), sample rates (resample), threads (prefetch), changes (augment)."""

from my_submission.src.audio.files import (
    BLOCK,
    BYTES,
    SUBTYPES,
    SUFFIXES,
    AudioArray,
    AudioError,
    AudioFile,
    AudioStream,
    Block,
    create,
    read,
    readable_seconds,
    tee_to_file,
    write,
)

__all__ = [
    "BLOCK",
    "BYTES",
    "SUBTYPES",
    "SUFFIXES",
    "AudioArray",
    "AudioError",
    "AudioFile",
    "AudioStream",
    "Block",
    "create",
    "read",
    "readable_seconds",
    "tee_to_file",
    "write",
]
