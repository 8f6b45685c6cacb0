#!/bin/sh
# Puts Apache Flink's jars into FOLDER/lib, unless they are there; they come from the Python package
# `apache-flink-libraries`. pip must be on the PATH.
# usage: tools/flink-libs.sh FOLDER
set -eu
libs=$1
mkdir -p "$libs"
if ! ls "$libs"/lib/flink-dist-*.jar >/dev/null 2>&1; then
    pip download --quiet --no-deps --dest "$libs" 'apache-flink-libraries==2.2.*'
    (cd "$libs" && unzip -q -o -j apache_flink_libraries-*.whl 'pyflink/lib/*.jar' -d lib && rm apache_flink_libraries-*.whl)
fi
cat > "$libs/log4j2.properties" <<'PROPERTIES'
rootLogger.level = OFF
PROPERTIES
