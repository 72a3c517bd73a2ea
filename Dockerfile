# Images of Isthmus: one build, one target per image. Only what the classic builder understands, so that it also builds
# with older engines.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
RUN rustup target add wasm32-wasip1
