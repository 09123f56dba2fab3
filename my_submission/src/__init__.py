"""The house behind the entry points; README.md has its map.

The legend of shapes, used in every module: B batch, S sources (stems), C audio channels, T or n samples,
F frequency bins, L STFT frames. `mixture` [B, C, T], `sources` and `estimates` [B, S, C, T], `spec` [B, ..., F, L].
"""
