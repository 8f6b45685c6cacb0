#!/bin/sh
# Writes Nexmark events as NDJSON files for bench/nexmark/tables.sql.
# usage: bench/generate.sh TIDEMILL FOLDER EVENTS
set -eu
nexmark=$(dirname "$0")/nexmark
mkdir -p "$2"
pipeline=$(mktemp --suffix=.sql)
trap 'rm -f "$pipeline"' EXIT
sed -e "s#\${DATA}#$2#" -e "s#\${EVENTS}#$3#" "$nexmark/generator.sql" "$nexmark/generate.sql" >"$pipeline"
"$1" run "$pipeline"
