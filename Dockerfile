# The image: one static binary and the public authorities, nothing else. `make image` builds its last stage without a
# registry; `docker buildx build .` builds all of it. src/docs/releasing.md says what is pinned and how to compare a build.

# Every architecture is built on a machine of its own. The digest is that of the index of all of them.
FROM docker.io/library/rust:1.95.0-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build
# Seconds since 1970 that the files of the image carry: those of the commit.
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
# A number: Kubernetes cannot tell by a name whether it is root.
USER 65532:65532
# Deliveries, and livez, readyz and metrics.
EXPOSE 8080 9090
ENTRYPOINT ["/forgebind"]
