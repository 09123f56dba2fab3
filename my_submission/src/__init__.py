"""The modules behind the entry points; "Architecture" in README.md lists them in the order of their imports.

The legend of shapes, used in every module: B batch, S sources (stems), C audio channels, T or n samples,
F frequency bins, L STFT frames. `mixture` [B, C, T], `sources` and `estimates` [B, S, C, T], `spec` [B, ..., F, L].
"""
