"""The published checkpoints: where they come from, their names and their hashes."""

from __future__ import annotations

DOWNLOAD = "https://drive.google.com/file/d/1fy3aIAYnDg8WJ35hMsBhVJFLbIbLo8Gv/view?usp=share_link"
INSTALL = "python -m my_submission install mdx_AB.zip"

PUBLISHED_BYTES = 120_586_444  # of each file
PUBLISHED = {  # path in the archive and below ckpts/ -> SHA-256, from the authors' git-LFS records
    "modelA/step100000_seed0.ckpt": "ec3ab4a8327d6db696d9ae51c5a38573186461182007d0dd9a09ad662a5ef1ae",
    "modelA/step100000_seed1.ckpt": "38f49b66698b17ddc857eacf4ad246d48fa7c43bdb68d9e22967639426fee826",
    "modelA/step100000_seed2.ckpt": "350ce6e2555afd076fc41510a291a3137003794b7a1930179198c8b2c806310c",
    "modelB/step150000_seed0.ckpt": "ed1f577bfa6ed4e6146a675f763d2c8d773ab6f42cee75564d2f8d609ea979d3",
    "modelB/step150000_seed1.ckpt": "063723f682d46d42cfd5e6e0ca2e450de6847338d0bd6ae6407b8e6f75efd1f1",
    "modelB/step150000_seed2.ckpt": "eab8d4c9ce119ed3f0c8458e47c88648e51b9ba463ed546fcdd225b158d346c3",
}


def published_checkpoints(model: str) -> list[str]:
    """Return the file names of a published model's checkpoints, seed 0 first: `published_checkpoints("modelA")`."""
    return sorted(path.partition("/")[2] for path in PUBLISHED if path.startswith(f"{model}/"))
