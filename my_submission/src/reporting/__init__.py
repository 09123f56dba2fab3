"""What the page of `my_submission.src.report` is made of.

pictures   waveform and spectrogram of a song of any length, as PNG
chart      bars for the scores, as SVG
markup     the page's HTML, every name in it escaped; page.html is its frame
page.css   its looks, light and dark                page.js   its players, kept in step
"""
