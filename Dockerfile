# The image contains only a static binary and CA certificates. `make image` builds the last stage without a registry;
# `docker buildx build .` builds all stages. src/docs/releasing.md describes what is pinned and how to compare a build.

# Each architecture is built natively. The digest is that of the multi-architecture index.
FROM docker.io/library/rust:1.95.0-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build
# Modification time of the files in the image, in seconds since 1970: that of the commit.
ARG SOURCE_DATE_EPOCH=0
WORKDIR /forgebind
COPY . .
RUN SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" .ci/image root /out

FROM scratch
COPY --from=build /out/ /
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=https://github.com/forgebind/forgebind
LABEL org.opencontainers.image.title="Forgebind" \
      org.opencontainers.image.description="Keeps Git connections alive: credentials, webhooks and deliveries as one chain" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.documentation="${SOURCE}#readme" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Numeric, because Kubernetes cannot verify runAsNonRoot for a user name.
USER 65532:65532
# 8080: deliveries. 9090: livez, readyz, metrics and evidence.
EXPOSE 8080 9090
ENTRYPOINT ["/forgebind"]
