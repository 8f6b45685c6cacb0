#!/usr/bin/env python3
"""Reads a view with many clients while events flow in, checks every answer, and writes the table into bench/RESULTS.md.

The view has a row for each of a hundred groups of bidders; the bids come from the generator at `--rate` events a second, in
order, so the counts of an answer add up to how many bids it knows of. Every answer has to be what the first so many bids of
the file give (`--data`, the same bids), and answers of one version have to be the same. Readers ask again `--pause-ms` after an answer.

usage: bench/readers.py --data FOLDER [--tidemill BINARY] [--readers 32] [--rate 1000000] [--write]
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from data import files
from measured import HERE, seen, write_table

GROUPS = 100

PIPELINE = """
CREATE TABLE bid (
    auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR,
    WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
) WITH ('connector' = 'nexmark', 'nexmark.table' = 'bid', 'events' = '{events}', 'rate' = '{rate}');

CREATE MATERIALIZED VIEW totals AS
SELECT bidder % {groups} AS bidders, COUNT(*) AS bids, SUM(price) AS total, MAX(price) AS highest FROM bid
GROUP BY bidder % {groups};
"""


def bids(data):
    """Bidder and price of each bid, in order."""
    for path in files(data, "bid"):
        with path.open() as lines:
            for line in lines:
                bid = json.loads(line)
                yield bid["bidder"], bid["price"]


class Reader(threading.Thread):
    """Asks for the view until the pipeline ends; keeps each answer with its version and how long it took."""

    def __init__(self, port, pause):
        super().__init__(daemon=True)
        self.port, self.pause, self.answers, self.failed = port, pause, [], None

    def run(self):
        door = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while True:
            started = time.perf_counter()
            try:
                door.request("GET", f"/v1/views/totals?limit={GROUPS}")
                answer = door.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                return
            took = time.perf_counter() - started
            if answer.status != 200:
                # The door closes when the pipeline ends.
                self.failed = None if answer.status == 503 else f"{answer.status}: {body[:200]!r}"
                return
            self.answers.append((int(answer.headers["tidemill-version"]), body, took))
            time.sleep(self.pause)


def read_while_it_runs(options, scratch):
    """The answers of all readers, the wall and CPU seconds of the run."""
    pipeline = Path(scratch) / "totals.sql"
    pipeline.write_text(PIPELINE.format(events=options.events, rate=options.rate, groups=GROUPS))
    command = [options.tidemill, "run", pipeline, "--lanes", "2", "--listen", f"127.0.0.1:{options.port}"]
    with tempfile.TemporaryFile("w+") as log:
        started = time.monotonic()
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for_door(options.port, child)
        readers = [Reader(options.port, options.pause_ms / 1000) for _ in range(options.readers)]
        for reader in readers:
            reader.start()
        cpu = 0.0
        while child.poll() is None:
            try:
                fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
                cpu = (int(fields[11]) + int(fields[12])) / 100 or cpu
            except OSError:
                pass
            time.sleep(0.05)
        wall = time.monotonic() - started
        for reader in readers:
            reader.join()
        log.seek(0)
        if child.returncode != 0:
            raise RuntimeError(f"it ended with {child.returncode}:\n{log.read()}")
    if failed := [reader.failed for reader in readers if reader.failed]:
        raise RuntimeError(f"a reader was answered {failed[0]}")
    return [answer for reader in readers for answer in reader.answers], wall, cpu


def wait_for_door(port, child):
    while child.poll() is None:
        try:
            door = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            door.request("GET", "/v1/health")
            return door.getresponse().read()
        except OSError:
            time.sleep(0.01)
    return None


def check(answers, data):
    """Holds each answer against the first bids of the file: how many different ones there were, and how many were wrong."""
    by_version = {}
    for version, body, _ in answers:
        by_version.setdefault(version, set()).add(body)
    wrong = sum(len(bodies) > 1 for bodies in by_version.values())
    found = []
    for bodies in by_version.values():
        rows = json.loads(next(iter(bodies)))
        found.append((sum(row["bids"] for row in rows), rows))
    found.sort(key=lambda answer: answer[0])
    counts, totals, highest, known = [0] * GROUPS, [0] * GROUPS, [0] * GROUPS, 0
    coming = bids(data)
    for number, rows in found:
        while known < number:
            bidder, price = next(coming)
            group = bidder % GROUPS
            counts[group], totals[group], highest[group] = counts[group] + 1, totals[group] + price, max(highest[group], price)
            known += 1
        expected = {group: (counts[group], totals[group], highest[group]) for group in range(GROUPS) if counts[group]}
        wrong += expected != {row["bidders"]: (row["bids"], row["total"], row["highest"]) for row in rows}
    return len(by_version), wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the generator's events (make nexmark-data)")
    parser.add_argument("--tidemill", default=HERE.parent / "target" / "release" / "tidemill")
    parser.add_argument("--readers", type=int, default=32)
    parser.add_argument("--rate", type=int, default=1_000_000, help="events a second")
    parser.add_argument("--events", type=int, default=10_000_000, help="as many as the folder was made with, at most")
    parser.add_argument("--pause-ms", type=float, default=20)
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--write", action="store_true", help="write the table into bench/RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        answers, wall, cpu = read_while_it_runs(options, scratch)
    versions, wrong = check(answers, options.data)
    took = statistics.quantiles([answer[2] * 1000 for answer in answers], n=100)
    table = [
        "| readers | events/s | answers/s | versions answered | wrong answers | answer, ms: median / 99 % | CPU s a second |",
        "|---" * 7 + "|",
        f"| {options.readers} | {options.events / wall:,.0f} | {len(answers) / wall:,.0f} | {versions:,} | **{wrong}** | "
        f"{took[49]:.1f} / {took[98]:.1f} | {cpu / wall:.2f} |",
        "", seen(f"{options.events:,} events", "2 lanes", "the readers on the same cores"),
    ]
    print("\n".join(table))
    if options.write:
        write_table("readers", table)
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
