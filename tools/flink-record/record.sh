#!/bin/sh
# Records what Apache Flink answers to the cases in `cases/`, as JSON lines in `tests/flink/`.
#
# Flink's jars come from the Python package `apache-flink-libraries`; Java 17 and pip must be on the PATH. The jars are
# kept in $FLINK_LIBS (default: `target/flink`) so that a second run downloads nothing.
# Usage: tools/flink-record/record.sh [FAMILY..]      FAMILY is the name of a file in `cases/`, without `.txt`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
libs=${FLINK_LIBS:-$root/target/flink}
"$here/../flink-libs.sh" "$libs"
javac -nowarn -cp "$libs/lib/*" -d "$libs/classes" "$here/Record.java"
exec java -Xmx1500m -XX:+UseSerialGC -Duser.timezone=UTC \
    -Dlog4j.configurationFile="$libs/log4j2.properties" -cp "$libs/lib/*:$libs/classes" \
    --add-opens java.base/java.lang=ALL-UNNAMED --add-opens java.base/java.util=ALL-UNNAMED \
    Record "$here" "$root/tests/flink" "$@"
