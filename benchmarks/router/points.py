"""What a router in front of a pack's engines has to do: one point, one function, which says what it saw.

A point that is not kept raises Missed, with what it saw instead.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.router.bed import (
    ENGINES,
    LIMIT_SECONDS,
    MOST_IN_FLIGHT,
    STEP_SECONDS,
    Missed,
    first_call,
    pack,
    read_event,
    streaming,
    until,
    until_answers,
    until_begun,
    until_listening,
    until_refuses,
    until_unused,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.router.bed import Pack
    from benchmarks.router.candidates import Candidate

ODD = b'{"model": "m",  "prompt": "x", "temperature": 1e0, "vllm_xargs": {"b": 1, "a": 2.50}}'
"""Valid, but whoever reads it and writes it again changes it: two blanks, an exponent, an order of fields, a last zero."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a point, for a table."""

    kept: bool
    saw: str


async def up_before_any_engine(made: Pack) -> str:
    """It answers before any engine does: 503 and when to come back, to requests and to probes."""
    try:
        await asyncio.wait_for(until_listening(made), STEP_SECONDS)
    except TimeoutError:
        raise Missed("takes no connection while no engine is ready") from None
    status, headers, _ = await made.ask()
    if status != 503 or "Retry-After" not in headers:
        raise Missed(f"answered {status}, Retry-After: {headers.get('Retry-After', 'none')}")
    async with made.http.get(made.url + "/health") as answer:
        if answer.status != 503:
            raise Missed(f"/health is {answer.status} without any engine")
    await made.engines[2].listen()
    await until_answers(made)
    return f"503, Retry-After: {headers['Retry-After']}; requests are answered once one engine of {ENGINES} is there"


async def fewest_in_flight(made: Pack) -> str:
    """A request goes to the engine with the fewest in flight."""
    await made.hold(2 * ENGINES)
    even = made.in_flight
    if set(even) != {2}:
        raise Missed(f"{2 * ENGINES} held requests lie {even}")
    for call in list(made.engines[1].open):
        call.answer()
    await until(lambda: not made.engines[1].open)
    await made.hold(2)
    if set(made.in_flight) != {2}:
        raise Missed(f"with engine 1 empty the next two made it {made.in_flight}")
    return f"{2 * ENGINES} held requests lie {even}; the next two go to the engine that has become free"


async def full_pack_refuses_at_once(made: Pack) -> str:
    """Where every engine is full a request is refused with Retry-After, none waits, and the pack is still ready."""
    most = ENGINES * MOST_IN_FLIGHT
    await made.hold(most)
    if made.in_flight != [MOST_IN_FLIGHT] * ENGINES:
        raise Missed(f"{most} held requests lie {made.in_flight}")
    try:
        status, headers, _ = await asyncio.wait_for(made.ask(), STEP_SECONDS)
    except TimeoutError:
        raise Missed(f"with all places taken a request waits; engines have {made.in_flight}") from None
    if status not in {429, 503} or "Retry-After" not in headers:
        raise Missed(f"with all places taken: {status}, Retry-After: {headers.get('Retry-After', 'none')}")
    async with made.http.get(made.url + "/health") as answer:
        if answer.status != 200:
            raise Missed(f"/health is {answer.status} while all places are taken")
    if made.begun != most:
        raise Missed(f"engines began {made.begun} requests, and have places for {most}")
    return f"request {most + 1}: {status}, Retry-After: {headers['Retry-After']}"


async def refused_request_is_sent_on(made: Pack) -> str:
    """Where an engine refuses the connection another has the request, and the client sees nothing of it."""
    gone = made.engines[:2]
    for engine in gone:
        await engine.refuse()
    answers = Counter(status for status, _, _ in await asyncio.gather(*(made.ask() for _ in range(2 * MOST_IN_FLIGHT))))
    if answers.keys() != {200}:
        raise Missed(f"two of {ENGINES} engines refuse: answers {dict(answers)}")
    return f"two of {ENGINES} engines refuse: {answers[200]} of {answers[200]} requests at once are answered"


async def begun_request_is_never_repeated(made: Pack) -> str:
    """Whatever comes of a request that an engine has begun: no other engine sees it."""
    for engine in made.engines:
        engine.holds = True
    died = made.asking()
    (await first_call(made)).die()
    try:
        cut = str((await asyncio.wait_for(died, STEP_SECONDS))[0])
    except TimeoutError:
        raise Missed(f"an engine died with the request, and {made.begun} engines have it") from None
    except aiohttp.ClientError:
        cut = "a cut connection"
    if made.begun != 1:
        raise Missed(f"an engine died with the request: begun {made.begun} times")
    for status in (500, 503):
        before, failed = made.begun, made.asking()
        (await first_call(made)).answer(aiohttp.web.Response(status=status))
        done, _ = await asyncio.wait([failed], timeout=STEP_SECONDS)
        if made.begun != before + 1 or not done or failed.result()[0] != status:
            raise Missed(f"an engine answered {status}: begun {made.begun - before} times")
    return f"an engine died with it: the client sees {cut}; 500 and 503 pass as they are; each begun once"


