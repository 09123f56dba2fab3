"""What the pages are made of: of an evaluation (`my_submission.src.report`), and of an audit (`my_submission.src.audit`).

pictures   waveform and spectrogram of a song of any length, as PNG
chart      bars for the scores, as SVG
lanes      the files of what can be listened to
players    the HTML of players, every name in it escaped
markup     the HTML of an evaluation's page, and the frame of every page, page.html
suspects   the HTML of an audit's page
page.css   their looks, light and dark        page.js   players, kept in step        marks.js   an audit's marks
"""
