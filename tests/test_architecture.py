"""The one rule of the architecture: a module imports only from those before it in README's list."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

SRC = ROOT / "my_submission" / "src"


def listed() -> list[str]:
    """The modules of README's list, in its order: `common`, `common.errors`, ..., `stft`, ..., `train`.

    A line names a module (`stft.py`, or `challenge/published.py` apart from its folder), or a folder and its modules.
    """
    block = (ROOT / "README.md").read_text(encoding="utf-8").partition("      src/\n")[2].partition("HOW_TO_TRAIN.md")[0]
    modules, folder = [], ""
    for line in block.splitlines():
        first, _, rest = line.strip().partition(" ")
        if first.endswith(".py"):
            modules.append(first.removesuffix(".py").replace("/", "."))
            continue
        if first.endswith("/"):
            folder = first.removesuffix("/")
            modules.append(folder)  # the folder's own __init__.py
        else:
            rest = line
        modules += [f"{folder}.{name}" for name in rest.split()]
    return modules


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def imported(path: Path) -> set[str]:
    """The modules of src that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import it as my_submission.src.x"
            names = [f"{node.module}.{name}" for name in names]
        for name in names:
            parts = re.sub(r"^my_submission(\.src)?\.", "", name).split(".") if name.startswith("my_submission.") else []
            while parts and not (SRC.joinpath(*parts).is_dir() or SRC.joinpath(*parts).with_suffix(".py").is_file()):
                parts.pop()
            if parts:
                found.add(".".join(parts))
            elif name.startswith("my_submission."):
                found.add(name)  # outside src: a file above all of it
    return found


FILES = {module_of(path): path for path in sorted(SRC.rglob("*.py")) if module_of(path)}


def test_the_list_names_every_module_once() -> None:
    named = listed()
    assert len(set(named)) == len(named)
    assert set(FILES) <= set(named)
    assert {name for name in named if name not in FILES} == set()


# A package's __init__ hands names of its own modules on; the trial run plays the evaluator, in a process of its own.
ABOVE = {"challenge.trial_run": {"my_submission.aicrowd_wrapper.AIcrowdWrapper", "my_submission.user_config.MySeparationModel"}}


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_from_those_before_it(module: str) -> None:
    order = {name: place for place, name in enumerate(listed())}
    is_package = FILES[module].name == "__init__.py"
    for name in imported(FILES[module]) - ABOVE.get(module, set()):
        own = is_package and name.startswith(f"{module}.")
        assert own or order.get(name, len(order)) < order[module], f"{module} imports {name}"


def test_src_holds_few_names() -> None:
    assert len([path for path in SRC.iterdir() if path.name != "__pycache__"]) <= 27
