"""Audio files and streams: reading and writing (files), a song's stems (stem_writer), other sample rates (resample)."""

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
    copied,
    create,
    read,
    readable_seconds,
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
    "copied",
    "create",
    "read",
    "readable_seconds",
    "write",
]