async def broken_stream_is_seen(made: Pack) -> str:
    """A stream whose engine dies ends as a broken one: not as an answer that was short, and not by another engine's."""
    async with streaming(made) as (call, answer):
        call.die()
        try:
            await answer.read()
        except aiohttp.ClientPayloadError:
            if made.begun == 1:
                return "the client's chunked answer breaks off; begun once"
        raise Missed(f"the client saw a whole answer, or another engine's; begun {made.begun} times")


async def streams_pass_unbuffered(made: Pack) -> str:
    """Each event is with the client before the engine sends the next one."""
    events = 50
    async with streaming(made) as (call, answer):
        for number in range(events):
            await call.send(b"data: %d\n\n" % number)
            await read_event(answer, b"%d" % number)
        await call.end()
        if rest := await answer.read():
            raise Missed(f"after the last event came {rest!r}")
        if not answer.headers["Content-Type"].startswith("text/event-stream"):
            raise Missed(f"the stream's type is {answer.headers['Content-Type']}")
    return f"{events} events in lockstep"


async def request_and_answer_pass_unchanged(made: Pack) -> str:
    """Keys, headers and bodies arrive as they were sent, both ways, 20 MiB as well; nothing is added to an answer."""
    keys = {
        "Authorization": "Bearer secret",
        "Traceparent": "00-1-2-01",
        "X_Request_Id": "mine",
        "X_Forwarded_For": "203.0.113.7",
    }
    status, headers, body = await made.ask(ODD, **keys)
    if status != 200:
        raise Missed(f"a request with fields of its own: {status} {body[:200]!r}")
    (call,) = [call for engine in made.engines for call in engine.begun]
    arrived = {name: call.request.headers.getall(name.replace("_", "-"), []) for name in keys}
    if changed := {name: arrived[name] for name, value in keys.items() if arrived[name] != [value]}:
        raise Missed(f"headers arrive as {str(changed)[:300]}")
    if call.body != ODD:
        raise Missed(f"the body is written anew: {call.body[:120]!r}")
    own = {"content-type", "content-length", "date", "server", "x-engine", "connection"}
    if added := {name.lower() for name in headers} - own:
        raise Missed(f"added to the answer: {', '.join(sorted(added))}")
    big = b'{"image": "' + b"x" * (20 * 2**20) + b'"}'
    status, _, _ = await made.ask(big)
    if status != 200 or not any(call.body == big for engine in made.engines for call in engine.begun):
        raise Missed(f"20 MiB: {status}")
    return "key, trace, request id, forwarded address, a cookie of 40 kB and odd JSON byte for byte; 20 MiB; no header more in the answer"


async def client_that_leaves_frees_its_engine(made: Pack) -> str:
    """An engine learns that the client of a request has gone, before it has answered anything."""
    for engine in made.engines:
        engine.holds = True
    asked = made.asking()
    call = await first_call(made)
    asked.cancel()
    try:
        await asyncio.wait_for(call.left.wait(), STEP_SECONDS)
    except TimeoutError:
        raise Missed("the engine goes on for a client that has left") from None
    return "the engine sees its connection closed"


async def engine_is_taken_out_without_loss(made: Pack) -> str:
    """An engine that drains gets no new request, though it is the emptiest; its stream goes on; then it comes back."""
    async with streaming(made) as (call, answer):
        leaving = next(at for at, engine in enumerate(made.engines) if engine.open)
        await made.set_out(leaving, out=True)
        await made.hold(2 * (ENGINES - 1))
        if made.in_flight[leaving] != 1:
            raise Missed(f"the draining engine {leaving} was given more: {made.in_flight}")
        await call.send(b"data: 1\n\n")
        await read_event(answer, b"1")
        await call.end()
        await answer.read()
    await made.set_out(leaving, out=False)
    await until_begun(made, leaving)
    return "its stream went on to its end, others took 6 requests of 6, and it was used again"


async def drained_pack_says_so(made: Pack) -> str:
    """With every engine taken out requests are refused with Retry-After, and the pack is not ready."""
    for index in range(ENGINES):
        await made.set_out(index, out=True)
    status, headers, _ = await made.ask()
    async with made.http.get(made.url + "/health") as answer:
        health = answer.status
    if (status, health) != (503, 503) or "Retry-After" not in headers or made.begun:
        raise Missed(f"answers {status}, Retry-After: {headers.get('Retry-After', 'none')}, /health {health}")
    return f"503, Retry-After: {headers['Retry-After']}; /health is 503"


async def sick_engine_is_left_out(made: Pack) -> str:
    """An engine that calls itself sick, or is gone, gets nothing until it is well again; nobody's request fails by it."""
    sick, gone = made.engines[0], made.engines[1]
    sick.healthy = False
    await gone.refuse()
    try:
        await asyncio.wait_for(until_unused(made, sick), 2 * STEP_SECONDS)
    except TimeoutError:
        raise Missed("an engine whose /health is 503 goes on being used") from None
    sick.healthy = True
    await gone.listen()
    await until_begun(made, 0)
    await until_begun(made, 1)
    return "left out while /health is 503, used again once it is 200; the same for one that had gone and came back"


