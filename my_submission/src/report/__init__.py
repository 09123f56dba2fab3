"""The page of an evaluation or an audit, and its files.

pictures   waveform and spectrogram of a song of any length, as PNG
chart      bars for the scores, as SVG
lanes      the files of what can be listened to
players    the HTML of players, every name in it escaped
markup     the HTML of an evaluation's page, and the frame of every page, page.html
page       an evaluation's page and its folder of files, written both or none
page.css   their looks, light and dark        page.js   players, kept in step
"""

from my_submission.src.report.lanes import Track
from my_submission.src.report.page import (
    ReportError,
    add_options,
    check_options,
    check_path,
    evaluated_tracks,
    write_page,
    write_with_files,
)

__all__ = [
    "ReportError",
    "Track",
    "add_options",
    "check_options",
    "check_path",
    "evaluated_tracks",
    "write_page",
    "write_with_files",
]
