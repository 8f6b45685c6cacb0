"""Runs commands, and says what they cost; puts tables into bench/RESULTS.md."""

import datetime
import os
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"


def measure(command, seconds_max=3600):
    """Runs a command and returns what it printed and what it cost, by the kernel's account of the process.

    A command that fails, or takes longer than it may, is a RuntimeError.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        started = time.monotonic()
        child = subprocess.Popen(command, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL)
        late = threading.Timer(seconds_max, child.kill)
        late.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - started
        late.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        out, err = stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace")
    if child.returncode != 0:
        how = f"was stopped after {seconds_max:.0f} s" if wall >= seconds_max else f"ended with {child.returncode}"
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} {how}:\n{(err or out)[-2000:]}")
    cost = {
        "wall_seconds": wall,
        "user_seconds": usage.ru_utime,
        "system_seconds": usage.ru_stime,
        "page_faults": usage.ru_minflt,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    return out, err, cost


def cpu(run):
    return run["user_seconds"] + run["system_seconds"]


def median(runs, of):
    return statistics.median(of(run) for run in runs)


def machine():
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} cores of {model}"


def commit():
    return subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def seen(*facts):
    """The line under a table: when, of which commit, on which machine, and what else is to be known."""
    return ", ".join([f"{datetime.date.today()}", f"commit {commit()}", machine(), *facts]) + "."


def write_table(name, lines):
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->` in RESULTS.md."""
    text = RESULTS.read_text()
    head, rest = text.split(f"<!-- {name} -->\n", 1)
    tail = rest.split(f"<!-- /{name} -->", 1)[1]
    RESULTS.write_text(f"{head}<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- /{name} -->{tail}")
