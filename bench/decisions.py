#!/usr/bin/env python3
"""Measures decisions on the built command: what one costs beside an ingest, how long it takes, whether analytics delay it,
and what happens when more come than can be answered.

The server runs on one core and the client on the other. What counts is the server's CPU time, and times of an open-loop
client: requests leave when they are due, and their time counts from then.

usage: bench/decisions.py [--tidemill BINARY] [--client OPEN_LOOP] [--pairs 5] [--seconds 4] [--parts cost,latency,isolation,overload] [--write]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from measured import HERE, commit, machine, write_table

SERVER_CORE, CLIENT_CORE = "0", "1"
PORT = 18300
BODY = '{"id":{n},"card":"c{key}","device":"d{key}","address":"a{key}","amount":12.25}'


class Tidemill:
    """The command with a pipeline, one door, and a state folder of its own."""

    def __init__(self, options, *files, stack="fast"):
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        (folder / "pipeline.sql").write_text("\n".join((HERE / "decisions" / file).read_text() for file in files))
        (folder / "doors.toml").write_text(f'[[door]]\nlisten = "127.0.0.1:{PORT}"\nstack = "{stack}"\nworkers = 1\n')
        self.log = (folder / "log").open("w+")
        self.child = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, options.tidemill, "run", "pipeline.sql", "--config", "doors.toml", "--lanes", "1",
             "--state", "kept"],
            cwd=folder, stdout=self.log, stderr=self.log)
        for _ in range(200):
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/health", timeout=1).close()
            except OSError:
                time.sleep(0.05)
                if self.child.poll() is not None:
                    break
        self.log.seek(0)
        sys.exit(f"it does not listen:\n{self.log.read()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.log.close()
        self.folder.cleanup()

    def cpu_nanoseconds(self):
        threads = Path(f"/proc/{self.child.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads)

    def peak_megabytes(self):
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.child.pid}/status").read_text())[1]) / 1000


def wrk(seconds, target, depth, keys):
    """Requests that were answered as asked."""
    environment = {**os.environ, "PIPE": str(depth), "TARGET": target, "KEYS": str(keys)}
    command = ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", "-c64", f"-d{seconds}s", "-s", HERE / "decisions" / "post.lua",
               f"http://127.0.0.1:{PORT}/"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    wrong = re.findall(r"Socket errors.*|Non-2xx.*", output)
    if wrong:
        print(f"{target}: {wrong}", file=sys.stderr)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return int(re.search(r"(\d+) requests in", output)[1]) - (int(refused[1]) if refused else 0)


def open_loop(options, rate, seconds, target="/v1/endpoints/score", port=PORT, body=BODY):
    command = ["taskset", "-c", CLIENT_CORE, options.client, f"127.0.0.1:{port}", target, "--rate", str(rate), "--seconds",
               str(seconds), "--connections", "64", "--keys", "100000", "--body", body]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def cost(options):
    """CPU microseconds of a decision and of an ingest, in turn."""
    lines = ["| load | ingest, us | decision, one key, us | ratio | goal | decision, three keys, us | ratio |", "|---" * 7 + "|"]
    for title, depth, goal in (("64 connections", 1, 1.3), ("pipeline 16", 16, 2.5)):
        found = {"ingest": [], "one": [], "three": []}
        for pair in range(options.pairs):
            for name, file, target, keys in (("ingest", "one.sql", "/v1/sources/payments", 1),
                                             ("one", "one.sql", "/v1/endpoints/score", 1),
                                             ("three", "three.sql", "/v1/endpoints/score", 3)):
                with Tidemill(options, file) as server:
                    wrk(1, target, depth, keys)
                    before = server.cpu_nanoseconds()
                    count = wrk(options.seconds, target, depth, keys)
                    found[name].append((server.cpu_nanoseconds() - before) / count / 1000)
                print(f"{title} {pair + 1}/{options.pairs} {name}: {found[name][-1]:.2f} us", file=sys.stderr)
        ingest, one, three = (statistics.median(found[name]) for name in ("ingest", "one", "three"))
        verdict = f"{goal} {'met' if one / ingest <= goal else 'missed'}"
        lines.append(f"| {title} | {ingest:.2f} | {one:.2f} | **{one / ingest:.2f}** | {verdict} | {three:.2f} | {three / ingest:.2f} |")
    return lines


def capacity(options):
    """Decisions a second that one core answers."""
    with Tidemill(options, "one.sql") as server:
        wrk(1, "/v1/endpoints/score", 1, 1)
        return wrk(options.seconds, "/v1/endpoints/score", 1, 1) / options.seconds


def latency(options):
    lines = ["| server | requests/s | p50 us | p99 us | p99.9 us |", "|---" * 5 + "|"]
    rate = int(capacity(options) * 0.6)
    event = (HERE / "gateway" / "event.json").read_text()
    found = {"tidemill, decisions": [], "Go fasthttp, echo": []}
    for _ in range(options.pairs):
        with Tidemill(options, "one.sql"):
            open_loop(options, rate, 1)
            found["tidemill, decisions"].append(open_loop(options, rate, options.seconds))
        if Path(options.fasthttp).exists():
            peer = subprocess.Popen(["taskset", "-c", SERVER_CORE, options.fasthttp, str(PORT + 1)],
                                    env={**os.environ, "GOMAXPROCS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.5)
            found["Go fasthttp, echo"].append(open_loop(options, rate, options.seconds, "/v1/sources/logs", PORT + 1, event))
            peer.kill()
            peer.wait()
    for name, runs in found.items():
        if runs:
            middle = [statistics.median(run[f"{at}_us"] for run in runs) for at in ("p50", "p99", "p999")]
            lines.append(f"| {name} | {rate:,} | " + " | ".join(f"{value:,.0f}" for value in middle) + " |")
    return lines


def isolation(options):
    lines = ["| beside the endpoint | requests/s | p50 us | p99 us |", "|---" * 4 + "|"]
    rate = int(capacity(options) * 0.2)
    found = {"nothing": [], "q16 and a million groups": []}
    for _ in range(options.pairs):
        for name, files in (("nothing", ["one.sql"]), ("q16 and a million groups", ["one.sql", "beside.sql"])):
            with Tidemill(options, *files):
                open_loop(options, rate, 1)
                found[name].append(open_loop(options, rate, max(options.seconds, 12)))
            print(f"isolation, {name}: p99 {found[name][-1]['p99_us']} us", file=sys.stderr)
    middle = {name: [statistics.median(run[f"{at}_us"] for run in runs) for at in ("p50", "p99")] for name, runs in found.items()}
    for name, (half, most) in middle.items():
        lines.append(f"| {name} | {rate:,} | {half:,.0f} | {most:,.0f} |")
    ratio = middle["q16 and a million groups"][1] / middle["nothing"][1]
    lines += ["", f"The ratio of the p99 is **{ratio:.2f}**, the goal 2 {'met' if ratio <= 2 else 'missed'}."]
    return lines


def overload(options):
    lines = ["| offered | answered by the rule/s | of the peak | fallbacks | refused | unanswered | p99 us | peak MB |", "|---" * 8 + "|"]
    with Tidemill(options, "one.sql") as server:
        # What it answers at once when there is always more to do; requests that wait for nobody come in larger steps.
        base = wrk(options.seconds, "/v1/endpoints/score", 16, 1) / options.seconds
        peak = 0
        for share in (0.8, 1, 3, 0.8):
            run = open_loop(options, int(base * share), options.seconds)
            good = run["good"] / options.seconds
            peak = max(peak, good)
            refused = sum(count for status, count in run["statuses"].items() if not status.startswith("2"))
            lines.append(f"| {share:.1f} x | {good:,.0f} | {good / peak:.2f} | {run['fallbacks']:,} | {refused:,} | "
                         f"{run['unanswered'] + run['hung_up']:,} | {run['p99_us']:,} | {server.peak_megabytes():.0f} |")
    return lines


PARTS = {"cost": cost, "latency": latency, "isolation": isolation, "overload": overload}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = HERE.parent / "target"
    parser.add_argument("--tidemill", default=str(target / "release" / "tidemill"))
    parser.add_argument("--client", default=str(target / "release" / "examples" / "open_loop"))
    parser.add_argument("--fasthttp", default=str(target / "gateway-peers" / "go" / "fast"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--write", action="store_true", help="write the tables into bench/RESULTS.md")
    options = parser.parse_args()
    options.tidemill = str(Path(options.tidemill).resolve())
    for part in options.parts.split(","):
        lines = PARTS[part](options)
        note = f"{time.strftime('%Y-%m-%d')}, commit {commit()}, {machine()}, {options.pairs} runs of {options.seconds} s in turn."
        print("\n".join([*lines, "", note]), flush=True)
        if options.write:
            write_table(f"decisions-{part}", [*lines, "", note])


if __name__ == "__main__":
    main()
