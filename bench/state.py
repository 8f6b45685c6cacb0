#!/usr/bin/env python3
"""Measures what it costs to keep state, and how long a restart takes, and writes both into bench/RESULTS.md.

Overhead: each query runs in turn without state and with it, `--pairs` times, over the files of `make nexmark-data`, with
a snapshot every `--snapshot-size` of input. What counts is CPU time, user and system together.

Recovery: a pipeline over a generator that holds about `--megabytes` of state is killed when some seconds of input have
come since its newest snapshot, and started again. What counts is the time until those steps have been run again.

usage: bench/state.py --data FOLDER [--tidemill BINARY] [--queries q11,q16] [--pairs 3] [--write]
"""

import argparse
import datetime
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compose import compose
from data import count_events
from measured import HERE, commit, cpu, machine, measure, write_table

GOAL = 1.15


def folder_bytes(path):
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def run(options, query, scratch, keep):
    """One run: its cost, and with state how many versions it made and the bytes it wrote for them."""
    pipeline = Path(scratch) / f"{query}.sql"
    settings = f"SET 'state.snapshot-size' = '{options.snapshot_size}';\n"
    pipeline.write_text(settings + compose(query, DATA=options.data, OUT=Path(scratch) / "out"))
    state = str(Path(scratch) / "state") if keep else "none"
    command = [options.tidemill, "run", pipeline, "--lanes", str(options.lanes), "--state", state]
    _, err, cost = measure(command)
    cost["digest"] = re.search(r"digest (\w+)", err).group(1)
    if keep:
        listed = subprocess.run([options.tidemill, "versions", "ls", state, "-o", "json"], capture_output=True, check=True)
        versions = json.loads(listed.stdout)
        cost["versions"] = versions[-1]["number"]
        cost["state_bytes"] = versions[-1]["bytes"]
        cost["disk_bytes"] = folder_bytes(state)
    return cost


def overhead(options):
    input_bytes = folder_bytes(Path(options.data) / "bid")
    lines = ["| query | without, CPU s | with, CPU s | ratio | goal | snapshots | state MB | peak MB |",
             "|---|---|---|---|---|---|---|---|"]
    for query in options.queries.split(","):
        runs = {False: [], True: []}
        for pair in range(options.pairs):
            for keep in (False, True):
                with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
                    runs[keep].append(run(options, query, scratch, keep))
                print(f"{query} {pair + 1} state={keep}: {cpu(runs[keep][-1]):.2f} CPU s", file=sys.stderr)
        assert len({one["digest"] for one in runs[False] + runs[True]}) == 1, f"{query}: the answers differ"
        without, kept = runs[False], runs[True]
        ratio = statistics.median(map(cpu, kept)) / statistics.median(map(cpu, without))

        def seconds(measured):
            return f"{statistics.median(map(cpu, measured)):.2f} ({min(map(cpu, measured)):.2f}-{max(map(cpu, measured)):.2f})"

        def peak(measured):
            return f"{statistics.median(one['peak_bytes'] for one in measured) / 1e6:,.0f}"

        lines.append(f"| {query} | {seconds(without)} | {seconds(kept)} | **{ratio:.2f}** | {GOAL} "
                     f"{'met' if ratio <= GOAL else 'missed'} | {kept[0]['versions']} | "
                     f"{kept[0]['state_bytes'] / 1e6:,.1f} | {peak(without)} / {peak(kept)} |")
    lines += ["", f"{datetime.date.today()}, commit {commit()}, {machine()}, {count_events(options.data):,} events "
                  f"({input_bytes / 1e9:.1f} GB of bids), {options.lanes} lanes, {options.pairs} runs each, a snapshot "
                  f"every {options.snapshot_size} of input."]
    return lines


RECOVERY = """SET 'state.snapshot-size' = '100 GB';
SET 'state.snapshot-interval' = '{interval} s';
CREATE TABLE events (id BIGINT, v BIGINT, name STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '{rate}',
    'fields.id.min' = '0', 'fields.id.max' = '{keys}', 'fields.name.length' = '32');
CREATE MATERIALIZED VIEW totals AS SELECT id, COUNT(*) AS n, SUM(v) AS total, MAX(name) AS name FROM events GROUP BY id;
"""


