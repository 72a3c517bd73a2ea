# Images of Isthmus: one build, one target for each image. Only what the classic builder understands.
#
#   docker build --target ems -t isthmus-ems .
#   docker build --target envoy -t isthmus-envoy .
#   docker build --target schema-update -t isthmus-schema-update .

# The manifests, and empty crates in place of ours: changes only with the list of dependencies, and so do the layers that
# are made from it.
FROM debian:bookworm-slim AS skeleton
WORKDIR /src
COPY . .
RUN mkdir /skeleton && cp Cargo.lock /skeleton/ && find . -name Cargo.toml -exec cp --parents {} /skeleton/ \; && \
    cd /skeleton && for manifest in */Cargo.toml */*/Cargo.toml; do \
        crate=$(dirname "$manifest") && mkdir "$crate/src" && echo '//! Empty.' > "$crate/src/lib.rs" && \
        echo 'fn main() {}' > "$crate/src/main.rs" || exit 1; \
    done


FROM rust:1.95-slim-bookworm AS build
ENV CARGO_TARGET_DIR=/target
RUN rustup target add wasm32-wasip1

# What others wrote, compiled once.
WORKDIR /skeleton
COPY --from=skeleton /skeleton .
RUN cargo build --locked --release --package ems --package schema-update && \
    cargo build --locked --profile wasm --target wasm32-wasip1 --package isthmus-filter

# What is ours. Cargo goes by time stamps, and those of a checkout may be older than the empty crates.
WORKDIR /src
COPY . .
RUN find . -name '*.rs' -exec touch {} + && \
    cargo build --locked --release --package ems --package schema-update && \
    cargo build --locked --profile wasm --target wasm32-wasip1 --package isthmus-filter && \
    mkdir /out && cp /target/release/ems /target/release/schema-database /target/release/schema-updater \
        /target/wasm32-wasip1/wasm/isthmus_filter.wasm /out/


FROM debian:bookworm-slim AS ems
RUN useradd --system --uid 10001 --user-group ems && mkdir /var/lib/ems /bootstrap /exchange && \
    chown ems:ems /var/lib/ems /bootstrap /exchange
COPY docker/answers docker/prepare-region /usr/local/bin/
COPY --from=build /out/ems /usr/local/bin/
USER ems
WORKDIR /var/lib/ems
VOLUME /var/lib/ems
EXPOSE 18000 18080
# Inside a container nobody else reaches loopback; who reaches these ports is a matter of the container's network.
ENV EMS_XDS_ADDRESS=0.0.0.0:18000 EMS_HTTP_ADDRESS=0.0.0.0:18080 EMS_DATA_DIR=/var/lib/ems
ENTRYPOINT ["ems"]
CMD ["serve"]


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
