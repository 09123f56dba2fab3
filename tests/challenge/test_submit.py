"""submit.sh against a bare repository in a temporary folder, with real git and, if installed, real git-lfs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.paths import GOLDEN, ROOT

TOKEN = "s3cr3t-0f-a-user"
OURS = ("my_submission", "submit.sh", "aicrowd.json", "apt.txt", "requirements.txt", ".gitignore")
CHECKPOINTS = [f"my_submission/ckpts/modelA/step100000_seed{seed}.ckpt" for seed in range(3)]
needs_git_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")


class Repository:
    """A copy of this repository with a small model A, one commit, and a bare remote `aicrowd` next to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.remote, self.home = folder, folder / "repository", folder / "remote.git", folder / "home"
        self.home.mkdir()
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "XDG_"))}
        self.environment |= {"HOME": str(self.home), "GIT_CONFIG_NOSYSTEM": "1", "PYTHON": sys.executable}
        self.environment |= {"PYTHONUSERBASE": site.getuserbase(), "GIT_CONFIG_GLOBAL": str(self.home / "gitconfig")}
        (self.home / "gitconfig").write_text("[user]\nname = Me\nemail = me@example.org\n[init]\ndefaultBranch = main\n")
        for name in OURS:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.root / name) if self.root.mkdir(exist_ok=True) is None else None
        for path in [*self.root.rglob("__pycache__"), *self.root.glob("my_submission/ckpts/model*/*.ckpt")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.put_model("modelA", "step100000_seed")
        self.git("init", "--quiet", "--bare", str(self.remote), cwd=folder)
        self.git("init", "--quiet")
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "ours")
        self.git("remote", "add", "aicrowd", str(self.remote))

    def put_model(self, model: str, prefix: str) -> None:
        """Put the golden ensemble there under a published model's names, with a coarse STFT, so that the trial run is fast."""
        folder = self.root / "my_submission" / "ckpts" / model
        config = yaml.safe_load((GOLDEN / "separation_A" / "config.yaml").read_text())
        config["audio"] |= {"n_fft": 2048, "hop_length": 1024, "chunk_size": 1024 * 15}
        config["inference"] |= {"num_overlap": 1}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        for seed in range(3):
            shutil.copy(GOLDEN / "separation_A" / f"step100000_seed{seed}.ckpt", folder / f"{prefix}{seed}.ckpt")

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd or self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run submit.sh; return its output."""
        done = subprocess.run(
            ["bash", "submit.sh", *arguments],
            cwd=self.root,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == status, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    def remote_refs(self) -> str:
        return self.git("for-each-ref", "--format=%(refname) %(objectname)", cwd=self.remote)

    def remote_files(self, tag: str) -> set[str]:
        return set(self.git("ls-tree", "-r", "--name-only", tag, cwd=self.remote).splitlines())

    def state(self) -> list[str]:
        """Return everything that a refusal must not change: refs, settings, hooks, staged and unstaged changes, every file."""
        found = [
            self.git("for-each-ref"),
            (self.root / ".git/config").read_text(),
            *map(str, (self.root / ".git/hooks").iterdir()),
        ]
        found += [self.git("ls-files", "--stage"), self.git("diff"), self.remote_refs()]
        paths = [path for path in sorted(self.root.rglob("*")) if path.is_file() and ".git" not in path.parts]
        return found + [f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths if path.suffix != ".pyc"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def log_in(repository: Repository) -> None:
    """Write the file that `aicrowd login` leaves, where aicrowd-cli keeps it."""
    place = "Library/Application Support" if sys.platform == "darwin" else ".config"
    path = repository.home / place / "aicrowd-cli" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'aicrowd_api_key = "another"\n\n[gitlab]\noauth_token = "{TOKEN}"\nuserid = 7\nusername = "me"\n')


def test_a_first_submission_then_the_same_name_then_the_next_one(repository: Repository) -> None:
    root = repository.root
    tracked = set(repository.git("ls-files").splitlines())
    for junk in ("notes.txt", "token.txt", ".env", "my_submission/junk.bin"):
        (root / junk).write_text(TOKEN)
    (root / "my_submission/ckpts/modelB/step150000_seed0.ckpt").write_text("the other model's")
    with (root / "requirements.txt").open("a") as file:
        file.write("# a change that is not staged\n")

    printed = repository.submit("first try")
    assert repository.remote_files("submission-first-try") == tracked | set(CHECKPOINTS)
    assert "a change that is not staged" in repository.git(
        "show", "submission-first-try:requirements.txt", cwd=repository.remote
    )
    assert TOKEN not in repository.git("log", "-p", "--all", cwd=repository.remote)
    assert all(f"A\t{path}" in printed for path in CHECKPOINTS)
    assert "M\trequirements.txt" in printed
    assert "not tracked, so left alone: .env my_submission/junk.bin notes.txt token.txt" in printed
    assert "four stems" in printed
    assert repository.git("rev-parse", "main") == repository.git(
        "rev-parse", "submission-first-try^{commit}", cwd=repository.remote
    )

    before = repository.state()
    assert "submission-first-try exists already" in repository.submit("--no-run", "first try", status=1)
    assert "nothing has changed since submission-first-try" in repository.submit("--no-run", "again", status=1)
    assert repository.state() == before

    repository.git("tag", "-d", "submission-first-try")  # as in another clone
    assert "submission-first-try exists on the remote already" in repository.submit("--no-run", "first-try", status=1)

    (root / "notes.txt").write_text("now it is part of it")
    repository.git("add", "notes.txt")
    assert "A\tnotes.txt" in repository.submit("--no-run", "second")
    assert repository.remote_files("submission-second") == tracked | set(CHECKPOINTS) | {"notes.txt"}


def test_wrong_flags_are_set_and_a_dry_run_changes_nothing(repository: Repository) -> None:
    root = repository.root
    settings = json.loads((root / "aicrowd.json").read_text())
    (root / "aicrowd.json").write_text(json.dumps(settings | {"labelnoise": False, "bleeding": True}))
    (root / "apt.txt").write_text("git\nlibsndfile1\n# staged\n")
    repository.git("add", "apt.txt")
    (root / "apt.txt").write_text("git\nlibsndfile1\n# staged\n# and not staged\n")

    before = repository.state()
    printed = repository.submit("--no-run", "--dry-run", "flags")
    assert repository.state() == before
    assert "set for leaderboard A: labelnoise true, bleeding false" in printed
    assert f"A\t{CHECKPOINTS[0]}" in printed
    assert "would commit this, create the tag submission-flags, and push both to aicrowd" in printed

    assert "aicrowd.json was changed" in repository.submit("--no-run", "flags")
    sent = json.loads(repository.git("show", "submission-flags:aicrowd.json", cwd=repository.remote))
    assert sent == settings
    assert "# and not staged" in repository.git("show", "submission-flags:apt.txt", cwd=repository.remote)


def test_a_missing_checkpoint_stops_the_submission(repository: Repository) -> None:
    (repository.root / CHECKPOINTS[1]).unlink()
    before = repository.state()
    printed = repository.submit("name", status=1)
    assert "missing step100000_seed1.ckpt; download mdx_AB.zip from https://drive.google.com/" in printed
    assert "nothing was committed or pushed" in printed
    assert repository.state() == before


def test_after_a_switch_the_other_models_checkpoints_are_not_pushed(repository: Repository) -> None:
    repository.git("add", "--force", *CHECKPOINTS)
    repository.git("commit", "--quiet", "-m", "an earlier submission of A")
    repository.put_model("modelB", "step150000_seed")
    config = repository.root / "my_submission/user_config.py"
    config.write_text(config.read_text().replace("MySeparationModel = A", "MySeparationModel = B"))

    printed = repository.submit("--no-run", "B")
    assert f"untracked, the files stay: {', '.join(CHECKPOINTS)}" in printed
    sent = {path for path in repository.remote_files("submission-B") if path.endswith(".ckpt") and "/demo/" not in path}
    assert sent == {f"my_submission/ckpts/modelB/step150000_seed{seed}.ckpt" for seed in range(3)}
    assert (repository.root / CHECKPOINTS[0]).is_file()
    sent_flags = json.loads(repository.git("show", "submission-B:aicrowd.json", cwd=repository.remote))
    assert (sent_flags["labelnoise"], sent_flags["bleeding"]) == (False, True)


def test_a_failed_commit_or_push_is_undone(repository: Repository) -> None:
    hook = repository.root / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    before = repository.state()
    assert "git could not commit" in repository.submit("--no-run", "name", status=1)
    assert repository.state() == before

    hook.unlink()
    other = repository.folder / "other"  # another history under the same branch's name, as in a fork of the kit
    repository.git("init", "--quiet", str(other), cwd=repository.folder)
    repository.git("commit", "--quiet", "--allow-empty", "-m", "theirs", cwd=other)
    repository.git("push", "--quiet", str(repository.remote), "main", cwd=other)
    refs = repository.remote_refs()
    printed = repository.submit("--no-run", "name", status=1)
    assert "the push failed" in printed
    assert "git switch -c NEW-BRANCH" in printed
    assert repository.remote_refs() == refs
    assert repository.git("tag") == ""
    assert repository.git("log", "-1", "--format=%s") == "Submission name"


def test_the_token_reaches_git_and_nothing_else(repository: Repository) -> None:
    repository.git("remote", "remove", "aicrowd")
    assert "aicrowd login" in repository.submit("name", status=1)
    log_in(repository)
    repository.git("remote", "add", "aicrowd", f"https://oauth2:{TOKEN}@gitlab.aicrowd.com/me/kit.git")
    printed = repository.submit("name", status=1)
    assert "git remote set-url aicrowd https://gitlab.aicrowd.com/me/kit.git" in printed
    assert TOKEN not in printed
    repository.git("remote", "remove", "aicrowd")

    address = "https://gitlab.aicrowd.com/me/sdx-2023-music-demixing-track-starter-kit.git"
    store = repository.home / "stored"
    with (repository.home / "gitconfig").open("a") as file:  # the address is rewritten to the local folder
        file.write(f'[url "{repository.remote}"]\ninsteadOf = {address}\n[credential]\nhelper = store --file {store}\n')
    hook = repository.root / ".git/hooks/pre-push"  # asks git for a credential, as a push over https does
    asked = repository.folder / "asked"
    hook.write_text(
        f"""#!/bin/sh
        printf 'protocol=https\\nhost=gitlab.aicrowd.com\\n\\n' | git credential fill > {asked}
        git credential approve < {asked}
        printf 'protocol=https\\nhost=example.org\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill > {asked}.elsewhere 2>&1
        exit 0
        """
    )
    hook.chmod(0o755)
    printed = repository.submit("--no-run", "name", GIT_TRACE="1")
    assert {"username=oauth2", f"password={TOKEN}"} <= set(asked.read_text().split())
    assert TOKEN not in Path(f"{asked}.elsewhere").read_text()
    assert not store.exists()  # another credential helper did not get it
    assert TOKEN not in printed
    assert TOKEN not in (repository.root / ".git/config").read_text()
    assert repository.git("config", "remote.aicrowd.url") == address
    assert "submission-name" in repository.remote_refs()


@needs_git_lfs
def test_files_over_5_mb_go_through_git_lfs(repository: Repository) -> None:
    from my_submission.src.checkpoint import save_checkpoint
    from my_submission.src.config import load_config
    from my_submission.src.model import TFCTDFNet

    folder = repository.root / "my_submission/ckpts/modelA"
    wide = yaml.safe_load((folder / "config.yaml").read_text())
    wide["model"] |= {"num_channels": 64, "growth": 64}
    (folder / "config.yaml").write_text(yaml.safe_dump(wide))
    for path in CHECKPOINTS:
        save_checkpoint(TFCTDFNet(load_config(folder / "config.yaml")).state_dict(), repository.root / path)
        assert (repository.root / path).stat().st_size > 5_000_000
    (repository.root / "a song.bin").write_bytes(os.urandom(5_000_001))
    repository.git("add", "a song.bin")
    before = repository.state()
    repository.submit("--no-run", "--dry-run", "large")
    assert repository.state() == before

    printed = repository.submit("--no-run", "large")
    for path in (*CHECKPOINTS, "a song.bin"):
        assert f"over 5 MB, so through git-lfs: {path}" in printed
        digest = hashlib.sha256((repository.root / path).read_bytes()).hexdigest()
        assert f"oid sha256:{digest}" in repository.git("show", f"submission-large:{path}", cwd=repository.remote)
        assert (repository.remote / "lfs/objects" / digest[:2] / digest[2:4] / digest).is_file()
    assert repository.git("status", "--porcelain") == ""
    assert len((repository.root / ".gitattributes").read_text().splitlines()) == 4


def test_without_git_lfs_a_large_file_is_refused(repository: Repository, tmp_path: Path) -> None:
    (repository.root / "large.bin").write_bytes(bytes(5_000_001))
    repository.git("add", "large.bin")
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for tool in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if tool.name != "git-lfs" and not (tools / tool.name).is_symlink():
                (tools / tool.name).symlink_to(tool)
    before = repository.state()
    printed = repository.submit("--no-run", "name", status=1, PATH=str(tools))
    assert "git-lfs is not installed, and over 5 MB are: large.bin; apt-get install git-lfs" in printed
    assert repository.state() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a name for the submission"),
        ([""], "the name is empty"),
        (["one", "two"], "expected one name, found 'one' and 'two'"),
        (["--force", "name"], "no such option: --force"),
        (["a..b"], "git does not accept the tag 'submission-a..b'"),
        (["what?"], "git does not accept the tag 'submission-what?'"),
        (["--user"], "--user needs a name"),
        (["--user", "me@host/", "name"], "'me@host/' is not an AIcrowd user name"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], message: str) -> None:
    done = subprocess.run(["bash", "submit.sh", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_unusable_repositories_are_refused(repository: Repository) -> None:
    repository.git("remote", "set-url", "aicrowd", str(repository.folder / "nowhere"))
    assert "cannot be read" in repository.submit("name", status=1)
    assert "the remote 'aicrowd' exists" in repository.submit("--user", "me", "name", status=1)
    repository.git("switch", "--quiet", "--detach")
    assert "HEAD is detached" in repository.submit("name", status=1)
    shutil.rmtree(repository.root / ".git")
    assert "is not a git repository" in repository.submit("name", status=1, GIT_CEILING_DIRECTORIES=str(repository.folder))
