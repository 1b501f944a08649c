    def _made(self, kind: str, key: Key, body: Raw, request: Request) -> Raw:
        one: Made | None = self.world.made(kind).get(key)
        if request.content_type != APPLY:
            return self._scale(one, key, body)
        _valid(body)
        changed = self._create(kind, key, body) if one is None else self._apply(kind, one, body, request.params or {})
        self.writes += changed
        return self.world.made(kind)[key].meta()  # type: ignore[no-any-return]

    def _create(self, kind: str, key: Key, manifest: Raw) -> bool:
        uid = f"uid-{kind}-{key.name}-{self.world.version()}"
        one = CLASSES.get(kind, Made)(key=key, uid=uid, manifest=manifest)
        if isinstance(one, Job | Profile):
            one.created = self.world.stamp()
        if isinstance(one, Workload):
            _read_template(one)
        self.world.made(kind)[key] = one
        self.world.made_changed(kind, one)
        if isinstance(one, Job):
            one.question = self.promises.question(one)
            self.controllers.measures(one)
        return True

    def _apply(self, kind: str, one: Made, manifest: Raw, params: Mapping[str, str]) -> bool:
        """Whether it changed anything."""
        owners = {of["uid"] for of in manifest["metadata"].get("ownerReferences") or () if of.get("controller")}
        if one.owners - owners and owners:
            self.world.meets(Situation.NAME_TAKEN)
            raise RefusedError(422, f"{one.key}: Only one reference can have Controller set to true")
        if one.others.keys() & manifest["spec"].keys() and params["force"] != "true":
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
            _read_template(one)
        self.world.made_changed(kind, one)
        return True

    def _scale(self, one: Made | None, key: Key, patch: Raw) -> Raw:
        """The number of a Deployment's replicas, if nobody wrote since. NB: whoever patches a field takes it from who applied it."""
        if not isinstance(one, Workload):
            raise RefusedError(404, f"{key} not found")
        self._precondition(patch["metadata"], one.version)
        self.promises.of_scale(one, patch["spec"]["replicas"])
        one.replicas, one.generation = patch["spec"]["replicas"], one.generation + 1
        one.others = {"replicas": one.replicas}
        self.writes += 1
        self.world.made_changed("Deployment", one)
        return one.meta()


#####
def _read_template(one: Workload) -> None:
    """What the Deployment controller takes from it."""
    spec = one.manifest["spec"]
    limits = one.body["containers"][0]["resources"]["limits"]
    one.replicas = spec["replicas"]
    one.requests = {name: int(count) for name, count in limits.items() if "nvidia" in name}
    one.template = json.dumps(spec["template"], sort_keys=True)


def _valid(manifest: Raw) -> None:
    meta = manifest["metadata"]
    if manifest["kind"] == "Service" and _DNS_LABEL.fullmatch(meta["name"]) is None:
        raise RefusedError(422, f"metadata.name: {meta['name']} is no DNS label")
    _valid_labels(meta.get("labels") or {})
    if manifest["spec"].get("replicas", 0) < 0 or manifest["spec"].get("maxUnavailable", 0) < 0:
        raise RefusedError(422, "spec: must be greater than or equal to 0")


def _valid_labels(labels: Mapping[str, str | None]) -> None:
    bad = [value for value in labels.values() if value is not None and _VALUE.fullmatch(value) is None]
    if bad:
        raise RefusedError(422, f"metadata.labels: invalid value {bad[0]!r}")


