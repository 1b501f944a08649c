"""The counters of an engine, read off its metrics page as from somebody who means harm.

One reader for both who look: the operator, which asks the pod itself, and `kubectl slm top`, which asks through the API
server's proxy with its user's credentials. Whoever made the image chooses what comes back, so the page is bounded in
bytes and in time, never unpacked, never decoded by a name that it brings, and never a way to somewhere else. Must never
raise anything but NoMetrics: no page is a reason to stop looking at the others.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import aiohttp
from slm_core.failure import ProfileError
from slm_core.histograms import read_histogram
from slm_core.pack_pod import READY_METRIC

from slm_operator.kube.connection import Redirected, refuse_redirect
from slm_operator.kube.errors import ApiError, Forbidden, error_of
from slm_operator.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from slm_core.counters import Counters
    from slm_core.engines.base import Engine
    from slm_core.histograms import Histogram

T = TypeVar("T")
_SERVING = re.compile(rf"^{READY_METRIC}(?:\{{[^}}\n]*\}})? ([01])$", re.MULTILINE)
_OF_ENGINE = re.compile(r'^[^#\s{]+\{engine="(\d{1,3})".*$', re.MULTILINE)
"""NB: the supervisor puts that label first (slm_runtime.serve.exposition)."""
MOST_BYTES = 2 << 20
"""A real engine's page is about 0.2 MiB, and a pack's page is of all its engines."""
TIMEOUT_SECONDS = 5.0
"""How long one engine is waited for: it must not keep the look at the others waiting."""


class NoMetrics(Exception):  # noqa: N818 - named for what it says
    """An engine whose counters are not known, and why. `forbidden`: RBAC does not allow to ask."""

    def __init__(self, because: str, *, forbidden: bool = False) -> None:
        super().__init__(because)
        self.because = visible(because)
        self.forbidden = forbidden


async def engine_counters(session: aiohttp.ClientSession, url: str, engine: Engine) -> Counters:
    """The counters on an engine's page at a URL. Raises NoMetrics and nothing else."""
    return await _read(session, url, engine.read_counters)


async def _read(session: aiohttp.ClientSession, url: str, read: Callable[[str], T]) -> T:
    try:
        # NB: no await between decoding and counting: of many pages read at once, one at a time is a text.
        return read((await _page(session, url)).decode("utf-8", "replace"))
    except NoMetrics:
        raise
    except TimeoutError:
        raise NoMetrics(f"no answer within {TIMEOUT_SECONDS:g} s") from None
    except ApiError as error:
        raise NoMetrics(error.message, forbidden=isinstance(error, Forbidden)) from error
    except (ProfileError, Redirected) as error:
        raise NoMetrics(str(error)) from error
    except Exception as error:
        raise NoMetrics(f"{type(error).__name__}: {error}") from error


class PodPage(NamedTuple):
    """What a pod's page tells."""

    counters: Counters
    serving: int | None = None
    """Engines that serve, where the page is that of a pack."""
    histograms: Mapping[str, Histogram] = {}
    """Of latencies, by key of the SLO metric; those that were asked for and that it shows."""
    engines: Mapping[str, Counters] = {}
    """Of a pack's page, the counters of each engine on it that tells all of them, by its index."""


async def pod_page(url: str, engine: Engine, histograms: Iterable[str] = ()) -> PodPage:
    """The page of a pod, without credentials, on a connection of its own: once a minute is too seldom to keep one.

    `histograms`: keys of those SLO metrics of which one is needed. NB: each costs as much as all counters together.
    """
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        return await _read(session, url, lambda text: _pod_page(text, engine, histograms))


def _pod_page(page: str, engine: Engine, histograms: Iterable[str]) -> PodPage:
    named = {key: engine.histograms[key] for key in histograms if key in engine.histograms}
    shown = {key: read_histogram(page, name) for key, name in named.items()}
    found = {key: one for key, one in shown.items() if one is not None}
    serving = _serving(page)
    return PodPage(engine.read_counters(page), serving, found, _each(page, engine) if serving is not None else {})


def _each(page: str, engine: Engine) -> dict[str, Counters]:
    lines: dict[str, list[str]] = {}
    for line in _OF_ENGINE.finditer(page):
        lines.setdefault(line[1], []).append(line[0])
    found = {}
    for index, own in lines.items():
        with contextlib.suppress(ProfileError):  # it starts, or ends: it tells less than all
            found[index] = engine.read_counters("\n".join(own))
    return found


def _serving(page: str) -> int | None:
    shown = _SERVING.findall(page)
    return shown.count("1") if shown else None


async def _page(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(
        url,
        allow_redirects=False,
        auto_decompress=False,  # 150 KB of gzip are 150 MB of page
        headers={"Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
    ) as answer:
        refuse_redirect(answer)
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise NoMetrics("the engine answers with a compressed page, which is not unpacked")
        page = bytearray()
        async for piece in answer.content.iter_any():
            page += piece
            if len(page) > MOST_BYTES:
                raise NoMetrics(f"the engine's page is larger than {MOST_BYTES >> 20} MiB")
        if answer.status != 200:
            raise error_of(answer.status, page.decode("utf-8", "replace"))
        return bytes(page)
