"""The HTML page of an evaluation or an audit, and the audio and pictures that belong to it.

pictures   waveform and spectrogram of a song of any length, as PNG
lanes      the files of everything that can be listened to
chart      bars for the scores, as SVG
players    the HTML of the players; every name in it is escaped
markup     the HTML of an evaluation's page, and the frame of every page (page.html)
page       an evaluation's page and its folder of files: writes both or none
page.css   the style, light and dark; player.css is the players'
page.js    the players, synchronised; lane.js is one lane of them, loop.js the stretch that repeats
"""

from my_submission.src.report.lanes import Song
from my_submission.src.report.page import (
    ReportError,
    add_options,
    check_options,
    check_path,
    evaluated_songs,
    write_page,
    write_with_files,
)

__all__ = [
    "ReportError",
    "Song",
    "add_options",
    "check_options",
    "check_path",
    "evaluated_songs",
    "write_page",
    "write_with_files",
]
