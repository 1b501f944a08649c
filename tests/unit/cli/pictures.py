"""Pictures of the documentation, in docs/images: what the views draw, and what commands print when they are run.

A command that is shown is run, with the files that it names, so no page says what no command said.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from rich.console import Console
from rich.text import Text
from slm_operator.cli.commands import check, history, profile_diff, profile_list, top
from slm_operator.cli.main import main
from slm_operator.cli.preflight.table import preflight

from tests.builders.configs import OPT_1_3B
from tests.unit.cli.api_server import ApiServer, serve
from tests.unit.cli.golden import DATA, ROOT
from tests.unit.cli.served_cluster import served_cluster
from tests.unit.cli.views import DIFFERENCES, HISTORY, KEPT, ROWS, TROUBLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import RenderableType

IMAGES = ROOT / "docs/images"
WIDTH = 120
SWEEP = ("--from-csv", "batch_sweep.csv", "--packs-csv", "replication.csv", "--model", "opt-1.3b", "--itl-factor", "4")
PUBLISHED = {name: (ROOT / DATA / name).read_text() for name in ("batch_sweep.csv", "replication.csv")}
CHAT = """\
apiVersion: slm-operator.io/v1alpha1
kind: SLMDeployment
metadata: {name: chat}
spec:
  model: {uri: "hf://facebook/opt-1.3b"}
  slo: {itl: {maxMs: 40}}
"""
MISTAKEN = """\
apiVersion: slm-operator.io/v1alpha1
kind: SLMDeployment
metadata: {name: chat}
spec:
  model: {uri: "hf://facebook/opt-1.3b@main"}
  slo: {itlMs: 40}
  sharing: {mode: None}
  accelerator: {tolerations: [{key: nvidia.com/gpu, operater: Exists}]}
"""
ESTIMATE = {"chat.yaml": CHAT, "config.json": json.dumps(OPT_1_3B)}


def screen(title: str, view: RenderableType) -> str:
    """A view as a picture of a terminal, without the fonts that rich would fetch from elsewhere."""
    recorded = Console(
        record=True, force_terminal=True, width=WIDTH, file=io.StringIO(), highlight=False, color_system="truecolor"
    )
    recorded.print(view)
    return re.sub(r"@font-face \{.*?\}\s*", "", recorded.export_svg(title=title), flags=re.DOTALL)


def ran(files: Mapping[str, str], *arguments: str, ends: int = 0) -> str:
    """The picture of a command that is run in a folder with these files: what it says, and what it complains of."""
    said = io.StringIO()
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(WIDTH)}
    heard = contextlib.redirect_stdout(said), contextlib.redirect_stderr(said)
    with _folder(files), mock.patch.dict(os.environ, terminal | {"KUBECONFIG": "kubeconfig"}), heard[0], heard[1]:
        assert main(arguments) == ends, said.getvalue()
    title = f"kubectl slm {shlex.join(arguments)}"
    return screen(title, Text.from_ansi("\n".join(line.rstrip() for line in said.getvalue().splitlines())))


def asked(*arguments: str) -> str:
    """The same of a command that asks a cluster."""
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        with contextlib.contextmanager(serve)(ApiServer(answers=served_cluster()), kubeconfig):
            return ran({"kubeconfig": kubeconfig.read_text()}, *arguments)


def report(files: Mapping[str, str], *arguments: str, width: int, height: int) -> str:
    """The upper part of the page that `report` writes, as a picture: the page's own body in a frame of that size."""
    with _folder(files), contextlib.redirect_stdout(io.StringIO()):
        main(("report", *arguments))
        page = Path("report.html").read_text(encoding="utf-8")
    (style,), (body,) = (re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("style", "body"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>kubectl slm report</title><style>{style}</style>"
        f'<foreignObject width="{width}" height="{height}"><body xmlns="http://www.w3.org/1999/xhtml">{body}</body>'
        "</foreignObject></svg>\n"
    )


@contextlib.contextmanager
def _folder(files: Mapping[str, str]) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, text in files.items():
            Path(name).write_text(text)
        yield


SCREENS: dict[str, Callable[[], str]] = {
    "advise.svg": lambda: ran(PUBLISHED, "advise", *SWEEP),
    "report.svg": lambda: report(PUBLISHED, *SWEEP, width=1100, height=990),
    "plan.svg": lambda: ran(ESTIMATE, "plan", "-f", "chat.yaml", "--config", "config.json", "--gpu", "NVIDIA-L4"),
    "plan-refused.svg": lambda: ran({"chat.yaml": MISTAKEN}, "plan", "-f", "chat.yaml", ends=2),
    "explain.svg": lambda: asked("explain", "chat"),
    "watch.svg": lambda: asked("watch", "--once"),
    "check.svg": lambda: screen("kubectl slm check", check.table(preflight(TROUBLED))),
    "top.svg": lambda: screen("kubectl slm top", top.table("team", ROWS)),
    "profile-list.svg": lambda: screen("kubectl slm profile list", profile_list.table(KEPT)),
    "profile-diff.svg": lambda: screen(
        "kubectl slm profile diff before after", profile_diff.view("before", "after", DIFFERENCES)
    ),
    "history.svg": lambda: screen("kubectl slm history chat", history.table(HISTORY)),
}
"""File name to what draws it."""
