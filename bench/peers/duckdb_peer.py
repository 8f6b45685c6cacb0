#!/usr/bin/env python3
"""Runs the batch form of one Nexmark query in DuckDB and prints one line of JSON: what it cost and what it found.

usage: duckdb_peer.py QUERY DATA [THREADS]

Every output column goes into a digest, as in tidemill's blackhole sink, so that no column is left uncomputed. The CPU
seconds and page faults are those of the query: starting Python and loading DuckDB is left out.
"""

import json
import resource
import sys
import time

import batch


def main():
    query, data = sys.argv[1:3]
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    db = batch.connect(data, threads)
    sql = batch.QUERIES[query]
    columns = ", ".join(f'"{c[0]}"' for c in db.execute(f"DESCRIBE {sql}").fetchall())
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    rows, digest = db.execute(f"SELECT count(*), bit_xor(hash({columns})) FROM ({sql})").fetchone()
    after, ended = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    print(json.dumps({
        "rows": rows,
        "digest": f"{digest or 0:016x}",
        "wall_seconds": ended - started,
        "user_seconds": after.ru_utime - before.ru_utime,
        "system_seconds": after.ru_stime - before.ru_stime,
        "page_faults": after.ru_minflt - before.ru_minflt,
        "peak_bytes": after.ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    main()
