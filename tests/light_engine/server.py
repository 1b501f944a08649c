"""The light engine's HTTP: OpenAI's completions and chat, and what a cluster asks of an engine."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

from .arguments import Settings, Shape
from .exposition import exposition
from .scheduler import BLOCK_TOKENS, Scheduler, Sequence

GUARDED = ("/v1", "/v2", "/inference", "/cohere")
"""Where vLLM asks for a key, if it has one: not at /metrics, /health, /version and /tokenize (its AuthenticationMiddleware)."""
DEAD = "EngineCore encountered an issue. See stack trace for the root cause."


class RequestRefusedError(Exception):
    """A request that gets an error instead of tokens."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """One engine process's HTTP side."""

    def __init__(self, args: argparse.Namespace, settings: Settings, shape: Shape, kv_pool_bytes: int) -> None:
        self.args = args
        self.settings = settings
        self.max_model_len = args.max_model_len or shape.max_model_len
        self.name = args.served_model_name[0]
        blocks = kv_pool_bytes // (shape.kv_bytes_per_token * BLOCK_TOKENS)
        self.scheduler = Scheduler(settings, args.max_num_seqs, args.max_num_batched_tokens, blocks)
        self.cache_config = {
            "block_size": BLOCK_TOKENS,
            "cache_dtype": args.kv_cache_dtype,
            "gpu_memory_utilization": args.gpu_memory_utilization,
            "kv_cache_memory_bytes": args.kv_cache_memory_bytes,
            "kv_cache_size_tokens": blocks * BLOCK_TOKENS,
            "num_gpu_blocks": blocks,
        }
        self.draining = False
        self.is_compiled = False
        self.front_end_free = 0.0
        """When it has done what it has to do, by the monotonic clock."""

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self.authenticate])
        app.add_routes(
            [
                web.get("/health", self.health),
                web.get("/metrics", self.metrics),
                web.get("/version", self.version),
                web.get("/v1/models", self.models),
                web.post("/tokenize", self.tokenize),
                web.post("/v1/completions", self.completions),
                web.post("/v1/chat/completions", self.completions),
            ]
        )
        return app

    @web.middleware
    async def authenticate(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = [f"Bearer {key}" for key in self.args.api_key]
        if given and request.path.startswith(GUARDED) and request.headers.get("Authorization") not in given:
            return web.json_response({"error": "Unauthorized"}, status=401)
        return await handler(request)

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(status=503 if self.scheduler.dead else 200)

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": self.settings.version})

    async def models(self, _: web.Request) -> web.Response:
        card = {"id": self.name, "object": "model", "owned_by": "vllm", "max_model_len": self.max_model_len}
        return web.json_response({"object": "list", "data": [card]})

    async def tokenize(self, request: web.Request) -> web.Response:
        tokens = list((await request.json())["prompt"].encode())
        return web.json_response({"count": len(tokens), "max_model_len": self.max_model_len, "tokens": tokens})

    async def metrics(self, _: web.Request) -> web.Response:
        if self.settings.fault == "no-metrics":
            return web.Response(status=404)
        prefix = "engine_" if self.settings.fault == "renamed-metrics" else "vllm:"
        return web.Response(text=exposition(self.scheduler, self.name, self.cache_config, prefix))

    async def completions(self, request: web.Request) -> web.StreamResponse:
        chat = request.path.startswith("/v1/chat")
        try:
            body = await self._body(request)
            sequence = self._sequence(body)
        except RequestRefusedError as refused:
            error = {"message": str(refused), "type": "BadRequestError", "code": refused.status}
            return web.json_response({"error": error}, status=refused.status)
        if not self.is_compiled:
            await asyncio.sleep(self.settings.first_seconds)
            self.is_compiled = True
        self.scheduler.add(sequence)
        try:
            if body.get("stream"):
                options = body.get("stream_options")
                with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
                return await self._stream(request, sequence, chat=chat, with_usage=with_usage)
            await sequence.finished
            return web.json_response(self._answer(sequence, chat=chat))
        finally:
            self.scheduler.abort(sequence)

    async def _body(self, request: web.Request) -> dict[str, object]:
        if self.settings.fault == "answers-errors" or self.scheduler.dead:
            raise RequestRefusedError(500, DEAD)
        if self.draining:
            raise RequestRefusedError(503, "The server is shutting down")
        limit = self.args.max_num_queued_reqs
        # NB: vLLM counts running and waiting together, in spite of the flag's name.
        if limit is not None and len(self.scheduler.waiting) + len(self.scheduler.running) >= limit:
            raise RequestRefusedError(503, "The request queue is full")
        try:
            body = await request.json()
        except json.JSONDecodeError as error:
            raise RequestRefusedError(400, str(error)) from error
        if body.get("model", self.name) not in self.args.served_model_name:
            raise RequestRefusedError(404, f"The model `{body['model']}` does not exist.")
        return dict(body)

    def _sequence(self, body: dict[str, object]) -> Sequence:
        prompt = body.get("prompt")
        if prompt is None:
            prompt = "".join(str(message.get("content")) for message in body.get("messages", []))  # type: ignore[attr-defined]
        tokens: list[int] = list(prompt.encode() if isinstance(prompt, str) else prompt)  # type: ignore[call-overload]
        prompt_tokens = len(tokens)
        asked = body.get("max_tokens") or body.get("max_completion_tokens") or 16
        if prompt_tokens < 1 or prompt_tokens + int(str(asked)) > self.max_model_len:
            raise RequestRefusedError(
                400,
                f"This model's maximum context length is {self.max_model_len} tokens. However, you requested {asked} "
                f"output tokens and your prompt contains {prompt_tokens} input tokens.",
            )
        return Sequence(tokens, int(str(asked)))

    async def _stream(
        self, request: web.Request, sequence: Sequence, *, chat: bool, with_usage: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = self._head(chat=chat, chunk=True)
        said = {"delta": {"content": "x"}} if chat else {"text": "x"}
        # Made once: an event for each token is most of what this engine does.
        more, last = (
            _event(chunk | {"choices": [{"index": 0, **said, "logprobs": None, "finish_reason": reason}]})
            for reason in (None, "length")
        )
        while (number := await sequence.tokens.get()) is not None:
            number = await self._front_end(sequence, number)
            await response.write(last if number == sequence.max_tokens else more)
        if with_usage and not self.scheduler.dead:
            await response.write(_event(chunk | {"choices": [], "usage": _usage(sequence)}))
        if self.scheduler.dead:  # NB: as vLLM has it, the status of 200 was sent before
            error = {"error": {"message": DEAD, "type": "InternalServerError", "code": 500}}
            await response.write(_event(error))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _front_end(self, sequence: Sequence, number: int) -> int:
        """Wait for one's turn; the number of the last token that has come meanwhile, for vLLM sends all in one event."""
        if self.settings.event_ms:
            now = time.monotonic()
            self.front_end_free = max(now, self.front_end_free) + self.settings.event_ms / 1000
            await asyncio.sleep(self.front_end_free - now)
        while number < sequence.generated:
            number = sequence.tokens.get_nowait() or number
        return number

    def _answer(self, sequence: Sequence, *, chat: bool) -> dict[str, object]:
        text = "x" * sequence.generated
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": "length", **said}
        return self._head(chat=chat, chunk=False) | {"choices": [choice], "usage": _usage(sequence)}

    def _head(self, *, chat: bool, chunk: bool) -> dict[str, object]:
        """What begins every answer and every chunk; clients go by `object`, and vLLM gives completions one for both."""
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if chat else "text_completion"
        return {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self.name,
        }


def _usage(sequence: Sequence) -> dict[str, int]:
    return {
        "prompt_tokens": sequence.prompt_tokens,
        "completion_tokens": sequence.generated,
        "total_tokens": sequence.prompt_tokens + sequence.generated,
    }


def _event(content: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


async def serve(server: Server) -> None:
    """Serve until SIGTERM, then let running requests finish for --shutdown-timeout seconds, as vLLM does."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, (lambda: None) if server.settings.fault == "ignores-sigterm" else stop.set)
    await asyncio.sleep(server.settings.start_seconds)
    if server.settings.fault == "never-healthy":
        await stop.wait()
        return
    core = asyncio.create_task(server.scheduler.run())
    # NB: without handler_cancellation an abandoned request would go on generating.
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, server.args.host, server.args.port).start()
    sys.stdout.write("(APIServer pid=1) INFO:     Application startup complete.\n")
    sys.stdout.flush()
    await stop.wait()
    server.draining = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(server.args.shutdown_timeout):
            await server.scheduler.idle.wait()
    core.cancel()
    await runner.cleanup()
