"""The light engine in other clothes: other flags, paths, metrics and last words, as an engine that is no vLLM has.

python -m other_engine --weights DIR --bind 127.0.0.1:8000      (with tests/ on PYTHONPATH)

Exists so that the port to engines has a second user. Must share no word with vLLM that the port does not share.
"""

import argparse
import asyncio
import json
import sys

from aiohttp import web
from light_engine.arguments import Settings, Shape, parse, settings
from light_engine.exposition import exposition
from light_engine.server import Server, serve

NAMES = {
    "num_requests_running": "active",
    "num_requests_waiting": "queued",
    "kv_cache_usage_perc": "cache_used",
    "num_preemptions_total": "evictions",
    "prompt_tokens_total": "read_tokens",
    "generation_tokens_total": "written_tokens",
    "request_success_total": "done",
    "inter_token_latency_seconds": "gap",
    "time_to_first_token_seconds": "first",
    "request_queue_time_seconds": "wait",
}
LIGHT_FLAGS = {
    "weights": "model", "alias": "served-model-name", "lanes": "max-num-seqs", "step_tokens": "max-num-batched-tokens",
    "cache_bytes": "kv-cache-memory-bytes", "longest": "max-model-len", "precision": "dtype",
    "refuse_above": "max-num-queued-reqs", "linger": "shutdown-timeout",
}  # fmt: skip


class OtherServer(Server):
    """The same engine behind other doors."""

    def app(self) -> web.Application:
        app = web.Application()
        routes = (("live", self.health), ("stats", self.metrics), ("about", self.version), ("loaded", self.models))
        app.add_routes([web.get(f"/{path}", handler) for path, handler in routes])
        app.add_routes([web.post("/count", self.tokenize), web.post("/v1/completions", self.completions)])
        return app

    async def metrics(self, _: web.Request) -> web.Response:
        if self.scheduler.dead:
            return web.Response(status=500)
        page = exposition(self.scheduler, self.name, {}, prefix="other_")
        for light, own in NAMES.items():
            page = page.replace(f"other_{light}", f"other_{own}")
        tokens, pool = self.cache_config["kv_cache_size_tokens"], self.args.kv_cache_memory_bytes
        return web.Response(text=f"{page}other_cache_tokens {tokens}\nother_cache_bytes {pool}\n")

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"engine": {"release": "9.1"}})

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [{"longest": self.max_model_len}]})

    async def tokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"tokens": len((await request.json())["text"].encode())})


def main() -> int:
    """Run the engine. Exit status 3 when it cannot start."""
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for name in (*LIGHT_FLAGS, "bind", "claim", "tag"):
        parser.add_argument(f"--{name.replace('_', '-')}")
    for name in ("quiet", "stream", "own-code"):
        parser.add_argument(f"--{name}", action="store_true")
    own = settings()
    try:
        args, unknown = parser.parse_known_args()
        if unknown:
            return _fatal(f"bad option {unknown[0]}")
        return _run(args, own)
    except (OSError, ValueError, KeyError) as error:
        return _fatal(f"bad model {error}")


def _run(args: argparse.Namespace, own: Settings) -> int:
    host, _, port = args.bind.rpartition(":")
    given = {light: getattr(args, name) for name, light in LIGHT_FLAGS.items() if getattr(args, name) is not None}
    light = parse(["--host", host, "--port", port, *(w for k, v in given.items() for w in (f"--{k}", v))])
    shape = Shape.of(light.model, light.dtype)
    if own.fault == "die-at-start":
        return _fatal(f"no room for {own.weights_bytes} bytes")
    peak = 64 * 2**20
    pool = light.kv_cache_memory_bytes or int(own.device_bytes * float(args.claim or 0.8)) - own.weights_bytes - peak
    light.kv_cache_memory_bytes = pool
    sys.stdout.write("memory " + json.dumps({"weights": own.weights_bytes, "peak": peak}) + "\n")
    sys.stdout.flush()
    asyncio.run(serve(OtherServer(light, own, shape, pool)))
    return 0


def _fatal(said: str) -> int:
    sys.stdout.write(f"FATAL {said}\nstopped\n")
    return 3


if __name__ == "__main__":
    sys.exit(main())
