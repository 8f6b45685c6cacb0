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
DEADLINE_MS = 50
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


def verdict(holds):
    return "met" if holds else "missed"


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
        lines.append(f"| {title} | {ingest:.2f} | {one:.2f} | **{one / ingest:.2f}** | {goal} {verdict(one / ingest <= goal)} | "
                     f"{three:.2f} | {three / ingest:.2f} |")
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
    lines += ["", f"The ratio of the p99 is **{ratio:.2f}**, the goal 2 {verdict(ratio <= 2)}."]
    return lines


def phases(options, *loads):
    """Runs loads of (requests a second, seconds) one after another on the same connections; gives what became of each."""
    given = ",".join(f"{int(rate)}x{seconds}" for rate, seconds in loads)
    command = ["taskset", "-c", CLIENT_CORE, options.client, f"127.0.0.1:{PORT}", "/v1/endpoints/score", "--phases", given,
               "--connections", "64", "--keys", "100000", "--body", BODY, "--within-ms", str(DEADLINE_MS)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found if isinstance(found, list) else [found]


def peak(options):
    """The most answers by the rule a second, within its deadline: the load grows by a quarter until a tenth of it is not, twice."""
    rate, best, failed = 8_000, 0, False
    while True:
        [run] = phases(options, (rate, options.seconds))
        best = max(best, run["in_time"] / options.seconds)
        print(f"overload, {rate:,.0f}/s: {run['in_time'] / options.seconds:,.0f} in time, p99 {run['all_p99_us']:,} us, "
              f"sent late by {run['late_p99_us']:,} us", file=sys.stderr)
        if run["in_time"] >= 0.9 * run["sent"]:
            rate, failed = rate * 1.25, False
        elif failed:
            return best
        else:
            # Once may be somebody else's doing.
            failed = True


def recovered(run, rate):
    """Milliseconds after which the rule answers nine of ten requests in time, for good."""
    share = [count / (rate / 10) for count in run["tenths"][:int(run["seconds"] * 10)]]
    return 100 * (max((at for at, one in enumerate(share) if one < 0.9), default=-1) + 1)


def overload(options):
    """A rule so heavy that a core of a client can ask for three times what a core answers."""
    lines = ["| offered | requests/s | answered by the rule in time/s | of the peak | fallbacks/s | refused/s "
             "| all answers in time | p99 of the rule, ms | p99 of all answers, ms | sent late, p99 ms | peak MB |", "|---" * 11 + "|"]
    seconds = options.seconds
    with Tidemill(options, "heavy.sql") as server:
        # A decision costs more while the windows of its features fill: the peak is that of full ones.
        phases(options, (10_000, 60))
        best = peak(options)
        [before], usual = phases(options, (best * 0.8, seconds)), server.peak_megabytes()
        over, after = phases(options, (best * 3, seconds), (best * 0.8, seconds))
        most = server.peak_megabytes()
    for share, run, memory in ((0.8, before, usual), (3, over, most), (0.8, after, most)):
        refused = sum(count for status, count in run["statuses"].items() if not status.startswith("2"))
        lines.append(f"| {share:.1f} x | {best * share:,.0f} | {run['in_time'] / seconds:,.0f} | {run['in_time'] / seconds / best:.2f} "
                     f"| {run['fallbacks'] / seconds:,.0f} | {refused / seconds:,.0f} | {run['all_in_time'] / run['sent']:.2%} "
                     f"| {run['p99_us'] / 1000:.1f} | {run['all_p99_us'] / 1000:.1f} | {run['late_p99_us'] / 1000:.1f} | {memory:.0f} |")
    good, within = over["in_time"] / seconds / best, over["all_in_time"] / over["sent"]
    pause = recovered(after, best * 0.8)
    lines += [
        "",
        f"The peak is {best:,.0f} a second; {DEADLINE_MS} ms is the deadline, and what is not answered within it counts against the share.",
        "",
        f"- At three times the peak the rule answers **{good:.0%}** of it in time; the goal, 80 %, is {verdict(good >= 0.8)}.",
        f"- **{within:.1%}** of all requests have an answer in time, the rule's or the fallback; the goal, 99 %, is {verdict(within >= 0.99)}.",
        f"- Memory peaks at {most:.0f} MB, {most - usual:.0f} MB above what 0.8 of the peak takes.",
        f"- {pause} ms after the overload the rule answers as before it; the goal, 1 s, is {verdict(pause <= 1000)}.",
    ]
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
