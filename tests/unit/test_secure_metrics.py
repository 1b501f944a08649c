"""/metrics by TLS: who is let in, and which certificate they see."""

from __future__ import annotations

import os
import ssl
import subprocess
from typing import TYPE_CHECKING

import aiohttp
import pytest
from slm_operator.metrics import Certificate, Guard, Metrics

from tests.testbed.ports import free_ports

if TYPE_CHECKING:
    from pathlib import Path


def certify(folder: Path, name: str) -> Path:
    """A key, and a certificate of it by itself."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run(command, check=True, capture_output=True)
    return folder


async def only_good(authorization: str, address: str) -> int:
    assert address == "127.0.0.1"
    return 200 if authorization == "Bearer good" else 401


async def scraped(port: int, trusted: Path, token: str) -> tuple[int, str]:
    """Status and body of a scrape, on a connection of its own, by somebody who trusts one certificate."""
    context = ssl.create_default_context(cafile=str(trusted / "tls.crt"))
    headers = {"Authorization": f"Bearer {token}"}
    connector = aiohttp.TCPConnector(ssl=context, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"https://127.0.0.1:{port}/metrics", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def test_metrics_are_for_whom_the_guard_lets_in(tmp_path: Path) -> None:
    guard = Guard(certificate=Certificate(certify(tmp_path, "first")), status_for=only_good)
    (port,) = free_ports(1)
    server = await Metrics().serve("127.0.0.1", port, guard)
    try:
        status, body = await scraped(port, tmp_path, "good")
        assert (status, "slm_operator_reconcile" in body) == (200, True)
        assert await scraped(port, tmp_path, "forged") == (401, "")
    finally:
        await server.cleanup()


async def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path: Path) -> None:
    mounted, second = tmp_path / "mounted", tmp_path / "second"
    mounted.mkdir()
    second.mkdir()
    certificate = Certificate(certify(mounted, "first"))
    (port,) = free_ports(1)
    server = await Metrics().serve("127.0.0.1", port, Guard(certificate=certificate, status_for=only_good))
    try:
        certify(second, "second")
        for name in ("tls.crt", "tls.key"):
            (mounted / name).write_bytes((second / name).read_bytes())
        os.utime(mounted / "tls.crt", (1, 1))
        certificate.renew()
        assert (await scraped(port, second, "good"))[0] == 200
        (mounted / "tls.crt").write_text("half")
        certificate.renew()
        assert (await scraped(port, second, "good"))[0] == 200
    finally:
        await server.cleanup()


def test_a_folder_without_a_certificate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"tls\.crt"):
        Certificate(tmp_path)
