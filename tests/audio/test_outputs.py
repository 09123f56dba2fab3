"""The stems that are written, their names, and their files' places."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from my_submission.src.audio.files import AudioArray, AudioError
from my_submission.src.audio.layout import Layout, LayoutError
from my_submission.src.audio.outputs import Output, OutputError, choose, model_outputs, select
from my_submission.src.audio.publish import publish
from my_submission.src.audio.songs import find_songs
from my_submission.src.audio.stem_writer import StemWriter
from my_submission.src.common.atomic import clear_dead

FOUR = model_outputs(["vocals", "Drums", "bass", "other"], ["vocals", "Drums", "bass", "other"], None)


def test_a_target_of_two_instruments_gives_both() -> None:
    assert model_outputs(["other"], ["vocals", "other"], "other") == [Output("other", 0), Output("vocals", 0, is_rest=True)]
    assert model_outputs(["other"], ["vocals", "other", "x"], "other") == [Output("other", 0)]
    assert model_outputs(["other"], ["other"], "other") == [Output("other", 0)]
    assert model_outputs(["a", "b"], ["a", "b"], None) == [Output("a", 0), Output("b", 1)]


def test_stems_are_chosen_without_regard_to_case() -> None:
    assert choose(FOUR) == FOUR
    assert choose(FOUR, stems=["BASS", "vocals", " bass"]) == [FOUR[0], FOUR[2]]
    assert choose(FOUR, two_stems="VOCALS") == [FOUR[0], Output("instrumental", 0, is_rest=True)]
    assert choose(FOUR, two_stems="drums") == [FOUR[1], Output("no_Drums", 1, is_rest=True)]
    assert choose(model_outputs(["Vocals"], ["Vocals", "x", "y"], "Vocals"), two_stems="vocals")[1].name == "instrumental"
    single = model_outputs(["other"], ["vocals", "other"], "other")
    assert choose(single, two_stems="vocals") == [Output("vocals", 0, is_rest=True), Output("instrumental", 0)]
    for how in ({"stems": ["piano"]}, {"stems": [""]}, {"two_stems": "piano"}):
        with pytest.raises(OutputError, match=r"is no stem of this model, expected of: vocals, Drums, bass, other$"):
            choose(FOUR, **how)
    twins = model_outputs(["Vocals", "vocals"], ["Vocals", "vocals"], None)
    assert choose(twins, stems=["vocals"]) == [twins[1]]
    with pytest.raises(OutputError, match="means several"):
        choose(twins, stems=["VOCALS"])


@pytest.mark.parametrize("sizes", [[1, 70000, 3, 29996], [100000], [65536, 34464]])
def test_the_rest_is_the_mixture_without_the_stem(sizes: list[int]) -> None:
    rng = np.random.default_rng(0)
    mixture, stems = rng.standard_normal((100000, 2)), rng.standard_normal((2, 2, 100000)).astype(np.float32)
    blocks = np.split(stems, np.cumsum(sizes)[:-1], axis=-1)
    outputs = [Output("rest", 1, is_rest=True), Output("b", 1), Output("a", 0)]
    chosen = np.concatenate(list(select(outputs, blocks, AudioArray(mixture, 44100))), axis=-1)
    np.testing.assert_array_equal(chosen, [mixture.T.astype(np.float32) - stems[1], stems[1], stems[0]])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{song}", "lacks {stem}"),
        ("{song}/{{stem}}", "lacks {stem}"),
        ("{stem}{0}", "has no field {0}"),
        ("{stem}{}", "has no field {}"),
        ("{stem}{song.parent}", "has no field {song.parent}"),
        ("{stem:>900}", "has no field {stem:>900}"),
        ("{stem!r}", "has no field {stem!r}"),
        ("{stem", "expected '}'"),
        ("/{stem}", "is absolute"),
        ("C:/{stem}", "is absolute"),
        ("C:{stem}", "is absolute"),
        ("\\{stem}", "is absolute"),
        ("../{stem}", "has a part that is no name"),
        ("a/../{stem}", "has a part that is no name"),
        ("{stem}/..", "has a part that is no name"),
        ("{stem}/", "has a part that is no name"),
        ("{stem}\0", "has a part that is no name"),
        ("", "lacks {stem}"),
    ],
)
def test_other_templates_are_refused_in_one_line(template: str, reason: str) -> None:
    with pytest.raises(LayoutError) as caught:
        Layout(template)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_names_are_inserted_as_they_are() -> None:
    files = Layout("{model}/{{x}} {song} - {stem}", "A").files(Path("out/al{stem}bum/{song}"), ["bass"], "mp3")
    assert files == {"bass": Path("out/al{stem}bum/A/{x} {song} - bass.mp3")}


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for template, songs, written in [
        ("{stem}", ["a.wav", "b.wav"], ["bass"]),
        ("{song}_{stem}", ["a.wav", "a_b.wav"], ["b_c", "c"]),
        ("{song}{stem}", ["x/a.wav", "ab.wav"], ["b", ""]),
    ]:
        for name in songs:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        paths = [tmp_path / name for name in songs]
        with pytest.raises(AudioError, match="would both be written to"):
            find_songs(paths, tmp_path / "out", [written], layout=Layout(template), written=written)


def test_stems_of_a_layout_are_no_songs_and_songs_are_not_replaced(tmp_path: Path) -> None:
    for name in ("a.wav", "a - vocals.wav", "a - bass.mp3", "b - bass.wav", "x/b.wav", "x/b - vocals.opus"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    stems = ["bass", "vocals"]
    how = {"layout": Layout("{song} - {stem}"), "written": stems}
    jobs = find_songs([tmp_path], tmp_path, [stems], **how).jobs
    assert [str(job.path.relative_to(tmp_path)) for job in jobs] == ["a.wav", "b - bass.wav", "x/b.wav"]
    with pytest.raises(AudioError, match=r"a - vocals.wav: would be replaced by a stem of .*a.wav"):
        find_songs([tmp_path, tmp_path / "a - vocals.wav"], tmp_path, [stems], **how, overwrite=True)


@pytest.mark.parametrize(
    "template", ["{song}/{stem}", "{song} - {stem}", "{stem}/{song}", "{stem}/x/{song}", "m/{song}/{stem}"]
)
def test_all_files_appear_or_none(tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    paths = Layout(template).files(out / "song", ["a", "b", "c"], "wav")

    def write(value: float) -> None:
        with StemWriter(out / "song", ["a", "b", "c"], 8000, 1, 10, paths=paths) as writer:
            writer.write(np.full((3, 1, 10), value, np.float32))

    rename, replace = Path.rename, Path.replace
    calls = fail_at = 0

    def failing(original: object) -> object:
        def move(path: Path, target: Path) -> Path:
            nonlocal calls
            if (path.suffix == ".wav" and target in paths.values()) or target == paths["a"].parent:
                calls += 1
                if calls == fail_at:
                    raise OSError("no space left")
            return original(path, target)

        return move

    monkeypatch.setattr(Path, "rename", failing(rename))
    monkeypatch.setattr(Path, "replace", failing(replace))
    together = len({path.parent for path in paths.values()}) == 1 and paths["a"].parent != out
    for fail_at in [1] if together else [1, 2, 3]:  # noqa: B007
        calls = 0
        with pytest.raises(AudioError, match="no space left"):
            write(0.25)
        assert list(tmp_path.rglob("*")) == []
    fail_at = 0
    write(0.5)
    whole = {path: path.read_bytes() for path in paths.values()}
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(whole)
    for fail_at in (2, 3, 4) if together else (1, 2, 3):  # noqa: B007  # the first is the folder, which is there
        calls = 0
        with pytest.raises(AudioError, match="no space left"):
            write(0.25)
        assert {path: path.read_bytes() for path in paths.values()} == whole
        assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(whole)
    fail_at = 0
    write(0.25)
    assert all(path.read_bytes() != data for path, data in whole.items())


def test_a_disk_without_hard_links_still_puts_files_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "a").write_text("new")
    (tmp_path / "a").write_text("old")
    files, targets = ({name: folder / name for name in "ab"} for folder in (hidden, tmp_path))
    with pytest.raises(FileNotFoundError):  # b was not written
        publish(files, targets, tmp_path, hidden)
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("template", ["{stem}/{song}", "{song}/{stem}"])
@pytest.mark.parametrize("die_at", [1, 3])
@pytest.mark.parametrize("is_there", [False, True])
def test_after_a_kill_while_files_are_moved_all_or_none_are_there(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]], template: str, die_at: int, is_there: bool
) -> None:
    out = tmp_path / "out"
    paths = Layout(template).files(out / "song", ["a", "b", "c"], "wav")
    for path in paths.values() if is_there else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    result = run_python(
        "-c",
        f"""
import os
from pathlib import Path
import numpy as np
from my_submission.src.audio.layout import Layout
from my_submission.src.audio.stem_writer import StemWriter
from my_submission.src.common.atomic import clear_dead

paths = Layout({template!r}).files(Path({str(out)!r}) / "song", ["a", "b", "c"], "wav")
calls = 0

def dying(original):
    def move(path, target):
        global calls
        calls += target in paths.values() or target == paths["a"].parent
        if calls == {die_at}:
            os._exit(9)
        return original(path, target)
    return move

Path.rename, Path.replace = dying(Path.rename), dying(Path.replace)
with StemWriter({str(out / "song")!r}, ["a", "b", "c"], 8000, 1, 10, paths=paths) as writer:
    writer.write(np.full((3, 1, 10), 0.5, np.float32))
""",
    )
    if result.returncode == 0:  # one renaming was enough
        assert die_at > 1
    clear_dead(out)
    found = {path for path in out.rglob("*") if path.is_file()}
    contents = {path.read_bytes() for path in found}
    assert found in (set(), set(paths.values()))
    assert len(contents) <= 1, "old and new files are mixed"
