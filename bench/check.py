#!/usr/bin/env python3
"""Checks tidemill's answers to the Nexmark queries against DuckDB's batch answers, row by row.

The query's SELECT runs as a bare SELECT, whose final rows tidemill prints as NDJSON; q10 writes its files and they are
read back. Both answers are compared as multisets. q12 counts by processing time, so only its number of bids can be
checked.

usage: bench/check.py --data FOLDER [--tidemill BINARY] [--queries q0,q1] [--lanes 2]
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from compose import compose

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))
import batch  # noqa: E402


def bare_select(text):
    """The pipeline without its sink: the INSERT's SELECT alone."""
    text = re.sub(r"CREATE TABLE nexmark_q\d+ \(.*?;\n", "", text, flags=re.S)
    return re.sub(r"INSERT INTO nexmark_q\d+\n", "", text)


def run(options, pipeline, folder):
    """Runs a pipeline text and returns the file that holds what it printed."""
    sql, out = Path(folder) / "query.sql", Path(folder) / "answer.ndjson"
    sql.write_text(pipeline)
    with out.open("wb") as stdout:
        done = subprocess.run([options.tidemill, "run", sql, "--lanes", str(options.lanes), "-o", "ndjson"],
                              stdout=stdout, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode())
    return out


def answer_of(options, query, types, folder):
    """A DuckDB relation that reads tidemill's answer, with the columns and types of the batch answer."""
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
    if query == "q10":
        files = Path(folder) / "out"
        run(options, compose(query, DATA=options.data, OUT=files), folder)
        written = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items() if name not in ("dt", "hm"))
        return f"read_csv('{files}/**/*', header = false, columns = {{{written}}}, hive_partitioning = true, hive_types = {{'dt': 'VARCHAR', 'hm': 'VARCHAR'}})"
    out = run(options, bare_select(compose(query, DATA=options.data)), folder)
    return f"read_json('{out}', format = 'newline_delimited', columns = {{{columns}}})"


def differences(db, ours, theirs, names):
    """How many rows each side has that the other has not, and one of each to look at."""
    columns = ", ".join(f'"{name}"' for name in names)
    found = []
    for label, left, right in (("only tidemill", ours, theirs), ("only DuckDB", theirs, ours)):
        rows = db.execute(f"SELECT {columns} FROM {left} EXCEPT ALL SELECT {columns} FROM {right}").fetchall()
        if rows:
            found.append(f"{label}: {len(rows)} rows, such as {rows[0]}")
    return found


def check(options, query):
    """The differences between both answers, as lines of text; none when they agree."""
    db = batch.connect(options.data, options.lanes)
    with tempfile.TemporaryDirectory() as folder:
        if query == "q12":
            out = run(options, bare_select(compose(query, DATA=options.data)), folder)
            counted = db.execute(f"SELECT sum(bid_count) FROM read_json('{out}', format = 'newline_delimited')").fetchone()[0]
            bids = db.execute("SELECT count(*) FROM bid").fetchone()[0]
            return [] if counted == bids else [f"{counted} bids counted of {bids}"]
        db.execute(f"CREATE TABLE theirs AS {batch.QUERIES[query]}")
        types = {name: kind for name, kind, *_ in db.execute("DESCRIBE theirs").fetchall()}
        db.execute(f"CREATE TABLE ours AS SELECT * FROM {answer_of(options, query, types, folder)}")
        return differences(db, "ours", "theirs", types)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, help="folder with person, auction and bid (make nexmark-data)")
    parser.add_argument("--tidemill", default=HERE.parent / "target" / "release" / "tidemill")
    parser.add_argument("--queries", default=",".join([*batch.QUERIES, "q12"]), help="comma-separated")
    parser.add_argument("--lanes", type=int, default=2)
    options = parser.parse_args()
    wrong = 0
    for query in options.queries.split(","):
        try:
            found = check(options, query)
        except RuntimeError as error:
            found = [f"failed: {str(error).strip()}"]
        wrong += bool(found)
        print(f"{query}: {'equal' if not found else '; '.join(found)}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
