"""Server-side apply as the operator meets it: field owners, controllers, what cannot be changed; and the scale of a Deployment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.watch.records import Key

from .made import Job, Made, Profile, Workload
from .refusing import RefusedError, check_manifest, check_version
from .situations import Situation

if TYPE_CHECKING:
    from .controllers import Controllers
    from .objects import Raw
    from .promises import Promises
    from .world import World

CLASSES: dict[str, type[Made]] = {"Deployment": Workload, "Job": Job, names.PROFILE_KIND: Profile}


@dataclass(slots=True)
class Applying:
    """What is written as a whole. Each answers whether anything changed."""

    world: World
    controllers: Controllers
    promises: Promises

    def apply(self, kind: str, key: Key, manifest: Raw, *, force: bool) -> bool:
        """A manifest of the operator's."""
        check_manifest(manifest)
        one: Made | None = self.world.made(kind).get(key)
        if one is None:
            self._create(kind, key, manifest)
            return True
        return self._change(kind, one, manifest, force=force)

    def _create(self, kind: str, key: Key, manifest: Raw) -> None:
        uid = f"uid-{kind}-{key.name}-{self.world.version()}"
        one = CLASSES.get(kind, Made)(key=key, uid=uid, manifest=manifest)
        if isinstance(one, Job | Profile):
            one.created = self.world.stamp()
        if isinstance(one, Workload):
            self._read_template(one)
        self.world.made(kind)[key] = one
        self.world.made_changed(kind, one)
        if isinstance(one, Job):
            one.question = self.promises.question(one)
            self.controllers.measures(one)

    def _change(self, kind: str, one: Made, manifest: Raw, *, force: bool) -> bool:
        owners = {of["uid"] for of in manifest["metadata"].get("ownerReferences") or () if of.get("controller")}
        if one.owners - owners and owners:
            self.world.meets(Situation.NAME_TAKEN)
            raise RefusedError(422, f"{one.key}: Only one reference can have Controller set to true")
        if one.others.keys() & manifest["spec"].keys() and not force:
            self.world.meets(Situation.NAME_OF_ANOTHER)
            raise RefusedError(409, f"{one.key}: conflict with {', '.join(one.others)}")
        self.promises.of_others(one)
        if one.manifest == manifest and not one.others:
            return False
        if kind == "Job" and one.manifest["spec"]["template"] != manifest["spec"]["template"]:
            raise RefusedError(422, f"{one.key}: spec.template: field is immutable")
        if isinstance(one, Workload):
            if one.manifest["spec"]["selector"] != manifest["spec"]["selector"]:
                raise RefusedError(422, f"{one.key}: spec.selector: field is immutable")
            self.promises.of_roll(one, manifest)
        if one.manifest["spec"] != manifest["spec"] or one.others:
            one.generation += 1
        one.manifest, one.others = manifest, {}
        if isinstance(one, Workload):
            self._read_template(one)
        self.world.made_changed(kind, one)
        return True

    def _read_template(self, one: Workload) -> None:
        """What the Deployment controller takes from it, and which GPUs its profile speaks of."""
        spec = one.manifest["spec"]
        limits = one.body["containers"][0]["resources"]["limits"]
        one.replicas = spec["replicas"]
        one.requests = {name: int(count) for name, count in limits.items() if "nvidia" in name}
        one.template = json.dumps(spec["template"], sort_keys=True)
        profile = one.manifest["metadata"]["annotations"][names.PROFILE_LABEL]
        one.measured_on = self.world.measured_on(Key(one.key.namespace, profile)) or one.measured_on

    def scale(self, key: Key, patch: Raw) -> bool:
        """The number of a Deployment's replicas, if nobody wrote since. NB: whoever patches a field takes it from who applied it."""
        one = self.world.workloads.get(key)
        if one is None:
            raise RefusedError(404, f"{key} not found")
        check_version(patch["metadata"], one.version)
        self.promises.of_scale(one, patch["spec"]["replicas"])
        one.replicas, one.generation = patch["spec"]["replicas"], one.generation + 1
        one.others = {"replicas": one.replicas}
        self.world.made_changed("Deployment", one)
        return True
