"""The example workflow that proposes advice: its own steps by bash, on a repository with an origin, three times and a merge.

What is played is GitHub's part: what checkouts bring, `pip`, and `gh`, which keeps one pull request and what it was asked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from slm_core.codec import to_json
from slm_core.measurements import Engine, Gpu, Model
from slm_core.units import GIB

from tests.builders import document, engines, point
from tests.docs.pages import ROOT

PAGE: dict[str, Any] = yaml.safe_load((ROOT / "docs/how-to/advise-others/github.yaml").read_text())
JOB: dict[str, Any] = PAGE["jobs"]["advise"]
STEPS: list[str] = [step["run"] for step in JOB["steps"] if "run" in step]
PIP = """#!/bin/sh
echo "$*" >> "$PLAYED/pip"
"""
GH = """#!/bin/sh
echo "$1 $2" >> "$PLAYED/gh"
case "$2" in
  view) cat "$PLAYED/state" 2>/dev/null || { echo "no pull requests found" >&2; exit 1; } ;;
  create) echo OPEN > "$PLAYED/state" ;;
esac
while [ $# -gt 0 ]; do if [ "$1" = --body-file ]; then cp "$2" "$PLAYED/body"; fi; shift; done
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on GitHub, with what its workflow is told."""

    folder: Path

    def __post_init__(self) -> None:
        for name, text in (("pip", PIP), ("gh", GH)):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        # NB: by its name alone, so that nothing else of the environment of the tests is found before what is played.
        (self.programs / "kubectl-slm").symlink_to(Path(sys.executable).with_name("kubectl-slm"))
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        self.git("clone", "--quiet", str(self.origin), str(self.work))
        self.git("-C", str(self.work), "switch", "--quiet", "--orphan", "main")

    @property
    def programs(self) -> Path:
        return made(self.folder / "bin")

    @property
    def played(self) -> Path:
        return made(self.folder / "played")

    @property
    def origin(self) -> Path:
        return self.folder / "origin.git"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GITHUB_"))}
        people = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        own = {"PATH": f"{self.programs}:{kept['PATH']}", "PLAYED": str(self.played), "HOME": str(self.folder)}
        return kept | people | own

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], env=self.environment(), cwd=self.folder, capture_output=True, text=True, check=True
        )
        return done.stdout

    def push(self, batch: int, *batches: int) -> None:
        """The workload with this batch, and a profile of these."""
        chat = made(self.work / "chat")
        words = ("vllm", "serve", engines.MODEL, "--max-num-seqs", str(batch), "--max-num-batched-tokens", "8192")
        container = {"name": "engine", "image": engines.IMAGE, "args": list(words[2:])}
        measured = document(
            *(point(one, max_num_batched_tokens=8192) for one in batches),
            model=Model(uri=f"hf://{engines.MODEL}"),
            engine=Engine(version="0.32.0", image=engines.IMAGE, args=words),
            gpu=Gpu(product=engines.PRODUCT, memory_bytes=64 * GIB),
        )
        (chat / "deployment.yaml").write_text(yaml.safe_dump(engines.deployment(container)))
        (chat / "profile.yaml").write_text(yaml.safe_dump(to_json(measured)))
        for words_of in (
            ("add", "--all"),
            ("commit", "--quiet", "--message", "x"),
            ("push", "--quiet", "origin", "main"),
        ):
            self.git("-C", str(self.work), *words_of)

    def run(self) -> tuple[int, str]:
        """The workflow on what is pushed, on a machine of its own: exit status, and what was asked of `gh`."""
        machine, temp = self.folder / "machine", self.folder / "temp"
        for former in (machine, temp, self.played / "gh"):
            shutil.rmtree(former) if former.is_dir() else former.unlink(missing_ok=True)
        self.git("clone", "--quiet", "--depth=1", f"file://{self.origin}", str(machine))
        made(machine / ".slm-operator/anything")
        env = self.environment() | {"RUNNER_TEMP": str(made(temp)), "BRANCH": JOB["env"]["BRANCH"]}
        for step in STEPS:
            done = subprocess.run(["bash", "-e", "-c", step], cwd=machine, env=env, check=False)
            if done.returncode:
                break
        asked = self.played / "gh"
        return done.returncode, " ".join(asked.read_text().split()) if asked.exists() else ""

    def proposed(self) -> str:
        """The files of the branch that are not of main, and its patch."""
        branch = JOB["env"]["BRANCH"]
        files = self.git("-C", str(self.origin), "diff", "--name-only", "main", branch)
        return files + "".join(self.git("-C", str(self.origin), "show", f"{branch}:{name}") for name in files.split())

    def branch(self) -> str:
        return self.git("-C", str(self.origin), "rev-parse", JOB["env"]["BRANCH"]).strip()

    def merge(self) -> None:
        self.git("-C", str(self.work), "pull", "--quiet", "--no-rebase", "origin", JOB["env"]["BRANCH"])
        self.git("-C", str(self.work), "push", "--quiet", "origin", "main")
        (self.played / "state").write_text("MERGED\n")


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_workflow_opens_keeps_and_edits_one_pull_request(repository: Repository) -> None:
    repository.push(512, 1, 32, 64, 128)
    assert repository.run() == (0, "pr view pr create")
    assert (repository.played / "pip").read_text() == "install ./.slm-operator\n"
    assert "chat/advice/kustomization.yaml" in repository.proposed()
    assert "value: '128'" in repository.proposed()
    assert "report.html" not in repository.proposed()
    assert "128" in (repository.played / "body").read_text()
    assert (repository.folder / "temp/report.html").exists()

    opened = repository.branch()
    assert repository.run() == (0, "")  # nothing is new: neither the branch nor the pull request is touched
    assert repository.branch() == opened

    repository.push(512, 1, 32, 64)
    assert repository.run() == (0, "pr view pr edit")
    assert repository.branch() != opened
    assert "128" not in repository.proposed()

    repository.merge()
    assert repository.run() == (0, "")

    repository.push(512, 1, 32, 64, 128)
    assert repository.run() == (0, "pr view pr create")


def test_workflow_proposes_nothing_where_nothing_is_to_change(repository: Repository) -> None:
    repository.push(128, 1, 32, 64, 128)
    assert repository.run() == (0, "")


def test_workflow_ends_with_the_sentence_of_what_is_refused(
    repository: Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    repository.push(0, 1, 32, 64, 128)
    assert repository.run() == (2, "")
    assert "--max-num-seqs says 0, which is no number above 0" in capfd.readouterr().err
