# Images of Isthmus: one build, one target for each image. Only what the classic builder understands.
#
#   docker build --target ems -t isthmus-ems .
#   docker build --target envoy -t isthmus-envoy .
#   docker build --target schema-update -t isthmus-schema-update .

# The manifests, and empty crates in place of ours: changes only with the list of dependencies, and so do the layers that
# are made from it.
FROM debian:bookworm-slim AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock -delete && find . -type d -empty -delete && \
    for manifest in $(find . -mindepth 2 -name Cargo.toml); do \
        crate=$(dirname "$manifest") && mkdir -p "$crate/src" && touch "$crate/src/lib.rs" && \
        echo 'fn main() {}' > "$crate/src/main.rs" || exit 1; \
    done


FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
RUN rustup target add wasm32-wasip1

# What others wrote, compiled once.
COPY --from=manifests /src .
RUN cargo build --locked --release --package ems --package schema-update && \
    cargo build --locked --profile wasm --target wasm32-wasip1 --package isthmus-filter && \
    find . -name src -not -path './target/*' -prune -exec rm -r {} +

# What is ours. Cargo goes by time stamps, and those of a checkout may be older than the empty crates.
COPY . .
RUN find . -name '*.rs' -not -path './target/*' -exec touch {} + && \
    cargo build --locked --release --package ems --package schema-update && \
    cargo build --locked --profile wasm --target wasm32-wasip1 --package isthmus-filter && \
    mkdir /out && mv target/release/ems target/release/schema-database target/release/schema-updater \
        target/wasm32-wasip1/wasm/isthmus_filter.wasm /out/


FROM debian:bookworm-slim AS ems
RUN useradd --system --uid 10001 --user-group ems && mkdir /var/lib/ems /bootstrap /exchange && \
    chown ems:ems /var/lib/ems /bootstrap /exchange
COPY docker/answers docker/prepare-region /usr/local/bin/
COPY --from=build /out/ems /usr/local/bin/
USER ems
WORKDIR /var/lib/ems
VOLUME /var/lib/ems
EXPOSE 18000 18080
# Inside a container loopback is nobody else's; the network of the region decides who reaches these ports.
ENTRYPOINT ["ems"]
CMD ["serve", "--xds-listen", "0.0.0.0:18000", "--api-listen", "0.0.0.0:18080", "--data-dir", "/var/lib/ems"]


FROM envoyproxy/envoy:v1.40.0 AS envoy
COPY docker/answers /usr/local/bin/
COPY --from=build /out/isthmus_filter.wasm /etc/isthmus/isthmus.wasm
USER envoy
ENTRYPOINT ["envoy"]
CMD ["--config-path", "/bootstrap/envoy.yaml"]


FROM debian:bookworm-slim AS schema-update
RUN useradd --system --uid 10001 --user-group example
COPY docker/answers /usr/local/bin/
COPY --from=build /out/schema-database /out/schema-updater /usr/local/bin/
COPY examples/schema-update/schema.sql /etc/schema-update/
USER example
CMD ["schema-database"]
