#!/usr/bin/env python3
"""Measures what a request costs tidemill's doors, beside servers that do as much or less.

Each server runs on one core and the client on the other, in turn (A B A B), so that what disturbs the machine disturbs
all alike. What counts is the server's CPU time, of all its threads, from the scheduler's account; the ratio to the
ceiling is that of neighbouring runs, and its interval that of the median (binomial, 95 %).

usage: bench/gateway.py [--pairs 15] [--seconds 2] [--loads c64,p16] [--servers fast,ceiling] [--write]
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measured import HERE, commit, machine, write_table

SERVER_CORE, CLIENT_CORE = "0", "1"
PORT = 18100

# Each load: connections, requests at once, events in a request, HTTP/2 streams (0 for HTTP/1.1), target.
LOADS = {
    "c64": ("keep-alive, 64 connections", 64, 1, 1, 0, "/v1/sources/logs"),
    "c256": ("keep-alive, 256 connections", 256, 1, 1, 0, "/v1/sources/logs"),
    "p16": ("pipeline 16, 64 connections", 64, 16, 1, 0, "/v1/sources/logs"),
    "d64": ("decisions, 64 connections", 64, 1, 1, 0, "/v1/endpoints/echo"),
    "d16": ("decisions, pipeline 16", 64, 16, 1, 0, "/v1/endpoints/echo"),
    "nd100": ("100 lines a body", 64, 1, 100, 0, "/v1/sources/logs"),
    "nd1000": ("1,000 lines a body", 16, 1, 1000, 0, "/v1/sources/logs"),
    "h2": ("HTTP/2, 16 connections x 16 streams", 16, 1, 1, 16, "/v1/sources/logs"),
}

# Each server: its name in the table, its program, and the loads it stands.
PLAIN = {"c64", "c256", "p16"}
BODIES = {"nd100", "nd1000"}
DECISIONS = {"d64", "d16"}
SERVERS = {
    "ceiling": ("fixed reply, epoll (the ceiling)", "{peers}/ceiling {port}", PLAIN | DECISIONS),
    "fast": ("**tidemill, fast stack**", "{intake} fast {port} 1", PLAIN | BODIES | DECISIONS),
    "standard": ("**tidemill, standard stack**", "{intake} standard {port} 1", PLAIN | BODIES | DECISIONS | {"h2"}),
    "hyper": ("bare hyper", "{peers}/bare_hyper {port}", PLAIN | BODIES | {"h2"}),
    "axum": ("axum::serve", "{peers}/axum_serve {port}", PLAIN | BODIES),
    "fasthttp": ("Go fasthttp", "{go}/fast {port}", PLAIN | BODIES),
    "nethttp": ("Go net/http", "{go}/nethttp {port}", PLAIN | BODIES),
}


class Server:
    """A server on its core."""

    def __init__(self, name, port, options):
        self.name, self.port = name, port
        command = SERVERS[name][1].format(port=port, peers=options.peers, intake=options.intake, go=options.go)
        self.child = subprocess.Popen(["taskset", "-c", SERVER_CORE, *command.split()], env={**os.environ, "GOMAXPROCS": "1"},
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                return socket.create_connection(("127.0.0.1", port), 0.2).close()
            except OSError:
                time.sleep(0.05)
        sys.exit(f"{command} does not listen")

    def cpu_nanoseconds(self):
        """CPU time of all threads but the one that stands for the engine. Threads must live on, or their time would be lost."""
        threads = [thread for thread in Path(f"/proc/{self.child.pid}/task").glob("*")
                   if (thread / "comm").read_text() != "engine\n"]
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)

    def stop(self):
        self.child.terminate()
        self.child.wait()


def load(server, name, seconds):
    """Requests that were answered, and the client's error lines."""
    _, connections, depth, batch, streams, target = LOADS[name]
    client = ["taskset", "-c", CLIENT_CORE]
    if streams:
        event = HERE / "gateway" / "event.json"
        # h2load speaks of seconds without a count.
        command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", "--warm-up-time=0", f"-d{event}",
                   "-H", "content-type: application/json", f"http://127.0.0.1:{server.port}{target}"]
        output = subprocess.run(client + command, capture_output=True, text=True, check=True).stdout
        done = re.search(r"(\d+) succeeded, (\d+) failed", output)
        return int(done[1]), [] if done[2] == "0" else [done[0]]
    environment = {**os.environ, "PIPE": str(depth), "BATCH": str(batch), "TARGET": target}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", HERE / "gateway" / "post.lua",
               f"http://127.0.0.1:{server.port}/"]
    output = subprocess.run(client + command, capture_output=True, text=True, check=True, env=environment).stdout
    done = re.search(r"(\d+) requests in", output)
    return int(done[1]), re.findall(r"(Socket errors.*|Non-2xx.*)", output)


def measure(server, name, seconds):
    """Microseconds of CPU a request."""
    before = server.cpu_nanoseconds()
    count, errors = load(server, name, seconds)
    spent = server.cpu_nanoseconds() - before
    if errors:
        sys.exit(f"{server.name} under {name}: {errors}")
    return spent / count / 1000


def interval(values):
    """The 95 % interval of the median: the order statistics that hold it with that probability."""
    values, count = sorted(values), len(values)
    out = max(0, int((count - 1.96 * count**0.5) / 2))
    return values[out], values[-1 - out]


def table(results, pairs):
    """The table, a row a server and a column a load."""
    loads = [name for name in LOADS if any(name in found for found in results.values())]
    lines = ["| server | " + " | ".join(LOADS[name][0] for name in loads) + " |", "|---" * (len(loads) + 1) + "|"]
    for server, found in results.items():
        cells = []
        for name in loads:
            values = found.get(name)
            if not values:
                cells.append("-")
                continue
            cell = f"{statistics.median(values):.2f}"
            base = results.get("ceiling", {}).get(name) or (name in BODIES | {"h2"} and results.get("hyper", {}).get(name))
            if base and base is not values:
                ratios = [value / other for value, other in zip(values, base)]
                low, high = interval(ratios)
                cell += f" ({statistics.median(ratios):.2f}x, {low:.2f}-{high:.2f})"
            cells.append(cell)
        lines.append(f"| {SERVERS[server][0]} | " + " | ".join(cells) + " |")
    lines += ["", f"CPU microseconds of the server a request, medians of {pairs} runs in turn; in parentheses the ratio to "
              "the ceiling (bodies of many lines and HTTP/2: to bare hyper) and the 95 % interval of its median."]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    parser.add_argument("--intake", default=target / "release" / "examples" / "intake")
    parser.add_argument("--peers", default=target / "gateway-peers" / "release")
    parser.add_argument("--go", default=target / "gateway-peers" / "go")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--write", action="store_true", help="into bench/RESULTS.md")
    options = parser.parse_args()

    names = options.servers.split(",")
    servers = [Server(name, PORT + at, options) for at, name in enumerate(names)]
    results = {name: {} for name in names}
    try:
        for pair in range(options.pairs + 1):
            for name in options.loads.split(","):
                for server in servers:
                    if name in SERVERS[server.name][2]:
                        spent = measure(server, name, options.seconds if pair else 1)
                        # The first round warms up.
                        if pair:
                            results[server.name].setdefault(name, []).append(spent)
                        print(f"{pair:3} {name:7} {server.name:10} {spent:9.2f} us", file=sys.stderr, flush=True)
    finally:
        for server in servers:
            server.stop()
    lines = table(results, options.pairs)
    print("\n".join(lines))
    if options.write:
        write_table("gateway", lines + ["", f"{commit()}, {machine()}, one core for the server, the other for the client."])


if __name__ == "__main__":
    main()
