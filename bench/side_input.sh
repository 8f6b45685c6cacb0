#!/bin/sh
# Writes what q13 looks up: a text for each number that MOD(auction, 10000) can be.
# usage: bench/side_input.sh FOLDER
set -eu
mkdir -p "$1/side_input"
seq 0 9999 | sed 's/.*/&,side-&/' >"$1/side_input/side_input.csv"
