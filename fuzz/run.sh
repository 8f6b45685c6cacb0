#!/bin/sh
# Runs each fuzz target for SECONDS (60): fuzz/run.sh [SECONDS]
set -eu
cd "$(dirname "$0")/.."
for target in boundary circuit http json line manifest pack protobuf ring segment sql table trie; do
    cargo run --release --locked --quiet -p tidemill-fuzz -- "$target" --seconds "${1:-60}"
done
