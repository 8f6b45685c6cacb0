#!/usr/bin/env python3
"""Measures what an event costs that comes over a stream of gRPC, beside the same events as lines over HTTP.

The built command runs with one source, whose events survive the process, on one core; the client has the other. A message
and a body have as many events, as JSON lines in both, and as packed columns over gRPC. What counts is the CPU time of the
whole process an event, door, decoder, journal and circuit together.

usage: bench/grpc_stream.py [--tidemill BINARY] [--pairs 5] [--messages 300] [--events 100] [--write]
"""

import argparse
import http.client
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measured import HERE, commit, machine, write_table

PORT = 18500
SQL = """CREATE TABLE logs (ts BIGINT, level STRING, service STRING, user_id BIGINT, latency DOUBLE, status INT)
WITH ('connector' = 'http', 'durability' = 'process');
CREATE MATERIALIZED VIEW levels AS SELECT level, COUNT(*) AS n, MAX(latency) AS slowest FROM logs GROUP BY level;
"""
LINE = '{"ts":%d,"level":"INFO","service":"payment-gateway","user_id":88123451,"latency":12.75,"status":200}\n'


def compiled(tidemill, folder):
    """The modules of the services and of the table, made by the compiler of Protocol Buffers."""
    from grpc_tools import protoc

    subprocess.run([tidemill, "proto", "logs", "p.sql", "--out", "proto"], cwd=folder, check=True, capture_output=True)
    files = [str(file) for file in sorted((folder / "proto").rglob("*.proto"))]
    arguments = ["protoc", f"-I{folder / 'proto'}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]
    assert protoc.main(arguments) == 0, "the files are sound"
    sys.path.insert(0, str(folder))


def columns_of(events):
    from tidemill.tables import logs_pb2

    columns = logs_pb2.LogsColumns(rows=events)
    columns.ts.extend(range(events))
    columns.level.extend(["INFO"] * events)
    columns.service.extend(["payment-gateway"] * events)
    columns.user_id.extend([88123451] * events)
    columns.latency.extend([12.75] * events)
    columns.status.extend([200] * events)
    return columns.SerializeToString()


def over_grpc(options, **rows):
    """Pushes messages on one stream, and waits for all acknowledgements."""
    import grpc
    from tidemill.v1 import common_pb2, ingest_pb2, ingest_pb2_grpc

    def messages():
        for number in range(options.messages):
            yield ingest_pb2.PushRequest(source="" if number else "logs", durability=common_pb2.DURABILITY_PROCESS, id=number, **rows)

    with grpc.insecure_channel(f"127.0.0.1:{PORT}") as channel:
        acks = list(ingest_pb2_grpc.IngestStub(channel).PushStream(messages(), timeout=120))
    assert sum(ack.accepted for ack in acks) == options.messages * options.events


def over_http(options, body):
    client = http.client.HTTPConnection("127.0.0.1", PORT)
    for _ in range(options.messages):
        client.request("POST", "/v1/sources/logs", body, {"content-type": "application/x-ndjson"})
        answer = client.getresponse()
        answer.read()
        assert answer.status == 202, answer.status


def spent(options, folder, push):
    """CPU nanoseconds of the process while events are pushed and counted."""
    command = ["taskset", "-c", "0", options.tidemill, "run", "p.sql", "--lanes", "1", "--state", "kept", "--listen", f"127.0.0.1:{PORT}"]
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = http.client.HTTPConnection("127.0.0.1", PORT)
        for _ in range(200):
            try:
                client.request("GET", "/v1/health")
                client.getresponse().read()
                break
            except OSError:
                client.close()
                time.sleep(0.05)

        def clock():
            threads = Path(f"/proc/{running.pid}/task").glob("*/schedstat")
            return sum(int(thread.read_text().split()[0]) for thread in threads)

        push()
        before = clock()
        push()
        return clock() - before
    finally:
        running.kill()
        running.wait()
        shutil.rmtree(folder / "kept", ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tidemill", default=HERE.parent / "target" / "release" / "tidemill")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=300, help="messages of a run")
    parser.add_argument("--events", type=int, default=100, help="events of a message")
    parser.add_argument("--write", action="store_true", help="write the table into bench/RESULTS.md")
    options = parser.parse_args()
    options.tidemill = Path(options.tidemill).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "p.sql").write_text(SQL)
        compiled(options.tidemill, folder)
        lines, packed = "".join(LINE % number for number in range(options.events)).encode(), columns_of(options.events)
        ways = {
            "HTTP/1.1, NDJSON": lambda: over_http(options, lines),
            "gRPC stream, NDJSON": lambda: over_grpc(options, json=lines),
            "gRPC stream, packed columns": lambda: over_grpc(options, columns=packed),
        }
        found = {name: [] for name in ways}
        for _ in range(options.pairs):
            for name, push in ways.items():
                found[name].append(spent(options, folder, push) / options.messages / options.events)
                print(f"{name}: {found[name][-1]:.0f} ns an event", file=sys.stderr)
    base = statistics.median(found["HTTP/1.1, NDJSON"])
    table = [f"| way, {options.events} events at once | CPU ns an event | ratio |", "|---|---|---|"]
    for name, values in found.items():
        middle = statistics.median(values)
        table.append(f"| {name} | {middle:,.0f} ({min(values):,.0f}-{max(values):,.0f}) | {middle / base:.2f} |")
    table += ["", f"{commit()}, {machine()}, {options.pairs} runs of {options.messages} messages in turn."]
    print("\n".join(table))
    if options.write:
        write_table("grpc", table)


if __name__ == "__main__":
    main()
