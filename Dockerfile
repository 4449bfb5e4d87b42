# One file, two ways to build the same image; docs/image.md says more. It needs BuildKit, which Docker has by default.
#
# With registries and the network, from a base pinned by digest:
#     docker build .
# Without: from Debian packages and from the parts that `make image` has made, PARTS=given and `--network=none`.
# Every layer on top of the base is the same folder in both, and in what `make image` writes.

# Debian 12's Python 3.11 and no shell. Another base needs the same Python at the same place.
ARG BASE_IMAGE=gcr.io/distroless/python3-debian12:nonroot@sha256:b34be7bbfb23377f7600f53c7110df970fdd50d2e57aad7091e45056f7907eaf
ARG BUILD_IMAGE=golang:1.26-bookworm@sha256:2a0ba12e116687098780d3ce700f9ce3cb340783779646aafbabed748fa6677c
# Which of the two stages below the parts come from.
ARG PARTS=made

FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS made
# The digest above pins Debian's release; these only build.
# hadolint ignore=DL3008
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends binutils gcc libc6-dev make python3 python3-pip \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG TARGETARCH
# A path in the build context, below build/obi; a word of any kind.
ARG WITH_OBI=
ARG WITH_ANALYSIS=
RUN python3 image/build.py --parts --output /parts --platform "${TARGETARCH}" \
      ${WITH_OBI:+--with-obi "${WITH_OBI}"} ${WITH_ANALYSIS:+--with-analysis} \
 && mv "/parts/parts/linux-${TARGETARCH}" /made

FROM scratch AS made-parts
COPY --from=made /made/ /

FROM scratch AS given-parts
ARG TARGETARCH
COPY build/image/parts/linux-${TARGETARCH}/ /

FROM ${PARTS}-parts AS parts

FROM ${BASE_IMAGE}
# A base may bring the library's sources alone, and nothing can be written when the image runs.
USER 0:0
RUN ["/usr/bin/python3.11", "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "/usr/lib/python3.11"]
COPY --from=parts /filters/ /
COPY --from=parts /kubectl/ /
COPY --from=parts /helm/ /
COPY --from=parts /python/ /
COPY --from=parts /analysis/ /
COPY --from=parts /obi/ /
COPY --from=parts /server/ /

ENV PATH=/usr/local/bin:/usr/bin \
    HOME=/tmp \
    TMPDIR=/tmp \
    HELM_CACHE_HOME=/tmp/.helm/cache \
    HELM_CONFIG_HOME=/tmp/.helm/config \
    HELM_DATA_HOME=/tmp/.helm/data \
    KUBECACHEDIR=/tmp/.kube/cache \
    KUBECONFIG=/kube/config \
    LANG=C.UTF-8 \
    OBI_MCP_CONTAINER=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    XDG_CACHE_HOME=/var/cache \
    XDG_CONFIG_HOME=/etc \
    XDG_RUNTIME_DIR=/tmp

ARG VERSION=0.1.0
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="obi-mcp" \
      org.opencontainers.image.description="MCP server that runs OBI through kubectl, helm and obi, behind a policy" \
      org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND GPL-3.0-or-later AND LGPL-2.1-or-later AND MIT AND MPL-2.0 AND PSF-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

USER 65532:65532
WORKDIR /
ENTRYPOINT ["/usr/local/bin/obi-mcp"]
CMD ["serve"]
