# One image for the API and for the sandbox gateway: it is one program, and the compose file says which of its commands runs.
#
# Tags name the Debian release, so that the program runs with the libraries that it was built with. To have the very same
# bases next year, write a digest after the tag (rust:1-bookworm@sha256:..), as `docker buildx imagetools inspect
# rust:1-bookworm` shows it, and let a bot renew it: a digest gets no security updates by itself.

# What dependencies are resolved from, with sources that are empty. Only a change of these two files builds them again.
FROM rust:1-bookworm AS manifests
WORKDIR /app
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' >src/main.rs && touch src/lib.rs

# The program. The image above has libpq's headers, which is all that is needed beside Rust.
FROM manifests AS build
# Nobody debugs in the image. Messages name file and line without symbols, too.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
# `--build-arg FEATURES=otel` exports traces (docs/operations.md).
ARG FEATURES=
RUN cargo build --release --locked --bin payments --features "$FEATURES"
COPY migrations migrations
COPY src src
# Sources keep the time of their last change, which is before the empty ones were built: cargo would see nothing to do.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin payments --features "$FEATURES"

FROM debian:bookworm-slim AS runtime
# No version: Debian keeps only the newest of a release, so one that is written here would soon not be found.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libpq5 && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY deploy/healthy /usr/local/bin/
COPY --from=build /app/target/release/payments /usr/local/bin/
# In a container, loopback is reached by nobody. What may reach it from outside is up to the ports that are published.
ENV BIND=0.0.0.0:8080
EXPOSE 8080
# A number, so that Kubernetes can tell that it isn't root; above those that systems give to people and services, so that it
# owns nothing on the host.
USER 10001:10001
# As process 1, without a shell before it: it handles SIGTERM itself, and has no children that somebody had to wait for.
ENTRYPOINT ["payments"]
CMD ["serve"]

# The tests, with PostgreSQL's programs, from which they make their own cluster. Below the program, for builders without
# BuildKit make every stage above the one that is asked for.
FROM rust:1-bookworm AS tests
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && apt-get clean && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=manifests /app ./
RUN cargo test --locked --no-run --lib
COPY . .
RUN touch src/main.rs src/lib.rs && cargo test --locked --no-run
# As root, who runs the cluster as `postgres`: a machine for tests is thrown away.
CMD ["cargo", "test", "--locked"]

# The last stage is what `docker build .` makes.
FROM runtime
