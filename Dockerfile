# One image holds `payments` (the API, and the sandbox gateway by a command) and `idempotency-verify`.
#
# All tags name the same Debian release, so the program runs with the libraries that it was built with. To get exactly the same
# base images next year, write a digest after the tag (rust:1-bookworm@sha256:..). `docker buildx imagetools inspect
# rust:1-bookworm` shows the digest. Let a bot renew the digest, because a fixed digest gets no security updates.

# The manifests, and empty sources. Dependencies are built again only if a Cargo.toml or Cargo.lock changes.
FROM rust:1-bookworm AS manifests
WORKDIR /app
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY parts parts
COPY tools tools
RUN find crates parts tools -type f ! -name Cargo.toml -delete && find crates parts tools -type d -empty -delete && \
    find . -name Cargo.toml -execdir sh -c 'mkdir -p src && touch src/lib.rs' ';' && \
    for program in . tools/verify; do echo 'fn main() {}' >"$program/src/main.rs"; done

# BuildKit compares what a stage copies. This stage has only the manifests, so a change of a source does not end the cache.
FROM scratch AS only-manifests
COPY --from=manifests /app /app

# The program. Beside Rust, the build needs libpq's headers, and the base image has them.
FROM rust:1-bookworm AS build
WORKDIR /app
COPY --from=only-manifests /app ./
# Nobody debugs in the image. A panic names file and line also without symbols.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
# `--build-arg FEATURES=otel` exports traces (docs/operations.md).
ARG FEATURES=
RUN cargo build --release --locked -p idempotent-payments -p idempotency-verify --bins --features "$FEATURES"
COPY migrations migrations
COPY crates crates
COPY parts parts
COPY tools tools
COPY src src
# COPY keeps the time of each file's last change, and that time is before the build of the empty sources. Without `touch`, cargo
# would build nothing.
RUN find src crates parts tools -name '*.rs' -exec touch {} + && \
    cargo build --release --locked -p idempotent-payments -p idempotency-verify --bins --features "$FEATURES"

FROM debian:bookworm-slim AS runtime
# Without a version: Debian keeps only the newest version of a package, so a fixed version would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libpq5 && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY deploy/healthy /usr/local/bin/
COPY --from=build /app/target/release/payments /app/target/release/idempotency-verify /usr/local/bin/
# Nobody outside the container can reach its loopback address. The published ports decide who reaches the program.
ENV BIND=0.0.0.0:8080
EXPOSE 8080
# A number, so that Kubernetes sees that the user is not root. The number is higher than the ids that hosts give to people and
# services, so that the user owns nothing on the host.
USER 10001:10001
# The program is process 1, without a shell. It handles SIGTERM itself, and waits for the child processes that the demo's page starts.
ENTRYPOINT ["payments"]
CMD ["serve"]

# The tests, with PostgreSQL's programs: the tests make their own cluster. They are below the stage of the program: a builder
# without BuildKit builds every stage above the wanted one, and the program does not need this stage.
FROM rust:1-bookworm AS tests
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && apt-get clean && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=only-manifests /app ./
RUN cargo test --locked --no-run --lib
COPY . .
RUN find src crates parts tools -name '*.rs' -exec touch {} + && cargo test --locked --no-run
# The tests run as root and start the cluster as `postgres`. The container is thrown away after the tests.
CMD ["cargo", "test", "--locked"]

# `docker build .` builds the last stage.
FROM runtime
