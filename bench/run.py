#!/usr/bin/env python3
"""Measures tidemill beside DuckDB and Apache Flink on the Nexmark queries, and writes the tables into bench/RESULTS.md.

Each query runs in turn, tidemill, then DuckDB, then Flink, `--pairs` times, every run in a process of its own. What counts
is CPU time, user and system together: wall time on a shared machine says little. tidemill and Flink are charged for the
whole process; DuckDB for its query alone. Medians are compared.

Flink takes part when `--flink` names a folder with its jars (tools/flink-libs.sh), over the first `--flink-events` events in
two files a table, one for each of its readers; beside it tidemill runs over the same files. Both are brought to ten million
events alike: what the query costs over next to nothing is counted once, the rest by the event. After the measured runs, on a heap
of `--flink-heap`, the smallest heap on which it finishes is looked for in steps of 512 MB.

usage: bench/run.py --data FOLDER [--tidemill BINARY] [--queries q0,q1] [--pairs 3] [--lanes 2] [--flink FOLDER]
                    [--flink-events 2000000] [--flink-pairs 1] [--write]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from compose import QUERIES, compose, refusal
from data import count_events, cut, with_side_input
from measured import HERE, cpu, measure, median, seen, write_table

sys.path.insert(0, str(HERE / "peers"))
import batch  # noqa: E402
import flink  # noqa: E402

# The greatest ratio of tidemill's CPU time to DuckDB's that each query is meant to have.
GOALS = {"q0": 0.8, "q1": 0.8, "q2": 0.8, "q14": 0.8, "q22": 0.8, "q11": 0.8, "q15": 0.6, "q16": 0.6, "q17": 0.6}
GOAL = 1.0

# How many times as much CPU time Flink is meant to take, for each query and in the geometric mean; and of its memory on the
# smallest heap, the most that tidemill is meant to have.
FLINK_GOAL, FLINK_GOAL_MEAN, FLINK_GOAL_MEMORY = 10, 15, 1 / 3

# The events of a run that shows what starting costs.
START_EVENTS = 50


class Tidemill:
    def __init__(self, options):
        self.options = options

    def run(self, query, data, scratch):
        pipeline = Path(scratch) / f"{query}.sql"
        pipeline.write_text(compose(query, DATA=data, OUT=Path(scratch) / "out"))
        if why := refusal(self.options.tidemill, pipeline):
            raise RuntimeError(f"refused: {why}")
        command = [self.options.tidemill, "run", pipeline, "--lanes", str(self.options.lanes)]
        return measure(command, self.options.seconds_max)[2]


class DuckDb:
    def __init__(self, options):
        self.options = options

    def run(self, query, data, _scratch):
        command = [sys.executable, HERE / "peers" / "duckdb_peer.py", query, data, str(self.options.lanes)]
        out, _, cost = measure(command, self.options.seconds_max)
        return {**json.loads(out), "peak_bytes": cost["peak_bytes"]}


class Flink:
    def __init__(self, options, scratch):
        self.options = options
        self.libs = Path(options.flink).resolve()
        self.class_path = flink.prepare(self.libs, scratch)

    def run(self, query, data, scratch, heap=None, seconds_max=None):
        return flink.run(self.libs, self.class_path, query, data, scratch, heap or self.options.flink_heap,
                         seconds_max or self.options.seconds_max)

    def smallest(self, query, data, scratch, seconds):
        """The run on the smallest heap; one that takes five times as long as on a large one has not finished."""
        def attempt(heap):
            try:
                return self.run(query, data, scratch, heap, max(60, 5 * seconds))
            except RuntimeError as error:
                tell(f"{query} flink on {heap} MB: {first_line(error)}")
                return None
        return flink.smallest_heap(attempt, self.options.flink_heap)


def tell(line):
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def compare(query, contestants):
    """All runs of a query, {name: [run]}, and why others failed, {name: text}; `contestants` is {name: (system, data, pairs)}.

    Where tidemill fails, there is nothing to compare the others with.
    """
    runs, failed = {}, {}
    for pair in range(max(times for _, _, times in contestants.values())):
        for name, (system, data, times) in contestants.items():
            if pair >= times or name in failed:
                continue
            try:
                with tempfile.TemporaryDirectory() as scratch:
                    one = system.run(query, data, scratch)
            except RuntimeError as error:
                tell(f"{query} {name}: {error}")
                failed[name] = first_line(error)
                runs.pop(name, None)
                if name.startswith("tidemill"):
                    return runs, failed
                continue
            runs.setdefault(name, []).append(one)
            tell(f"{query} {pair + 1}/{times} {name}: {cpu(one):.2f} CPU s, {one['wall_seconds']:.2f} s, {one['peak_bytes'] / 1e6:,.0f} MB")
    return runs, failed


def first_line(error):
    """What an error says, as it fits into a cell of a table."""
    return str(error).splitlines()[0].replace("|", " ")[:100]


def geometric_mean(ratios):
    return f"**{statistics.geometric_mean(ratios):.2f}**" if ratios else "-"


def verdict(goal, met):
    return f"{goal} {'met' if met else 'missed'}"


class BesideDuckDb:
    """The table over all events, beside DuckDB. CPU seconds are per ten million events."""

    NAME = "nexmark"
    HEADER = ["| query | events/s | tidemill, CPU s | DuckDB, CPU s | ratio | goal | wall s | page faults, thousand | peak MB |",
              "|---" * 9 + "|"]

    def __init__(self, options, tidemill):
        self.events, self.rows, self.ratios = count_events(options.data), [], []
        self.contestants = {"tidemill": (tidemill, options.data, options.pairs), "DuckDB": (DuckDb(options), options.data, options.pairs)}
        self.facts = [f"{self.events:,} events", f"{options.lanes} lanes and threads", f"{options.pairs} runs each"]

    def add(self, query, runs, reasons):
        ours, theirs = runs.get("tidemill"), runs.get("DuckDB")
        if not ours:
            self.rows.append(f"| {query} | {reasons['tidemill']} |" + " |" * 7)
            return
        both = [ours, theirs] if theirs else [ours]
        scale = 10_000_000 / self.events

        def seconds(runs):
            low, high = min(map(cpu, runs)) * scale, max(map(cpu, runs)) * scale
            of_system = median(runs, lambda run: run["system_seconds"]) * scale
            return f"{median(runs, cpu) * scale:.2f} ({low:.2f}-{high:.2f}; system {of_system:.2f})"

        def each(form, of):
            return " / ".join(form.format(median(runs, of)) for runs in both)

        ratio, goal = "-", "-"
        if theirs:
            value = median(ours, cpu) / median(theirs, cpu)
            self.ratios.append(value)
            ratio, goal = f"**{value:.2f}**", verdict(GOALS.get(query, GOAL), value <= GOALS.get(query, GOAL))
        cells = [
            query, f"{self.events / median(ours, lambda run: run['wall_seconds']):,.0f}", seconds(ours),
            seconds(theirs) if theirs else "-", ratio, goal, each("{:.2f}", lambda run: run["wall_seconds"]),
            each("{:,.0f}", lambda run: run["page_faults"] / 1000), each("{:,.0f}", lambda run: run["peak_bytes"] / 1e6),
        ]
        self.rows.append("| " + " | ".join(cells) + " |")

    def lines(self):
        return [*self.HEADER, *self.rows, f"| geometric mean | | | | {geometric_mean(self.ratios)} | | | | |"]


class BesideFlink:
    """The table over the events that Flink takes, beside Flink. CPU seconds are brought to ten million events."""

    NAME, OURS = "nexmark-flink", "tidemill beside Flink"
    HEADER = ["| query | events/s, tidemill / Flink | tidemill, CPU s | Flink, CPU s | Flink : tidemill | goal "
              "| tidemill, peak MB | Flink, peak MB | on the smallest heap, MB | tidemill : Flink | goal |", "|---" * 11 + "|"]

    def __init__(self, options, tidemill, scratch):
        self.options, self.tidemill, self.flink = options, tidemill, Flink(options, scratch)
        self.rows, self.ratios, self.shares = [], [], []
        all_events = count_events(options.data)
        self.events = min(options.flink_events or all_events, all_events) // 50 * 50
        data = cut(options.data, self.events, Path(options.scratch) / f"nexmark-{self.events}-in-2", parts=2)
        self.next_to_nothing = cut(options.data, START_EVENTS, Path(scratch) / "start", parts=2)
        self.data = data
        self.contestants = {self.OURS: (tidemill, data, options.flink_pairs), "Flink": (self.flink, data, options.flink_pairs)}
        self.facts = [f"the first {self.events:,} events", f"{options.lanes} lanes, parallelism 2", f"{options.flink_pairs} runs each",
                      f"a heap of {options.flink_heap:,} MB but for the last columns"]

    def add(self, query, runs, reasons):
        """A row; what starting costs and the smallest heap are found out now."""
        ours, theirs = runs.get(self.OURS), runs.get("Flink")
        try:
            if not ours or not theirs:
                raise RuntimeError("; ".join(f"{name} {why}" for name, why in reasons.items()))
            our_cpu = self.of_ten_million(query, self.tidemill, ours)
            their_cpu = self.of_ten_million(query, self.flink, theirs)
        except RuntimeError as error:
            self.rows.append(f"| {query} | {first_line(error)} |" + " |" * 9)
            return
        smallest = self.smallest(query, theirs) if query in self.options.flink_memory.split(",") else None
        ratio, peak = their_cpu / our_cpu, median(ours, lambda run: run["peak_bytes"])
        self.ratios.append(ratio)
        memory = ["-", "-", "-"]
        if smallest:
            share = peak / smallest["peak_bytes"]
            self.shares.append(share)
            memory = [f"{smallest['peak_bytes'] / 1e6:,.0f} (heap {smallest['heap_megabytes']:,}, {cpu(smallest):.0f} CPU s)",
                      f"**{share:.2f}**", verdict(f"{FLINK_GOAL_MEMORY:.2f}", share <= FLINK_GOAL_MEMORY)]
        rates = [self.events / median(ours, lambda run: run["wall_seconds"]), self.events / median(theirs, lambda run: run["job_seconds"])]
        cells = [
            query, " / ".join(f"{rate:,.0f}" for rate in rates), f"{our_cpu:.2f}", f"{their_cpu:.1f}", f"**{ratio:.1f}**",
            verdict(FLINK_GOAL, ratio >= FLINK_GOAL), f"{peak / 1e6:,.0f}",
            f"{median(theirs, lambda run: run['peak_bytes']) / 1e6:,.0f}", *memory,
        ]
        self.rows.append("| " + " | ".join(cells) + " |")

    def lines(self):
        met = verdict(FLINK_GOAL_MEAN, statistics.geometric_mean(self.ratios) >= FLINK_GOAL_MEAN) if self.ratios else "-"
        last = f"| geometric mean | | | | {geometric_mean(self.ratios)} | {met} | | | | {geometric_mean(self.shares)} | |"
        return [*self.HEADER, *self.rows, last]

    def of_ten_million(self, query, system, runs):
        """CPU seconds: those of a run over next to nothing, and the rest by the event."""
        if self.events == 10_000_000:
            return median(runs, cpu)
        with tempfile.TemporaryDirectory() as scratch:
            start = cpu(system.run(query, self.next_to_nothing, scratch))
        return start + max(median(runs, cpu) - start, 0) * 10_000_000 / self.events

    def smallest(self, query, theirs):
        try:
            with tempfile.TemporaryDirectory() as scratch:
                found = self.flink.smallest(query, self.data, scratch, median(theirs, lambda run: run["wall_seconds"]))
        except RuntimeError as error:
            tell(f"{query} Flink: {error}")
            return None
        tell(f"{query} Flink finishes with {found['heap_megabytes']} MB of heap, {found['peak_bytes'] / 1e6:,.0f} MB in all")
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, help="folder with person, auction and bid (make nexmark-data)")
    parser.add_argument("--tidemill", default=HERE.parent / "target" / "release" / "tidemill")
    parser.add_argument("--queries", default=",".join(QUERIES), help="comma-separated")
    parser.add_argument("--pairs", type=int, default=3, help="runs of tidemill and DuckDB for each query; 0 leaves DuckDB out")
    parser.add_argument("--lanes", type=int, default=2, help="lanes of tidemill and threads of DuckDB")
    parser.add_argument("--flink", help="folder with Flink's jars (tools/flink-libs.sh); without it Flink is left out")
    parser.add_argument("--flink-events", type=int, default=2_000_000, help="the first events, a multiple of fifty, for Flink; 0 is all")
    parser.add_argument("--flink-pairs", type=int, default=1, help="runs of Flink, and of tidemill beside it, for each query")
    parser.add_argument("--flink-heap", type=int, default=8192, help="megabytes of heap of the runs that are compared")
    parser.add_argument("--flink-memory", default=",".join(QUERIES), help="the queries for which the smallest heap is looked for")
    parser.add_argument("--scratch", default=tempfile.gettempdir(), help="where the events for Flink are put, and stay")
    parser.add_argument("--seconds-max", type=float, default=900, help="the longest that a run may take")
    parser.add_argument("--write", action="store_true", help="write the tables into bench/RESULTS.md, after each query")
    options = parser.parse_args()
    if not options.pairs and not options.flink:
        parser.error("with --pairs 0 and without --flink there is nothing to measure beside")
    options.data = str(Path(with_side_input(options.data)).resolve())

    with tempfile.TemporaryDirectory() as scratch:
        failed = measure_all(options, scratch)
    sys.exit(1 if failed else 0)


def measure_all(options, scratch):
    """Measures and tells; returns the queries that failed."""
    tidemill, tables, failed = Tidemill(options), [], []
    if options.pairs:
        tables.append(BesideDuckDb(options, tidemill))
    if options.flink:
        tables.append(BesideFlink(options, tidemill, scratch))
    contestants = {name: one for table in tables for name, one in table.contestants.items()}
    for query in options.queries.split(","):
        taking_part = {name: one for name, one in contestants.items() if name != "DuckDB" or query in batch.QUERIES}
        runs, reasons = compare(query, taking_part)
        failed += [query] if reasons else []
        for table in tables:
            table.add(query, runs, reasons)
            if options.write:
                write_table(table.NAME, [*table.lines(), "", seen(*table.facts)])
    for table in tables:
        print("\n".join(table.lines()))
    return failed


if __name__ == "__main__":
    main()
