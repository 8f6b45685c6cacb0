#!/usr/bin/env python3
"""Measures how tidemill's costs grow, and writes the tables into bench/RESULTS.md. Five parts:

growth: CPU per event over the first tenth of the events and over all of them, for queries whose state is bounded. With
`--generated 1000000,10000000,100000000` over as many events of the generator instead.
lanes: wall time on one lane and on two, in turn.
skew: wall time where keys are drawn by Zipf's law, exponent 1.2, beside keys of equal chance, and how evenly the lanes are
busy.
first: from the start of the process to its first row of output, beside Flink when `--flink` names its jars.
memory: the peak, beside the bytes of the rows that a query has to keep.

Wall times say something on an idle machine only: on another, `lanes` and `skew` are not measured, unless `--busy` is given.

usage: bench/scaling.py --data FOLDER [--tidemill BINARY] [--parts growth,lanes,skew,first,memory] [--pairs 3] [--write]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compose import compose
from data import count_events, cut, files, keyed, with_side_input
from measured import HERE, cpu, measure, median, seen, write_table

sys.path.insert(0, str(HERE / "peers"))
import flink  # noqa: E402
import kept  # noqa: E402

GROWTH = ["q0", "q1", "q2", "q4", "q5", "q7", "q8", "q9", "q11", "q14", "q21", "q22"]
LANES = ["q4", "q5", "q7", "q16", "q18", "q19", "q20"]
SKEW = ["q16", "q17", "q18", "q19"]
FIRST = ["q0", "q3", "q5", "q17", "q20"]

# The most memory that a query is meant to have: so many times the bytes of the rows that it has to keep, and so much besides.
MEMORY_GOAL, MEMORY_BESIDE = 1.4, 150e6

GROWTH_GOAL, LANES_GOAL, SKEW_GOAL, EVEN_GOAL, FIRST_GOAL_MS = 1.3, 1.6, 1.3, 1.15, 100

EXPONENT = 1.2

# The most of the machine's time that something else may take while wall time is measured.
OTHERS_MAX = 0.05

PRINT = "'connector' = 'print', 'format' = 'json'"


def run(options, query, data, lanes, tables="tables.sql", watch=None, **placeholders):
    """The cost of a run; `watch`, a dictionary, is filled with the busy seconds of each lane."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        pipeline = Path(scratch) / f"{query}.sql"
        pipeline.write_text(compose(query, tables=tables, DATA=data, OUT=Path(scratch) / "out", **placeholders))
        command = [options.tidemill, "run", pipeline, "--lanes", str(lanes)]
        if watch is None:
            return measure(command, options.seconds_max)[2]
        return watched(command, watch)


def watched(command, busy):
    """The wall seconds of a command, and into `busy` the CPU seconds of each of its lanes, as last seen.

    The first lane is the circuit's own thread, which has the steps to begin and end besides.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, stdin=subprocess.DEVNULL)
        while child.poll() is None:
            for task in Path(f"/proc/{child.pid}/task").glob("*"):
                try:
                    if (task / "comm").read_text().strip().startswith(("lane-", "circuit")):
                        busy[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
                except OSError:
                    continue
            time.sleep(0.01)
        wall = time.monotonic() - started
        if child.returncode != 0:
            stderr.seek(0)
            raise RuntimeError(f"it ended with {child.returncode}:\n{stderr.read().decode(errors='replace')}")
    return {"wall_seconds": wall}


def tell(line):
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def warm(data, tables=("person", "auction", "bid")):
    """Reads files once, so that they are in memory."""
    for table in tables:
        if (Path(data) / table).exists():
            for path in files(data, table):
                with path.open("rb") as file:
                    while file.read(1 << 24):
                        pass


def others():
    """The share of the machine's time that is taken while nothing of ours runs."""
    def times():
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]
    total, idle = times()
    time.sleep(3)
    total, idle = times()[0] - total, times()[1] - idle
    return 1 - idle / total


def idle_machine(options):
    """None when wall time can be measured, else the lines that say why not."""
    share = others()
    if share <= OTHERS_MAX or options.busy:
        return None
    return [f"Not measured: something else takes {share:.0%} of the machine."]


def rows(queries, row):
    """A row of each query; a query that fails has a row that says so."""
    found = []
    for query in queries:
        try:
            found.append(row(query))
        except RuntimeError as error:
            tell(f"{query} failed: {error}")
            said = str(error).strip().splitlines()
            found.append(f"| {query} | failed: {next((line for line in said if line.startswith('error')), said[0])[:100]} |")
    return found


