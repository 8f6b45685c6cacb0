#!/usr/bin/env python3
"""Checks tidemill's answers to the Nexmark queries against DuckDB's batch answers, row by row.

A query writes its changes into files, on 1, 2 and 4 lanes, twice each. The changes are folded into the final table, which has
to be the batch answer; two runs on as many lanes have to write the same bytes. All that over the events in order, and
over the same events as they may arrive: up to four seconds of event time apart, which is what the watermark waits for.
Where rows are tied by what orders them (q9, q18, q19), the columns that have one answer are compared, and every row has to
be one of those that may win. q12 counts by processing time, so only the number of its bids can be checked.

usage: bench/check.py --data FOLDER [--tidemill BINARY] [--queries q0,q1] [--lanes 1,2,4] [--arrival ordered,shuffled]
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from compose import QUERIES, compose, refusal
from data import shuffled, with_side_input

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))
import batch  # noqa: E402

# No query takes as long over a million events.
SECONDS_MAX = 300


def run(options, query, data, lanes, folder):
    """Runs a query and returns the files that it wrote, in the order of their names."""
    pipeline, out = folder / "query.sql", folder / "out"
    sink = f"'connector' = 'filesystem', 'path' = '{out}', 'format' = 'debezium-json'"
    pipeline.write_text(compose(query, sink=sink, DATA=data, OUT=out))
    if why := refusal(options.tidemill, pipeline):
        raise RuntimeError(f"refused: {why}")
    done = subprocess.run([options.tidemill, "run", pipeline, "--lanes", str(lanes)], capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=SECONDS_MAX)
    if done.returncode != 0:
        raise RuntimeError(f"failed: {done.stderr.decode(errors='replace').strip()}")
    return sorted(path for path in out.rglob("*") if path.is_file())


def bytes_of(files, folder):
    """A digest of the names and bytes of files."""
    digest = hashlib.blake2b()
    for path in files:
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def log_of(query, files, types):
    """A relation of the rows that a run wrote and what each counts: 1, or -1 where it is taken back."""
    columns = ", ".join(f'"{name}"' for name in types)
    if not files:
        nothing = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in types.items())
        return f"(SELECT {nothing}, 1 AS weight WHERE false)"
    listed = "[" + ", ".join(f"'{path}'" for path in files) + "]"
    if query == "q10":
        written = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items() if name not in ("dt", "hm"))
        return (f"(SELECT {columns}, 1 AS weight FROM read_csv({listed}, header = false, columns = {{{written}}}, "
                f"hive_partitioning = true, hive_types = {{'dt': 'VARCHAR', 'hm': 'VARCHAR'}}))")
    row = "STRUCT(" + ", ".join(f'"{name}" {kind}' for name, kind in types.items()) + ")"
    log = f"read_json({listed}, format = 'newline_delimited', columns = {{'before': '{row}', 'after': '{row}'}})"
    sides = [f"SELECT {', '.join(f'{side}.{name}' for name in quoted(types))}, {weight} AS weight FROM {log} "
             f"WHERE {side} IS NOT NULL" for side, weight in (("after", 1), ("before", -1))]
    return f"({' UNION ALL '.join(sides)})"


def quoted(names):
    return [f'"{name}"' for name in names]


def sum_of(db, relation, names, weight):
    """What equal multisets of rows have in common: how many rows, and the sum of their hashes."""
    row = f"hash({', '.join(quoted(names))})"
    return db.execute(f"SELECT coalesce(sum({weight}), 0), coalesce(sum({weight} * CAST({row} AS HUGEINT)), 0) FROM {relation}").fetchone()


def differences(db, log, names):
    """How many rows each side has that the other has not, and one of each to look at."""
    columns = ", ".join(quoted(names))
    db.execute(f"CREATE OR REPLACE TEMP TABLE ours AS SELECT {columns}, sum(weight) AS times FROM {log} GROUP BY ALL HAVING times <> 0")
    db.execute(f"CREATE OR REPLACE TEMP TABLE right_ones AS SELECT {columns}, count(*) AS times FROM theirs GROUP BY ALL")
    found = []
    for label, left, right in (("only tidemill", "ours", "right_ones"), ("only DuckDB", "right_ones", "ours")):
        rows = db.execute(f"SELECT * FROM {left} EXCEPT SELECT * FROM {right}").fetchall()
        if rows:
            found.append(f"{label}: {len(rows)} rows, such as {rows[0]}")
    return found


class Check:
    """A query's batch answer, and what runs are compared with it."""

    def __init__(self, options, query):
        self.options, self.query = options, query
        self.db = batch.connect(options.data, 2)
        if query == "q12":
            self.types = {"bidder": "BIGINT", "bid_count": "BIGINT"}
            return
        self.db.execute(f"CREATE TABLE theirs AS {batch.QUERIES[query]}")
        self.types = {name: kind for name, kind, *_ in self.db.execute("DESCRIBE theirs").fetchall()}
        self.names, self.candidates = batch.TIED.get(query, (list(self.types), None))
        self.sum = sum_of(self.db, "theirs", self.names, "1")

    def answer(self, files):
        """What is wrong with the answer that a run wrote."""
        log = log_of(self.query, files, self.types)
        if self.query == "q12":
            counted = self.db.execute(f"SELECT coalesce(sum(bid_count * weight), 0) FROM {log}").fetchone()[0]
            bids = self.db.execute("SELECT count(*) FROM bid").fetchone()[0]
            return [] if counted == bids else [f"{counted} bids counted of {bids}"]
        if sum_of(self.db, log, self.names, "weight") != self.sum:
            return differences(self.db, log, self.names) or ["the sums differ and no row does"]
        if self.candidates:
            columns = ", ".join(name for name in quoted(self.types) if name != '"rank_number"')
            left = f"SELECT {columns} FROM {log} GROUP BY ALL HAVING sum(weight) <> 0"
            strangers = self.db.execute(f"({left}) EXCEPT SELECT {columns} FROM ({self.candidates})").fetchall()
            return [f"{len(strangers)} rows that cannot win, such as {strangers[0]}"] if strangers else []
        return []

    def runs(self, data):
        """What is wrong with the runs over some data."""
        wrong = []
        for lanes in self.options.lanes:
            written = []
            for again in range(1 if self.query == "q12" else 2):
                with tempfile.TemporaryDirectory(dir=self.options.scratch) as folder:
                    files = run(self.options, self.query, data, lanes, Path(folder))
                    written.append(bytes_of(files, folder))
                    if not again:
                        wrong += [f"on {lanes} lanes {what}" for what in self.answer(files)]
            if len(set(written)) > 1:
                wrong.append(f"two runs on {lanes} lanes wrote different bytes")
        return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, help="folder with person, auction and bid (make nexmark-data)")
    parser.add_argument("--tidemill", default=HERE.parent / "target" / "release" / "tidemill")
    parser.add_argument("--queries", default=",".join(QUERIES), help="comma-separated")
    parser.add_argument("--lanes", default="1,2,4", help="comma-separated")
    parser.add_argument("--arrival", default="ordered,shuffled", help="one of them or both")
    parser.add_argument("--shuffled", help="folder of the shuffled events, made when it is missing; default: FOLDER-shuffled")
    parser.add_argument("--scratch", help="where the runs write")
    options = parser.parse_args()
    options.data = str(Path(with_side_input(options.data)).resolve())
    options.lanes = [int(lanes) for lanes in options.lanes.split(",")]
    arrivals = {}
    for arrival in options.arrival.split(","):
        arrivals[arrival] = options.data if arrival == "ordered" else shuffled(options.data, options.shuffled or f"{options.data}-shuffled")
    wrong = []
    for query in options.queries.split(","):
        try:
            check = Check(options, query)
            found = [f"{arrival}: {what}" for arrival, data in arrivals.items() for what in check.runs(data)]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            found = [str(error)]
        except batch.duckdb.Error as error:
            found = [f"DuckDB cannot compare: {error}"]
        wrong += [query] if found else []
        print(f"{query}: {'equal' if not found else '; '.join(found)}", flush=True)
    if wrong:
        print(f"{len(wrong)} not equal: {', '.join(wrong)}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
