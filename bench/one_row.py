#!/usr/bin/env python3
"""Measures what one row costs tidemill when nothing else is going on.

Rows go to the pipeline's standard input one at a time, with a pause after each, so that every row is a step of its own:
read, decoded, filtered, counted, and every second row closes a window that goes to the sink. What counts is the CPU
time of all threads, from the scheduler's account; what the process takes in as much time without rows is taken off.

usage: bench/one_row.py [--tidemill BINARY] [--rows 2000] [--pause-ms 2] [--write]
"""

import argparse
import datetime
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measured import HERE, commit, machine, write_table


def cpu_nanoseconds(pid):
    """CPU time of all threads of a process. Threads must live on, or their time would be lost."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads)


def measure(options):
    """Microseconds of CPU a row, and what an idle process takes in the same time, a row's share of it."""
    pause = options.pause_ms / 1000
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen([options.tidemill, "run", HERE / "one_row.sql", "--lanes", "1"],
                                 stdin=subprocess.PIPE, stdout=log, stderr=log)
        start = datetime.datetime(2026, 1, 1)

        def send(number):
            at = (start + datetime.timedelta(milliseconds=500 * number)).isoformat(timespec="milliseconds").replace("T", " ")
            child.stdin.write(f'{{"sensor":{number % 7},"degrees":{31 + number % 9},"at_time":"{at}"}}\n'.encode())
            child.stdin.flush()
            time.sleep(pause)

        time.sleep(1)
        for number in range(200):
            send(number)
        before = cpu_nanoseconds(child.pid)
        for number in range(200, 200 + options.rows):
            send(number)
        after = cpu_nanoseconds(child.pid)
        time.sleep(pause * options.rows)
        idle = cpu_nanoseconds(child.pid) - after
        child.stdin.close()
        if child.wait() != 0:
            log.seek(0)
            sys.exit(log.read().decode())
    return (after - before) / options.rows / 1000, idle / options.rows / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tidemill", default=HERE.parent / "target" / "release" / "tidemill")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--pause-ms", type=float, default=2)
    parser.add_argument("--write", action="store_true", help="write the figure into bench/RESULTS.md")
    options = parser.parse_args()
    busy, idle = measure(options)
    lines = [
        f"**{busy - idle:.0f} us** of CPU a row ({busy:.0f} us with rows, {idle:.0f} us without), goal 100 us.",
        "",
        f"{datetime.date.today()}, commit {commit()}, {machine()}, {options.rows:,} rows, {options.pause_ms:g} ms apart.",
    ]
    print("\n".join(lines))
    if options.write:
        write_table("one-row", lines)


if __name__ == "__main__":
    main()