def verdict(goal, met):
    return f"{goal:.4g} {'met' if met else 'missed'}"


def growth(options):
    if options.generated:
        sizes = [int(size) for size in options.generated.split(",")]
        sources = {size: {"data": "", "tables": "generator.sql", "EVENTS": size} for size in sizes}
    else:
        events = count_events(options.data)
        sizes = [events // 500 * 50, events]
        small = cut(options.data, sizes[0], Path(options.scratch) / f"nexmark-{sizes[0]}")
        sources = {sizes[0]: {"data": small}, sizes[1]: {"data": options.data}}

    def row(query):
        runs = {size: [] for size in sizes}
        for pair in range(options.pairs):
            for size, source in sources.items():
                runs[size].append(run(options, query, lanes=2, **source))
                tell(f"growth {query} {size:,} {pair + 1}/{options.pairs}: {cpu(runs[size][-1]):.2f} CPU s")
        each = {size: median(runs[size], cpu) / size * 1e9 for size in sizes}
        ratio = each[sizes[-1]] / each[sizes[0]]
        peaks = [median(runs[size], lambda one: one["peak_bytes"]) / 1e6 for size in sizes]
        return (f"| {query} | {' / '.join(f'{value:,.0f}' for value in each.values())} | **{ratio:.2f}** | "
                f"{verdict(GROWTH_GOAL, ratio <= GROWTH_GOAL)} | {' / '.join(f'{peak:,.0f}' for peak in peaks)} |")

    head = ["| query | CPU ns an event | last : first | goal | peak MB |", "|---" * 5 + "|"]
    names = " / ".join(f"{size:,}" for size in sizes)
    return head + rows(options.queries or GROWTH, row) + ["", seen(f"over {names} events", "2 lanes", f"{options.pairs} runs each")]


def lanes(options):
    if (busy := idle_machine(options)) is not None:
        return busy
    warm(options.data)

    def row(query):
        runs = {1: [], 2: []}
        for pair in range(options.pairs):
            for count in runs:
                runs[count].append(run(options, query, options.data, count))
                tell(f"lanes {query} {count} {pair + 1}/{options.pairs}: {runs[count][-1]['wall_seconds']:.2f} s")
        one, two = (median(runs[count], lambda one: one["wall_seconds"]) for count in runs)
        cpus = " / ".join(f"{median(runs[count], cpu):.2f}" for count in runs)
        return f"| {query} | {one:.2f} | {two:.2f} | **{one / two:.2f}** | {verdict(LANES_GOAL, one / two >= LANES_GOAL)} | {cpus} |"

    head = ["| query | one lane, s | two lanes, s | gain | goal | CPU s |", "|---" * 6 + "|"]
    return head + rows(options.queries or LANES, row) + [
        "", seen(f"{count_events(options.data):,} events", f"{options.pairs} pairs in turn")]


def skew(options):
    if (busy := idle_machine(options)) is not None:
        return busy
    events = options.skew_events
    folders = {
        "uniform": keyed(options.data, events, Path(options.scratch) / f"nexmark-{events}-uniform", None),
        "zipf": keyed(options.data, events, Path(options.scratch) / f"nexmark-{events}-zipf", EXPONENT),
    }
    for folder in folders.values():
        warm(folder)

    def row(query):
        walls, evenness = {name: [] for name in folders}, []
        for pair in range(options.pairs):
            for name, folder in folders.items():
                busy = {}
                walls[name].append(run(options, query, folder, 2, watch=busy)["wall_seconds"])
                if name == "zipf" and busy:
                    evenness.append(max(busy.values()) / statistics.mean(busy.values()))
                tell(f"skew {query} {name} {pair + 1}/{options.pairs}: {walls[name][-1]:.2f} s, lanes {sorted(busy.values())}")
        uniform, zipf = (statistics.median(walls[name]) for name in folders)
        even = statistics.median(evenness) if evenness else float("nan")
        return (f"| {query} | {uniform:.2f} | {zipf:.2f} | **{zipf / uniform:.2f}** | {verdict(SKEW_GOAL, zipf <= SKEW_GOAL * uniform)} | "
                f"**{even:.2f}** | {verdict(EVEN_GOAL, even <= EVEN_GOAL)} |")

    head = ["| query | equal chance, s | Zipf, s | ratio | goal | busiest lane : mean | goal |", "|---" * 7 + "|"]
    return head + rows(options.queries or SKEW, row) + ["", seen(f"the bids of {events:,} events", "2 lanes", f"{options.pairs} pairs in turn")]


def first(options):
    class_path = None
    if options.flink:
        kept = tempfile.TemporaryDirectory()
        class_path = flink.prepare(options.flink, kept.name)

    def ours(query, scratch):
        pipeline = Path(scratch) / f"{query}.sql"
        pipeline.write_text(compose(query, sink=PRINT, DATA=options.data, OUT=Path(scratch) / "out"))
        return first_line([options.tidemill, "run", pipeline, "--lanes", "2"])

    def theirs(query, scratch):
        sql = Path(scratch) / f"{query}.sql"
        sql.write_text(flink.pipeline(query, options.data, Path(scratch) / "out", sink="'connector' = 'print'"))
        return first_line(flink.command(Path(options.flink).resolve(), class_path, sql, scratch, 4096))

    def row(query):
        found = {"tidemill": [], "flink": []}
        for pair in range(options.pairs):
            for name, of in (("tidemill", ours), ("flink", theirs)):
                if name == "flink" and not class_path:
                    continue
                with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
                    found[name].append(of(query, scratch) * 1000)
                tell(f"first {query} {name} {pair + 1}/{options.pairs}: {found[name][-1]:.0f} ms")
        mine = statistics.median(found["tidemill"])
        other = f"{statistics.median(found['flink']):,.0f}" if found["flink"] else "-"
        return f"| {query} | **{mine:.0f}** | {verdict(FIRST_GOAL_MS, mine <= FIRST_GOAL_MS)} | {other} |"

    warm(options.data)
    head = ["| query | tidemill, ms | goal | Flink, ms |", "|---" * 4 + "|"]
    return head + rows(options.queries or FIRST, row) + ["", seen(f"{options.pairs} runs each", "the first row that is printed")]


def first_line(command):
    """The seconds from the start of a command to the first line that it prints; then it is stopped."""
    with tempfile.TemporaryFile() as stderr:
        started = time.monotonic()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL)
        line = child.stdout.readline()
        seconds = time.monotonic() - started
        child.kill()
        child.stdout.close()
        child.wait()
        if not line:
            stderr.seek(0)
            raise RuntimeError(f"it printed nothing:\n{stderr.read().decode(errors='replace')}")
    return seconds


