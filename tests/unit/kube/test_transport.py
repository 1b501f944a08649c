"""The client over a server that is a function: what is sent, what an answer means, and when nothing is sent."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from slm_operator.kube.client import Client, NotLeading
from slm_operator.kube.errors import ApiError, Blocked, Conflict, Forbidden, NotFound, Refused, Unavailable
from slm_operator.kube.resources import POD, ResourceTable
from slm_operator.kube.transport import Answer, Request


@dataclass
class Scripted:
    """A transport that answers always the same."""

    answer: Answer
    sent: list[Request] = field(default_factory=list)

    async def send(self, request: Request) -> Answer:
        self.sent.append(request)
        return self.answer


def client(status: int = 200, body: bytes = b"{}", **more: object) -> tuple[Client, Scripted]:
    scripted = Scripted(Answer(status=status, body=body, retry_after="7"))
    return Client(scripted, ResourceTable(), "me", **more), scripted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (400, "bad", Refused), (403, 'User "me" cannot get pods', Forbidden), (403, "exceeded quota", Refused),
        (404, "gone", NotFound), (409, "conflict", Conflict), (422, "invalid", Refused), (500, "oops", Unavailable),
        (429, "too many", Unavailable), (429, "would violate the pod's disruption budget", Blocked), (418, "tea", ApiError),
    ],
)  # fmt: skip
async def test_a_status_is_raised_as_what_it_means(status: int, message: str, error: type[ApiError]) -> None:
    asking, _ = client(status, message.encode())
    with pytest.raises(error) as raised:
        await asking.get(POD, "ns", "p")
    assert type(raised.value) is error
    assert (raised.value.status, raised.value.retry_after_seconds) == (status, 7.0)


async def test_every_write_names_its_field_manager() -> None:
    writing, scripted = client()
    await writing.create(POD, "ns", {"metadata": {"name": "p"}})
    await writing.merge_patch(POD, "ns", "p", {})
    await writing.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}}, force=True)
    assert [(one.method, (one.params or {}).get("fieldManager")) for one in scripted.sent] == [
        ("POST", "me"), ("PATCH", "me"), ("PATCH", "me"),
    ]  # fmt: skip


async def test_standby_sends_no_write_and_still_reads() -> None:
    standby, scripted = client(may_write=lambda: False)
    with pytest.raises(NotLeading):
        await standby.delete(POD, "ns", "p", "uid")
    assert scripted.sent == []
    await standby.get(POD, "ns", "p")
    assert [one.method for one in scripted.sent] == ["GET"]


async def test_deletion_names_the_uid() -> None:
    deleting, scripted = client()
    await deleting.delete(POD, "ns", "p", "uid-7")
    assert b'"preconditions": {"uid": "uid-7"}' in (scripted.sent[0].body or b"")


async def test_a_deletion_of_what_was_read_names_its_version() -> None:
    deleting, scripted = client()
    await deleting.delete(POD, "ns", "p", "uid-7", resource_version="42")
    assert b'"preconditions": {"uid": "uid-7", "resourceVersion": "42"}' in (scripted.sent[0].body or b"")


async def test_a_log_is_read_as_far_as_was_asked() -> None:
    reading, scripted = client(body=b"line")
    assert await reading.log("ns", "p", "engine", most_bytes=100, since="2026-01-01T00:00:00Z") == b"line"
    assert scripted.sent[0].most_bytes == 100
    assert (scripted.sent[0].params or {})["sinceTime"] == "2026-01-01T00:00:00Z"
