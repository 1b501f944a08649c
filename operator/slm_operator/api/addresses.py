"""Where models, datasets and images are: the form of their addresses, and what to write instead of a wrong one.

One row for each scheme, so that who is refused reads about the scheme that was meant. Sources: huggingface_hub,
utils/_validators.py (repo ids); the naming rules of S3 buckets; distribution/reference (images, and the tags and digests
in them). Must never resolve an address: whether something is there shows when it is fetched.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slm_operator.api.base import SUBDOMAIN, Form, cel

_HUB_NAME = r"\w([\w.-]{0,94}\w)?"
_HUB = (
    "a model of the Hugging Face hub is hf://org/name: letters, digits, '-', '_' and '.', the name 96 at most; "
    "a revision goes into spec.model.revision, not into the address"
)
_HOST = r"[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?"
_REGISTRY = rf"({_HOST}(\.{_HOST})*|\[[0-9a-fA-F:]+\])(:[0-9]+)?"
_STEP = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"\w[\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*([-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
REFERENCE = rf"({_REGISTRY}/)?{_STEP}(/{_STEP})*(:{_TAG})?(@{_DIGEST})?"
"""An image, as container runtimes name it."""

ModelAddress = Annotated[
    str,
    Field(max_length=1024),
    Form(
        r"(hf|pvc|s3|oci)://.*|/\S+",
        "a model is hf://org/name, pvc://claim/path, s3://bucket/path, oci://registry/image, or an absolute path "
        "in the engine image",
    ),
    Form(rf"hf://({_HUB_NAME}/)?{_HUB_NAME}", _HUB, only="hf://"),
    Form(
        r".*(--|\.\.).*|.*\.git",
        "no name on the Hugging Face hub has '--' or '..' in it, or ends with '.git': a model there is hf://org/name",
        only="hf://",
        refused=True,
    ),
    Form(
        rf"pvc://{SUBDOMAIN}(/.*)?",
        "a model on a volume is pvc://claim/path, and the name of a PersistentVolumeClaim is lower-case letters, digits, '-' and '.'",
        only="pvc://",
    ),
    Form(
        r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?",
        "a model in a bucket is s3://bucket/path, and the name of a bucket is 3 to 63 lower-case letters, digits, '-' and '.'; "
        "keys go into the Secret that spec.model.credentialsSecretRef names",
        only="s3://",
    ),
    Form(
        rf"oci://{REFERENCE}(#.*)?",
        "a model in an image is oci://registry/image, with :tag or @sha256:digest, and #path for a folder in it",
        only="oci://",
    ),
]
DatasetAddress = Annotated[
    str,
    Field(max_length=1024),
    Form(
        rf"pvc://{SUBDOMAIN}/.+|/\S+",
        "a dataset is pvc://claim/path, or an absolute path in the engine image; the name of a claim is lower-case letters, "
        "digits, '-' and '.'",
    ),
]
ImageReference = Annotated[
    str,
    Field(max_length=512),
    Form(
        REFERENCE,
        "an image is registry/name:tag or registry/name@sha256:digest, the name in lower case and without blanks",
    ),
]
ONE_REVISION = cel(
    "!has(self.revision) || !self.uri.startsWith('oci://') || !self.uri.matches('^oci://[^#]*@') && "
    "(self.revision.contains(':') || !self.uri.matches('^oci://[^#]*:[^/#]*(#|$)'))",
    "the address names a tag or digest, and spec.model.revision another: remove one of them",
    field=".revision",
)
"""Of a model: an image is asked for by one tag and one digest. A tag in the address and a digest as revision go together."""
