"""The verbs this operator uses, each one request: read, apply, patch, delete, evict, log.

Every write names our field manager or carries a precondition, so that what others wrote is never lost unseen. Errors
are those of `errors`. Must never retry by itself: the queue does, with the whole decision made anew.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from slm_operator.decoding import decode
from slm_operator.kube.errors import NotFound, error_of
from slm_operator.kube.resources import POD, Resource, ResourceTable
from slm_operator.kube.transport import JSON, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slm_operator.kube.rate import TokenBucket
    from slm_operator.kube.transport import Transport

Object = dict[str, Any]
Propagation = Literal["Background", "Foreground", "Orphan"]

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML

_NOT_RAW = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
"""What YAML takes as an escape only; halves of characters, which nothing takes, become the sign for what cannot be read."""


def encoded(body: Object) -> bytes:
    """A body as JSON that is YAML too.

    NB: the API server reads an apply as YAML, which knows no pairs of escapes for the signs beyond the first plane: written as JSON
    writes them, an emoji in anybody's text had the whole object refused.
    """
    text = json.dumps(body, ensure_ascii=False)
    return _NOT_RAW.sub(_escaped, text).encode()


def _escaped(sign: re.Match[str]) -> str:
    code = ord(sign[0])
    return f"\\u{0xFFFD if 0xD800 <= code <= 0xDFFF else code:04x}"


class NotLeading(Exception):  # noqa: N818 - a state, not a fault
    """A write was about to be sent by a process that does not hold the Lease (any more)."""


@dataclass(slots=True)
class Client:
    """Requests to one API server by `transport`. `may_write` is asked before every write; `count` gets the verb and plural of each request."""

    transport: Transport
    resources: ResourceTable
    field_manager: str
    limit: TokenBucket | None = None
    may_write: Callable[[], bool] = field(default=lambda: True)
    count: Callable[[str, str], None] = field(default=lambda _verb, _plural: None)
    take: Callable[[Any], Any] = field(default=lambda answer: answer)
    """What every object that comes is made into first."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """One object."""
        return await self._object("GET", resource.path(namespace, name), ("get", resource.plural))

    async def list(self, resource: Resource, namespace: str = "", selector: str = "", fields: str = "") -> list[Object]:
        """All objects of a kind that both selectors take, in one page.

        For the command line, tests, and what must be known as it is now; the operator watches instead.
        """
        selectors = {"labelSelector": selector, "fieldSelector": fields}
        params = {name: value for name, value in selectors.items() if value}
        answer = await self._object("GET", resource.path(namespace), ("list", resource.plural), params=params)
        return list(answer.get("items") or ())

    async def served(self, api_version: str) -> set[str]:
        """Plurals of the kinds that the API server serves in a group and version; none when it does not know it."""
        try:
            answer = await self._object("GET", f"/apis/{api_version}", ("get", "apis"))
        except NotFound:
            return set()
        return {str(one["name"]) for one in answer.get("resources") or ()}

    async def page(self, path: str, params: Mapping[str, str] | None = None) -> str:
        """Any page of the API server as text: its version, its OpenAPI. Never of a pod: `engine_metrics` reads those."""
        return (await self._request("GET", path, ("get", "pages"), params=params)).decode("utf-8", "replace")

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """A new object. Raises Conflict when the name is taken."""
        return await self._write("POST", resource.path(namespace), ("create", resource.plural), JSON, body)

    async def replace(self, resource: Resource, namespace: str, body: Object) -> Object:
        """The whole object, if it is still at the resourceVersion in `body`."""
        path = resource.path(namespace, body["metadata"]["name"])
        return await self._write("PUT", path, ("update", resource.plural), JSON, body)

    async def apply(self, manifest: Object, *, force: bool, manager: str = "") -> Object:
        """Server-side apply of a whole object, or of all that another `manager` of ours owns of it.

        Without `force`, fields that others own raise Conflict.
        """
        return await self._apply(manifest, "", force=force, manager=manager)

    async def apply_status(self, manifest: Object) -> Object:
        """Server-side apply of the status subresource."""
        return await self._apply(manifest, "status", force=True)

    async def merge_patch(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        """JSON merge patch. Put a resourceVersion into its metadata to make it conditional."""
        path = resource.path(namespace, name)
        return await self._write("PATCH", path, ("patch", resource.plural), MERGE, patch)

    async def delete(  # noqa: PLR0913 - what a deletion is bound to
        self,
        resource: Resource,
        namespace: str,
        name: str,
        uid: str,
        propagation: Propagation = "Background",
        *,
        resource_version: str = "",
    ) -> None:
        """Delete the object with this uid, and, where given, only if it is still at `resource_version`.

        Raises NotFound when it is gone, Conflict when a namesake took its place or somebody wrote it meanwhile.
        """
        bound = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        body = {"preconditions": bound, "propagationPolicy": propagation}
        await self._write("DELETE", resource.path(namespace, name), ("delete", resource.plural), JSON, body)

    async def evict(self, namespace: str, name: str, uid: str) -> None:
        """Ask the eviction API. Raises Blocked when a PodDisruptionBudget does not allow it now."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        await self._write("POST", POD.path(namespace, name, "eviction"), ("create", "pods/eviction"), JSON, body)

    async def log(
        self, namespace: str, name: str, container: str, *, most_bytes: int, since: str | None = None
    ) -> bytes:
        """What a container has printed from a second on, each line behind its time. Raises Refused while it has not started."""
        path = POD.path(namespace, name, "log")
        params = {"container": container, "timestamps": "true", "limitBytes": str(most_bytes)}
        if since is not None:
            params["sinceTime"] = since
        return await self._request("GET", path, ("get", "pods/log"), params=params, most_bytes=most_bytes)

    async def _apply(self, manifest: Object, subresource: str, *, force: bool, manager: str = "") -> Object:
        resource = self.resources.find(manifest["apiVersion"], manifest["kind"])
        meta = manifest["metadata"]
        path = resource.path(meta.get("namespace", ""), meta["name"], subresource)
        params = {"fieldManager": manager or self.field_manager, "force": "true" if force else "false"}
        plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
        return await self._write("PATCH", path, ("apply", plural), APPLY, manifest, params)

    async def _write(  # noqa: PLR0913, PLR0917 - the parts of an HTTP request
        self,
        method: str,
        path: str,
        counted: tuple[str, str],
        content_type: str,
        body: Object,
        params: Mapping[str, str] | None = None,
    ) -> Object:
        if not self.may_write():
            raise NotLeading(path)
        params = ({} if method == "DELETE" else {"fieldManager": self.field_manager}) | dict(params or {})
        return await self._object(method, path, counted, params=params, body=body, content_type=content_type)

    async def _object(self, method: str, path: str, counted: tuple[str, str], **rest: Any) -> Object:
        answer: Object = self.take(decode(await self._request(method, path, counted, **rest)))
        return answer

    async def _request(  # noqa: PLR0913
        self,
        method: str,
        path: str,
        counted: tuple[str, str],
        *,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        most_bytes: int | None = None,
    ) -> bytes:
        """The answer's bytes. Raises what its status means."""
        if self.limit is not None:
            await self.limit.wait()
        if method != "GET" and not self.may_write():  # NB: the Lease may be lost while waiting for a token
            raise NotLeading(path)
        self.count(*counted)
        encoded_body = None if body is None else encoded(body)
        answer = await self.transport.send(
            Request(
                method=method,
                path=path,
                params=params,
                body=encoded_body,
                content_type=content_type,
                most_bytes=most_bytes,
            )
        )
        if answer.status >= 400:
            raise error_of(answer.status, answer.body.decode("utf-8", "replace"), answer.retry_after)
        return answer.body
