# KEDA's operator and metrics server, where its own images have them.
FROM debian:bookworm-slim
COPY keda-operator /keda
COPY keda-adapter /keda-adapter
USER 65532:65532
