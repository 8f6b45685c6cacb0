#!/usr/bin/env python3
"""Measures tidemill beside DuckDB on Nexmark queries, and writes the table into bench/RESULTS.md.

Each query runs in turn, tidemill then DuckDB, `--pairs` times, every run in a process of its own. What counts is CPU
time, user and system together: wall time on a shared machine says little. tidemill is charged for its whole process;
DuckDB for its query alone. Medians are compared.

usage: bench/run.py --data FOLDER [--tidemill BINARY] [--queries q0,q1] [--pairs 3] [--lanes 2] [--write]
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compose import compose

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"

# The greatest ratio of tidemill's CPU time to DuckDB's that each query is meant to have.
GOALS = {"q0": 0.8, "q1": 0.8, "q2": 0.8, "q14": 0.8, "q22": 0.8, "q11": 0.8, "q15": 0.6, "q16": 0.6, "q17": 0.6}


def measure(command):
    """Runs a command and returns what it printed and what it cost, by the kernel's account of the process."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        started = time.monotonic()
        child = subprocess.Popen(command, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - started
        stdout.seek(0)
        stderr.seek(0)
        out, err = stdout.read().decode(), stderr.read().decode()
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{err}")
    cost = {
        "wall_seconds": wall,
        "user_seconds": usage.ru_utime,
        "system_seconds": usage.ru_stime,
        "page_faults": usage.ru_minflt,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    return out, err, cost


def run_tidemill(options, query, scratch):
    pipeline = Path(scratch) / f"{query}.sql"
    pipeline.write_text(compose(query, DATA=options.data, OUT=Path(scratch) / "out"))
    out, err, cost = measure([options.tidemill, "run", pipeline, "--lanes", str(options.lanes), "-o", "json"])
    return {**cost, "printed": (out + err).strip()}


def run_duckdb(options, query, _scratch):
    out, _, cost = measure([sys.executable, HERE / "peers" / "duckdb_peer.py", query, options.data, str(options.lanes)])
    inner = json.loads(out)
    return {**inner, "peak_bytes": cost["peak_bytes"]}


SYSTEMS = {"tidemill": run_tidemill, "duckdb": run_duckdb}


def cpu(run):
    return run["user_seconds"] + run["system_seconds"]


def median(runs, of):
    return statistics.median(of(run) for run in runs)


def compare(options, query):
    """All runs of a query: {system: [run]}."""
    runs = {system: [] for system in SYSTEMS}
    for pair in range(options.pairs):
        for system, run in SYSTEMS.items():
            with tempfile.TemporaryDirectory() as scratch:
                runs[system].append(run(options, query, scratch))
            print(f"{query} {pair + 1}/{options.pairs} {system}: {cpu(runs[system][-1]):.2f} CPU s", file=sys.stderr)
    return runs


def row(query, runs, scale):
    """A line of the table. CPU seconds are per ten million events."""
    ours, theirs = runs["tidemill"], runs["duckdb"]
    ratio = median(ours, cpu) / median(theirs, cpu)
    goal = GOALS.get(query)
    verdict = "" if goal is None else f"{goal} {'met' if ratio <= goal else 'missed'}"

    def seconds(measured):
        low, high = min(map(cpu, measured)) * scale, max(map(cpu, measured)) * scale
        of_system = median(measured, lambda r: r["system_seconds"]) * scale
        return f"{median(measured, cpu) * scale:.2f} ({low:.2f}-{high:.2f}; system {of_system:.2f})"

    def wall(measured):
        return f"{median(measured, lambda r: r['wall_seconds']):.2f}"

    def thousands(measured):
        return f"{median(measured, lambda r: r['page_faults']) / 1000:,.0f}"

    def megabytes(measured):
        return f"{median(measured, lambda r: r['peak_bytes']) / 1e6:,.0f}"

    cells = [
        query, seconds(ours), seconds(theirs), f"**{ratio:.2f}**", verdict, f"{wall(ours)} / {wall(theirs)}",
        f"{thousands(ours)} / {thousands(theirs)}", f"{megabytes(ours)} / {megabytes(theirs)}",
    ]
    return "| " + " | ".join(cells) + " |"


HEADER = """\
| query | tidemill, CPU s | DuckDB, CPU s | ratio | goal | wall s | page faults, thousand | peak MB |
|---|---|---|---|---|---|---|---|"""


def count_events(data):
    """The number of records under the three tables' folders."""
    total = 0
    for table in ("person", "auction", "bid"):
        for path in sorted((Path(data) / table).iterdir()):
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    total += block.count(b"\n")
    return total


def machine():
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} cores of {model}"


def commit():
    return subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def write_table(name, lines):
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->` in RESULTS.md."""
    text = RESULTS.read_text()
    head, rest = text.split(f"<!-- {name} -->\n", 1)
    tail = rest.split(f"<!-- /{name} -->", 1)[1]
    RESULTS.write_text(f"{head}<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- /{name} -->{tail}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, help="folder with person, auction and bid (make nexmark-data)")
    parser.add_argument("--tidemill", default=HERE.parent / "target" / "release" / "tidemill")
    parser.add_argument("--queries", default=",".join(GOALS), help="comma-separated")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each system for each query")
    parser.add_argument("--lanes", type=int, default=2, help="lanes of tidemill and threads of DuckDB")
    parser.add_argument("--write", action="store_true", help="write the table into bench/RESULTS.md")
    options = parser.parse_args()

    events = count_events(options.data)
    scale = 10_000_000 / events
    lines = [HEADER]
    failed = []
    for query in options.queries.split(","):
        try:
            lines.append(row(query, compare(options, query), scale))
        except RuntimeError as error:
            print(error, file=sys.stderr)
            lines.append(f"| {query} | failed | | | | | | |")
            failed.append(query)
    lines += ["", f"{datetime.date.today()}, commit {commit()}, {machine()}, {events:,} events, "
                  f"{options.lanes} lanes and threads, {options.pairs} runs each."]
    print("\n".join(lines))
    if options.write:
        write_table("nexmark", lines)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