def recover(options, keys, label):
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        pipeline, state = Path(scratch) / "p.sql", str(Path(scratch) / "state")
        command = [options.tidemill, "run", pipeline, "--lanes", str(options.lanes), "--state", state, "--listen", "127.0.0.1:0"]
        env = {**os.environ, "TIDEMILL_LOG": "tidemill_node=info"}
        # Fill the state fast, and stop in order: that leaves a snapshot of everything.
        pipeline.write_text(RECOVERY.format(rate=0, keys=keys, interval=3600))
        filling = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        time.sleep(options.fill_seconds)
        filling.send_signal(signal.SIGINT)
        filling.communicate()
        size = json.loads(subprocess.run([options.tidemill, "versions", "ls", state, "-o", "json"], capture_output=True,
                                         check=True).stdout)[-1]["bytes"]
        # Run at the rate asked for, and kill.
        pipeline.write_text(RECOVERY.format(rate=100_000, keys=keys, interval=3600))
        running = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        time.sleep(options.input_seconds + 5)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        started = time.monotonic()
        again = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        steps = "0"
        for line in again.stderr:
            if found := re.search(r"steps=.*?(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", line)):
                steps = found.group(1)
            if "run again." in line:
                break
        seconds = time.monotonic() - started
        again.send_signal(signal.SIGKILL)
        again.communicate()
    return f"| {label} | {size / 1e6:,.0f} | {options.input_seconds} s at 100,000/s ({steps} steps) | **{seconds:.2f}** |"


WRITTEN = """SET 'state.snapshot-size' = '{snapshot}';
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT) WITH ('connector' = 'http', 'durability' = 'flushed');
CREATE MATERIALIZED VIEW auctions AS SELECT auction, COUNT(*) AS n, MAX(price) AS highest FROM bid GROUP BY auction;
"""


def written(options):
    """Bytes that the process has written for each byte of events that came over HTTP."""
    events = next(file for file in sorted(Path(options.data, "bid").rglob("*")) if file.is_file())
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch, events.open("rb") as lines:
        pipeline, state = Path(scratch) / "p.sql", str(Path(scratch) / "state")
        pipeline.write_text(WRITTEN.format(snapshot=f"{options.written_megabytes // 4} MB"))
        command = [options.tidemill, "run", pipeline, "--lanes", str(options.lanes), "--state", state, "--listen", "127.0.0.1:18400"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client, sent = http.client.HTTPConnection("127.0.0.1", 18400), 0
        for _ in range(100):
            try:
                client.connect()
                break
            except OSError:
                time.sleep(0.05)
        while sent < options.written_megabytes * 1_000_000:
            body = b"".join(lines.readlines(250_000))
            client.request("POST", "/v1/sources/bid", body, {"content-type": "application/x-ndjson"})
            answer = client.getresponse()
            answer.read()
            if answer.status == 429:
                lines.seek(-len(body), os.SEEK_CUR)
                time.sleep(0.05)
                continue
            assert answer.status == 202, answer.status
            sent += len(body)
        running.send_signal(signal.SIGINT)
        # What it has written is asked of it while it is there, and it writes its last snapshot before it goes.
        count = 0
        while running.poll() is None:
            try:
                count = int(re.search(r"^write_bytes: (\d+)", Path(f"/proc/{running.pid}/io").read_text(), re.M)[1])
            except (OSError, TypeError):
                pass
            time.sleep(0.002)
        size = folder_bytes(state)
    return [f"{sent / 1e6:,.0f} MB of bids over HTTP in bodies of 250 kB, four snapshots: **{count / sent:.2f}** bytes were "
            f"written for each byte that came, and {size / 1e6:,.0f} MB are kept at the end.", "",
            f"{datetime.date.today()}, commit {commit()}, {machine()}."]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, help="folder with person, auction and bid (make nexmark-data)")
    parser.add_argument("--tidemill", default=HERE.parent / "target" / "release" / "tidemill")
    parser.add_argument("--queries", default="q11,q16,q17,keyed", help="comma-separated")
    parser.add_argument("--pairs", type=int, default=3, help="runs without and with state for each query")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--snapshot-size", default="256 MB")
    parser.add_argument("--keys", default="2000000", help="keys of the state that is recovered")
    parser.add_argument("--fill-seconds", type=int, default=20)
    parser.add_argument("--input-seconds", type=int, default=30)
    parser.add_argument("--written-megabytes", type=int, default=200, help="events that come over HTTP; 0 for none")
    parser.add_argument("--scratch", help="where state is kept while measuring")
    parser.add_argument("--write", action="store_true", help="write the tables into bench/RESULTS.md")
    options = parser.parse_args()
    lines = overhead(options) if options.queries else []
    print("\n".join(lines))
    bytes_written = written(options) if options.written_megabytes else []
    print("\n".join(bytes_written))
    recovery = ["| keys | state MB, compressed | input since the snapshot | restart, s |", "|---|---|---|---|"]
    recovery += [recover(options, int(keys), f"{int(keys):,}") for keys in options.keys.split(",") if keys]
    recovery += ["", f"{datetime.date.today()}, commit {commit()}, {machine()}, {options.lanes} lanes."]
    print("\n".join(recovery))
    if options.write:
        for name, found in (("state", lines), ("written", bytes_written), ("recovery", recovery if options.keys else [])):
            if found:
                write_table(name, found)


if __name__ == "__main__":
    main()
