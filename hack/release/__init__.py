"""`make release`: everything that a release is, built into dist/release, signed, and pushed to a registry.

    parameters -> facts -> preconditions -> build (once a commit) -> plan -> execute

    artefacts      the table of what is released, and under which names
    preconditions  why nothing may be released now; pure
    plan           what the registry still lacks, tags last; pure
    oci            an OCI image layout on disk, in which all that is pushed has its digest before it is pushed
    images, charts, files   what is put into it
    registry       oras and cosign, which push and sign

A push that broke off is gone on with by the same command: what arrived is not sent again. A version's tags are set when
all else is there and signed, so half a release has none. A tag that names other bytes is never moved.
"""
