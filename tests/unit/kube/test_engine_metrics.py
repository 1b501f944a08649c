"""The reader of engines' pages, against real servers that answer what an image that means harm may answer."""

from __future__ import annotations

import tracemalloc

import pytest
from aiohttp import web
from slm_core.engines.registry import default
from slm_operator.kube import engine_metrics
from slm_operator.kube.engine_metrics import NoMetrics, engine_counters, pod_page
from unit.kube.web import TOKEN, connected, server

from tests.hostile_engine import MANY_BYTES, READ, REFUSED, says, without_end
from tests.hostile_engine import page as engine_page

pytestmark = pytest.mark.slow
ENGINE = default()
HELD_BYTES = 6 << 20
"""Most that reading one page may take: the page, its text, and the server of this very test."""


@pytest.mark.parametrize("harm", REFUSED)
async def test_unreadable_metrics_page_is_no_metrics(harm: str) -> None:
    async with server(REFUSED[harm]) as url:
        with pytest.raises(NoMetrics) as reported:
            await pod_page(f"{url}/metrics", ENGINE)
    assert reported.value.because


async def test_a_redirect_makes_the_operator_ask_nobody_else() -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=engine_page())

    async with server(elsewhere) as other, server(says("", 302, Location=f"{other}/latest/meta-data")) as url:
        with pytest.raises(NoMetrics, match="redirect"):
            await pod_page(url, ENGINE)
    assert asked == []


@pytest.mark.parametrize("harm", ["a gzip bomb", "a deflate bomb", "150 MiB"])
async def test_no_page_takes_more_memory_than_the_bound(harm: str) -> None:
    async with server(REFUSED[harm]) as url:
        tracemalloc.start()
        try:
            with pytest.raises(NoMetrics):
                await pod_page(url, ENGINE)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak_bytes < HELD_BYTES < MANY_BYTES


@pytest.mark.parametrize("codec", READ)
async def test_a_page_is_read_as_utf_8_whatever_codec_it_names(codec: str) -> None:
    async with server(READ[codec]) as url:
        assert (await pod_page(url, ENGINE)).counters.running == 3


async def test_metrics_page_of_2_mib_is_read_and_no_byte_more() -> None:
    good = engine_page()
    filling = engine_metrics.MOST_BYTES - len(good)
    async with server(says("#" * (filling - 1) + "\n" + good)) as url:
        assert (await pod_page(url, ENGINE)).counters.running == 3
    async with server(says("#" * filling + "\n" + good)) as url:
        with pytest.raises(NoMetrics, match="larger than 2 MiB"):
            await pod_page(url, ENGINE)


async def test_an_engine_that_never_ends_its_page_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_metrics, "TIMEOUT_SECONDS", 0.1)
    async with server(without_end) as url:
        with pytest.raises(NoMetrics, match=r"no answer within 0\.1 s"):
            await pod_page(url, ENGINE)


async def test_refused_connection_is_no_metrics() -> None:
    async with server(says("")) as url:
        pass
    with pytest.raises(NoMetrics, match="Connect"):
        await pod_page(url, ENGINE)


@pytest.mark.parametrize("harm", ["a redirect away", "a redirect to itself", "a gzip bomb", "an error nested deeply"])
async def test_metrics_through_the_api_servers_proxy_are_the_same(harm: str) -> None:
    async with server(REFUSED[harm]) as url, connected(url) as connection:
        with pytest.raises(NoMetrics):
            await engine_counters(connection.session(), url, ENGINE)


async def test_a_refusal_of_rbac_is_distinguished_from_others() -> None:
    body = '{"kind": "Status", "message": "User \\"u\\" cannot get resource \\"pods/proxy\\""}'
    async with server(says(body, 403)) as url, connected(url) as connection:
        with pytest.raises(NoMetrics, match="cannot get") as reported:
            await engine_counters(connection.session(), url, ENGINE)
    assert reported.value.forbidden
    assert TOKEN not in reported.value.because


PACK_OF_THREE = "".join(f'slm_pack_engine_ready{{engine="{index}"}} {ready}\n' for index, ready in enumerate((1, 0, 1)))


@pytest.mark.parametrize(("own", "serving"), [(PACK_OF_THREE, 2), ("", None)])
async def test_a_pack_s_page_tells_how_many_engines_serve(own: str, serving: int | None) -> None:
    async with server(says(engine_page() + own)) as url:
        assert (await pod_page(url, ENGINE)).serving == serving
