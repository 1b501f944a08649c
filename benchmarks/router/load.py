"""What a router costs: processor time for a request and for an event of a stream, and time added to a request.

Requests come from wrk and are answered by an HAProxy that does nothing else, so that neither end is what is measured. A
stream's events come from a played engine. All candidates take turns, several rounds, and the best of each figure
counts: whatever else the machine does only adds to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.router.bed import PROMPT, STREAM, own_ports, pack, router_for, until
from benchmarks.router.candidates import running
from tests.testbed.debian import program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.router.bed import Pack
    from benchmarks.router.candidates import Candidate
    from benchmarks.router.played import Call

ENGINES, MOST_IN_FLIGHT = 4, 64
ROUNDS, SECONDS = 5, 3
CONNECTIONS = (1, 32)
"""One: what a request meets on an idle machine. Many: what a request costs."""
STREAMS, EVENTS, PACE_SECONDS = 8, 150, 0.02
_ANSWER = '{"id": "x", "object": "text_completion", "choices": [{"index": 0, "text": "y", "finish_reason": "stop"}]}'
_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[%s]]
done = function(summary, latency)
  io.write(string.format('{"requests": %%d, "p50_us": %%d, "p99_us": %%d, "failed": %%d}',
    summary.requests, latency:percentile(50), latency:percentile(99), summary.errors.status + summary.errors.connect +
    summary.errors.read + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one candidate."""

    p50_added_us: float
    p99_added_us: float
    """Against the same request without a router, one at a time."""
    cpu_us_per_request: float
    requests_per_second: float
    """With 32 at once, on two cores that wrk and the upstream share with it."""
    cpu_us_per_event: float
    memory_mib: float
    """Resident, at the end."""


async def costs(candidates: list[Candidate]) -> dict[str, Any]:
    """Every candidate's, and what the same load does without any."""
    async with _upstream() as engine_ports:
        runs: dict[tuple[str, int], list[dict[str, float]]] = {}
        for _ in range(ROUNDS):
            for connections in CONNECTIONS:
                direct = await _wrk(engine_ports[0], connections)
                runs.setdefault(("direct", connections), []).append(direct)
                for candidate in candidates:
                    runs.setdefault((candidate.name, connections), []).append(
                        await _through(candidate, engine_ports, connections)
                    )
    best = {key: _best(those) for key, those in runs.items()}
    idle, busy = CONNECTIONS
    bare = best["direct", idle]
    found = {}
    for candidate in candidates:
        one, many = best[candidate.name, idle], best[candidate.name, busy]
        found[candidate.name] = asdict(
            Cost(
                p50_added_us=one["p50_us"] - bare["p50_us"],
                p99_added_us=one["p99_us"] - bare["p99_us"],
                cpu_us_per_request=round(many["cpu_us_per_request"], 1),
                requests_per_second=round(many["requests"] / SECONDS),
                cpu_us_per_event=round(await _event(candidate), 1),
                memory_mib=round(many["memory_mib"], 1),
            )
        )
    direct = {name: bare[name] for name in ("p50_us", "p99_us")}
    return {"direct": direct | {"requests_per_second": round(best["direct", busy]["requests"] / SECONDS)}} | found


def _best(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: (max if name == "requests" else min)(run[name] for run in runs) for name in runs[0]}


@contextlib.asynccontextmanager
async def _upstream() -> AsyncIterator[list[int]]:
    """Ports on which every request is answered at once."""
    ports = own_ports(ENGINES)
    binds = "\n".join(f"    bind 127.0.0.1:{port}" for port in ports)
    text = f"""\
global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout client 60s
frontend answers
{binds}
    http-request return status 200 content-type application/json string '{_ANSWER}'
"""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "upstream.cfg"
        config.write_text(text)
        command = (await asyncio.to_thread(program, "haproxy"), "-q", "-db", "-f", str(config))
        process = await asyncio.create_subprocess_exec(*command)
        try:
            await until(lambda: _listens(ports[0]))
            yield ports
        finally:
            process.kill()
            await process.wait()


async def _through(candidate: Candidate, engine_ports: list[int], connections: int) -> dict[str, float]:
    router = router_for(engine_ports, MOST_IN_FLIGHT)
    async with running(candidate, router) as process:
        await until(lambda: _listens(router.port))
        await _wrk(router.port, connections, seconds=1)
        before = cpu_us(process.pid)
        found = await _wrk(router.port, connections)
        used = (cpu_us(process.pid) - before) / found["requests"]
        return found | {"cpu_us_per_request": used, "memory_mib": memory_mib(process.pid)}


async def _wrk(port: int, connections: int, seconds: int = SECONDS) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_SCRIPT % PROMPT.decode())
        load = ("-t", "1", "-c", str(connections), "-d", f"{seconds}s", "-s", str(script))
        process = await asyncio.create_subprocess_exec(
            await asyncio.to_thread(program, "wrk"),
            *load,
            f"http://127.0.0.1:{port}/v1/completions",
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
    found: dict[str, float] = json.loads(said.decode().splitlines()[-1])
    if found.pop("failed") or not found["requests"]:
        raise RuntimeError(f"wrk had failures on port {port}: {said.decode()}")
    return found


async def _event(candidate: Candidate) -> float:
    """Processor time for one event of a stream, in µs."""
    async with pack(candidate) as made:
        tasks = [asyncio.create_task(_read(made)) for _ in range(STREAMS)]
        for engine in made.engines:
            engine.holds = True
        await until(lambda: sum(made.in_flight) == STREAMS)
        calls = [call for engine in made.engines for call in engine.open]
        for call in calls:
            await call.send(b"data: begins\n\n")
        before = cpu_us(made.process.pid)
        await asyncio.gather(*(_write(call) for call in calls))
        await asyncio.gather(*tasks)
        return (cpu_us(made.process.pid) - before) / (STREAMS * EVENTS)


async def _write(call: Call) -> None:
    for number in range(EVENTS):
        await call.send(b'data: {"id": "x", "choices": [{"index": 0, "text": "token %d"}]}\n\n' % number)
        await asyncio.sleep(PACE_SECONDS)
    await call.end()


async def _read(made: Pack) -> None:
    content = {"Content-Type": "application/json"}
    async with made.http.post(f"{made.url}/v1/completions", data=STREAM, headers=content) as answer:
        await answer.read()


def _listens(port: int) -> bool:
    wanted = f":{port:04X} 00000000:0000 0A"
    return any(wanted in line for line in Path("/proc/net/tcp").read_text().splitlines())


def cpu_us(pid: int) -> float:
    """Processor time of all threads of a process so far."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1000


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
