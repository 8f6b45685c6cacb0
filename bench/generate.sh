#!/bin/sh
# Writes Nexmark events as NDJSON files for bench/nexmark/tables.sql, and what q13 looks up.
# usage: bench/generate.sh TIDEMILL FOLDER EVENTS
set -eu
nexmark=$(dirname "$0")/nexmark
mkdir -p "$2"
pipeline=$(mktemp --suffix=.sql)
trap 'rm -f "$pipeline"' EXIT
sed -e "s#\${DATA}#$2#" -e "s#\${EVENTS}#$3#" "$nexmark/generator.sql" "$nexmark/generate.sql" >"$pipeline"
# One lane, because lanes write their rows one behind the other: the files must be in the order of event time.
"$1" run --lanes 1 "$pipeline"
"$(dirname "$0")/side_input.sh" "$2"