ORDERS = (
    ("GET", "/list_workers"), ("POST", "/remove_worker?url=ENGINE"), ("POST", "/add_worker?url=http://127.0.0.1:9"),
    ("GET", "/workers"), ("DELETE", "/workers/ENGINE"), ("POST", "/flush_cache"), ("GET", "/get_loads"),
    ("GET", "/haproxy?stats"), ("GET", "/stats"), ("POST", "/admin?stats;up"), ("PUT", "/v1/config"),
)  # fmt: skip
"""What either candidate, or its relatives, could take for an order."""


async def no_orders_on_the_port_of_requests(made: Pack) -> str:
    """No request is an order: whatever path, an engine has it, and all engines are used afterwards."""
    engine = f"http://127.0.0.1:{made.router.engine_ports[0]}"
    kept = []
    for method, path in ORDERS:
        before = made.begun
        order = f"{method} {path.partition('?')[0]}"
        try:
            status = await asyncio.wait_for(made.order(method, path.replace("ENGINE", engine)), STEP_SECONDS)
        except TimeoutError:
            kept.append(f"{order} (still at it)")
            continue
        if made.begun == before and status < 400:
            kept.append(f"{order} {status}")
    unused = {engine.name for engine in made.engines}
    for _ in range(10 * ENGINES):
        before = {engine.name: len(engine.begun) for engine in made.engines}
        await made.ask()
        unused -= {engine.name for engine in made.engines if len(engine.begun) > before[engine.name]}
    if kept or unused:
        raise Missed(f"obeyed without a key: {', '.join(kept)}; engines without requests afterwards: {len(unused)}")
    return f"{len(ORDERS)} orders of either kind: all passed to engines as requests like others"


async def metrics_of_all_engines(made: Pack) -> str:
    """`/metrics` of the pod has every engine's with a label more; the router's own are on a port of their own."""
    async with made.http.get(f"{made.url}/metrics") as answer:
        page = await answer.text()
    if missing := [at for at in range(ENGINES) if f'engine="{at}"' not in page]:
        raise Missed(f"/metrics of the pod: {answer.status}, and nothing of engines {missing}")
    async with made.http.get(f"http://127.0.0.1:{made.router.metrics_port}/metrics") as answer:
        own = await answer.text()
    if answer.status != 200 or made.engines[0].name not in own:
        raise Missed(f"the router's own: {answer.status}")
    return f"{ENGINES} engines on one page (the supervisor's); the router's own {len(own.splitlines())} lines elsewhere"


async def ends_after_what_it_carries(made: Pack) -> str:
    """Told to end, it takes nothing new, carries an answer to its end, and ends by itself."""
    async with streaming(made) as (call, answer):
        made.process.send_signal(made.candidate.ends_on)
        await until_refuses(made)
        try:
            await call.send(b"data: 1\n\n")
            await read_event(answer, b"1")
        except (aiohttp.ClientError, asyncio.IncompleteReadError):
            raise Missed(f"{made.candidate.ends_on.name} cuts off the stream that it carries") from None
        await call.end()
        await answer.read()
    status = await made.process.wait()
    if status:
        raise Missed(f"ended with status {status}")
    return f"after {made.candidate.ends_on.name} a new connection is refused, the stream ends whole, exit status 0"


POINTS: dict[str, Callable[[Pack], Awaitable[str]]] = {
    point.__name__.replace("_", " "): point
    for point in (
        up_before_any_engine,
        fewest_in_flight,
        full_pack_refuses_at_once,
        refused_request_is_sent_on,
        begun_request_is_never_repeated,
        broken_stream_is_seen,
        streams_pass_unbuffered,
        request_and_answer_pass_unchanged,
        client_that_leaves_frees_its_engine,
        engine_is_taken_out_without_loss,
        drained_pack_says_so,
        sick_engine_is_left_out,
        no_orders_on_the_port_of_requests,
        metrics_of_all_engines,
        ends_after_what_it_carries,
    )
}
"""All of them, by what they are called in tables."""


async def judge(candidate: Candidate, name: str) -> str:
    """What was seen of a point that is kept; Missed says what instead."""
    point = POINTS[name]
    try:
        async with asyncio.timeout(LIMIT_SECONDS), pack(candidate, listening=point is not up_before_any_engine) as made:
            return await point(made)
    except TimeoutError:
        raise Missed(f"not within {LIMIT_SECONDS:.0f} s") from None


async def seen(candidate: Candidate, name: str) -> Seen:
    """What came of a point, whatever it is."""
    try:
        return Seen(kept=True, saw=await judge(candidate, name))
    except Missed as missed:
        return Seen(kept=False, saw=str(missed))
