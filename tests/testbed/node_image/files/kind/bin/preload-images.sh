#!/bin/bash
# Imports the image archive on stdin into this image's containerd, while the node image is made.
# Not unpacked: /var/lib/containerd lies on an overlay here, where no layer can be unpacked;
# the node does that on first use, on a volume.
set -o errexit -o nounset -o pipefail

containerd --log-level error >&2 &
for _ in {1..100}; do
  ctr version >/dev/null 2>&1 && break
  sleep 0.1
done
ctr --namespace=k8s.io images import --no-unpack --digests -
kill %1
wait %1 || true
# Sockets and locks of this containerd; the node's own starts on a clean /run anyway.
rm -rf /run/containerd
