# An image of the worker without Nix: Debian with git, ssh and bubblewrap. It is not the reproducible image, and has no agent:
# docs/nix.md builds images with the tools of a project, and a Dockerfile can begin with `FROM descartes-worker`.
#
#     docker build --tag descartes-worker .
ARG RUST_IMAGE=rust:1-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --features otel

FROM ${BASE_IMAGE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap ca-certificates curl git git-lfs openssh-client procps \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --user-group --create-home --shell /bin/bash worker
COPY --from=build /src/target/release/descartes-worker /usr/local/bin/
USER 1000:1000
WORKDIR /home/worker
ENTRYPOINT ["descartes-worker"]
