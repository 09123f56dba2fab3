"""Options of a command that writes stems: which of them, where, and in which format."""

from __future__ import annotations

import argparse

from my_submission.src.audio.files import SUBTYPES
from my_submission.src.audio.layout import DEFAULT
from my_submission.src.audio.lossy import BITRATES, CONTAINERS, LOSSY
from my_submission.src.common import cli


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--stems", metavar="A,B", help="write only these stems (default: all of the model)")
    group.add_argument(
        "--two-stems",
        metavar="NAME",
        help="write this stem, and the mixture without it as no_NAME (instrumental, if NAME is vocals)",
    )
    add(
        "--filename",
        default=DEFAULT,
        metavar="TEMPLATE",
        help=f"names of the files below --out, without suffix; fields: {{song}}, {{stem}}, {{model}} (default: {DEFAULT})",
    )
    add(
        "--format",
        default="wav",
        choices=CONTAINERS,
        help="file format of the stems (default: wav). mp3, ogg and opus are lossy; opus is at 48 kHz, mp3 at 48 kHz at most",
    )
    subtypes = SUBTYPES["wav"]
    add("--subtype", choices=subtypes, help="sample format of the stems in wav or flac (default: PCM_16); flac has no FLOAT")
    mp3, opus, ogg = (LOSSY[name].default for name in ("mp3", "opus", "ogg"))
    add(
        "--bitrate",
        type=cli.positive,
        metavar="KBPS",
        help=f"of mp3: constant, {', '.join(map(str, BITRATES['mp3']))} (default: {mp3}; less for songs below 32 kHz); "
        f"of opus: its mean in full music, {BITRATES['opus'][0]} to {BITRATES['opus'][-1]}, and about half of it where the "
        f"channels are equal or the music is sparse (default: {opus}; at most 256 per channel)",
    )
    add(
        "--quality",
        type=_quality,
        metavar="0..10",
        help=f"of ogg (default: {ogg}); its bit rate depends on the music: up to about 64 kbit/s at 0, 160 at 5, 500 at 10",
    )


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that do not fit together as usage errors of the parser. Set `subtype` and `setting`."""
    form = options.format
    known = SUBTYPES.get(form, ())
    if options.subtype is not None and options.subtype not in known:
        kinds = ", ".join(known) or "it is lossy; see --bitrate and --quality"
        parser.error(f"--format {form} has no --subtype {options.subtype}: {kinds}")
    for name in ("bitrate", "quality"):
        value = getattr(options, name)
        if value is not None and (form not in LOSSY or LOSSY[form].setting != name):
            kinds = " and ".join(other for other, lossy in LOSSY.items() if lossy.setting == name)
            parser.error(f"--format {form} has no --{name}, which is for {kinds}")
    if options.bitrate is not None and options.bitrate not in BITRATES[form]:
        rates = BITRATES[form]
        expected = f"{rates[0]} to {rates[-1]}" if isinstance(rates, range) else ", ".join(map(str, rates))
        parser.error(f"--bitrate {options.bitrate} is none that {form} has here, expected {expected} kbit/s")
    options.subtype = options.subtype or "PCM_16"
    options.setting = options.bitrate if options.bitrate is not None else options.quality


def _quality(text: str) -> float:
    """Return the quality that an option's text stands for."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 10")
    return value
