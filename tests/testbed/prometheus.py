"""A real Prometheus on loopback, filled with series.

    with prometheus(series) as server:
        server.range("sum(rate(x_total[1m]))", start, end, step_s=15)

Exists because a query is right when a Prometheus answers it with data, and not when it reads well. The programs are
Debian's, unpacked into the cache: nothing is installed, and no service starts. Assumes apt, for the first use only.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cluster import tail
from .component import answers_ok, wait_until
from .debian import download
from .ending import ended_in_order
from .gotools import cache_dir, one_at_a_time
from .ports import free_ports

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

RECORDING = Path(__file__).parents[1] / "data" / "metrics" / "recorded.jsonl.gz"
"""Of a real operator and real engines; benchmarks/dashboards/recording.py makes it anew."""
NO_FILES: Mapping[str, str] = {}
FOR_EVER = "100y"  # NB: the samples may be old, and would be thrown away after the usual 15 days


@dataclass(frozen=True, slots=True)
class Series:
    """One time series: its labels, and samples of (Unix seconds, value)."""

    labels: dict[str, str]
    samples: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, answered: dict[str, Any]) -> Series:
        """From one entry of a matrix, as Prometheus writes it."""
        return cls(answered["metric"], tuple((float(at), float(value)) for at, value in answered["values"]))


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server that answers queries."""

    url: str

    def alerts(self) -> dict[str, str]:
        """Alerts that are there, and the state of each: pending, or firing."""
        with urllib.request.urlopen(f"{self.url}/api/v1/alerts", timeout=30) as answer:
            return {one["labels"]["alertname"]: one["state"] for one in json.load(answer)["data"]["alerts"]}

    def range(self, query: str, start: float, end: float, step_s: float) -> list[Series]:
        """What a graph of the query shows. ValueError says what Prometheus has against it."""
        asked = urllib.parse.urlencode({"query": query, "start": start, "end": end, "step": step_s})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query_range?{asked}", timeout=30) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(f"{query}: {json.load(error)['error']}") from error
        return [Series.of(one) for one in said["data"]["result"]]


def program(name: str) -> Path:
    """The path of `prometheus` or `promtool`, fetched from the Debian mirror when the cache lacks it."""
    folder = cache_dir() / "prometheus"
    with one_at_a_time("prometheus"):
        if not folder.is_dir():
            _unpack(folder)
    return folder / "usr" / "bin" / name


def _unpack(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".prometheus-") as staging:
        package = download("prometheus", Path(staging))
        _run("dpkg-deb", "--extract", package, "unpacked", cwd=staging)
        Path(staging, "unpacked").rename(folder)  # whole or not at all


def read_recording(path: Path) -> list[Series]:
    """What `write_recording` wrote."""
    with gzip.open(path, "rt") as lines:
        return [Series.of(json.loads(line)) for line in lines]


def write_recording(path: Path, recorded: Iterable[Series]) -> None:
    """A series a line, as Prometheus answers it."""
    ordered = sorted(recorded, key=lambda series: sorted(series.labels.items()))
    lines = (json.dumps({"metric": one.labels, "values": one.samples}) + "\n" for one in ordered)
    path.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


@contextlib.contextmanager
def prometheus(series: Iterable[Series] = (), files: Mapping[str, str] = NO_FILES) -> Iterator[Prometheus]:
    """Lend a server that holds these series. Without a `prometheus.yml` among the files it scrapes nothing."""
    with ended_in_order(), tempfile.TemporaryDirectory(prefix="slm-prometheus-") as made:
        folder = Path(made)
        for name, text in ({"prometheus.yml": ""} | dict(files)).items():
            (folder / name).write_text(text)
        if held := tuple(series):
            (folder / "series.om").write_text(_openmetrics(held))
            _run(program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "series.om", "data", cwd=folder)
        (port,) = free_ports(1)
        command = [
            *("setpriv", "--pdeathsig", "KILL"),  # it must not outlive a test run that is killed
            *(program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
            *(f"--storage.tsdb.retention.time={FOR_EVER}", f"--web.listen-address=127.0.0.1:{port}"),
        ]
        log = folder / "prometheus.log"
        with log.open("wb") as said, subprocess.Popen(command, cwd=folder, stdout=said, stderr=said) as server:
            try:
                url = f"http://127.0.0.1:{port}"
                wait_until(lambda: server.poll() is not None or answers_ok(f"{url}/-/ready"), "Prometheus")
                if server.poll() is not None:
                    raise RuntimeError(f"Prometheus ended before it was ready; its log ends:\n{tail(log)}")
                yield Prometheus(url)
            finally:
                server.terminate()


def _openmetrics(series: Iterable[Series]) -> str:
    lines = [f"{_written(one.labels)} {value} {at}" for one in series for at, value in one.samples]
    return "\n".join([*lines, "# EOF", ""])


def _written(labels: dict[str, str]) -> str:
    inside = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items() if name != "__name__")
    return f"{labels['__name__']}{{{inside}}}"


def _run(*command: str | os.PathLike[str], cwd: str | Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed: {(done.stderr or done.stdout)[-2000:]}")