def memory(options):
    def row(query):
        raw = int(measure([sys.executable, HERE / "peers" / "kept.py", query, options.data])[0])
        peak = median([run(options, query, options.data, 2) for _ in range(options.pairs)], lambda one: one["peak_bytes"])
        most = MEMORY_GOAL * raw + MEMORY_BESIDE
        tell(f"memory {query}: {raw / 1e6:,.0f} MB to keep, peak {peak / 1e6:,.0f} MB")
        return f"| {query} | {raw / 1e6:,.0f} | **{peak / 1e6:,.0f}** | {verdict(most / 1e6, peak <= most)} |"

    head = ["| query | to keep, MB | peak MB | goal |", "|---" * 4 + "|"]
    return head + rows(options.queries or kept.KEPT, row) + [
        "", seen(f"{count_events(options.data):,} events", "2 lanes", f"{options.pairs} runs each")]


PARTS = {"growth": growth, "lanes": lanes, "skew": skew, "first": first, "memory": memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with person, auction and bid (make nexmark-data)")
    parser.add_argument("--tidemill", default=HERE.parent / "target" / "release" / "tidemill")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    parser.add_argument("--queries", type=lambda names: names.split(","), help="in place of each part's own, comma-separated")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each kind for each query, in turn")
    parser.add_argument("--generated", help="growth: numbers of events, made by the generator, comma-separated")
    parser.add_argument("--skew-events", type=int, default=2_000_000, help="skew: the first events, a multiple of fifty")
    parser.add_argument("--flink", help="first: folder with Flink's jars (tools/flink-libs.sh)")
    parser.add_argument("--busy", action="store_true", help="measure wall times though the machine is not idle")
    parser.add_argument("--scratch", default=tempfile.gettempdir(), help="where derived events are put, and stay")
    parser.add_argument("--seconds-max", type=float, default=900, help="the longest that a run may take")
    parser.add_argument("--write", action="store_true", help="write the tables into bench/RESULTS.md")
    options = parser.parse_args()
    options.data = str(Path(with_side_input(options.data)).resolve())
    for part in options.parts.split(","):
        table = PARTS[part](options)
        print("\n".join([f"{part}:", *table, ""]), flush=True)
        if options.write:
            write_table(f"scaling-{part}", table)


if __name__ == "__main__":
    main()
