#!/usr/bin/env python3
"""Measures the NDJSON decoder beside arrow-json's, and writes what it prints into bench/RESULTS.md.

usage: bench/decoder.py [--write]
"""

import datetime
import subprocess
import sys

from measured import HERE, commit, machine, write_table


def main():
    command = ["cargo", "bench", "--locked", "-p", "tidemill-format", "--bench", "ndjson"]
    printed = subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = ["```", printed.strip(), "```", "", f"{datetime.date.today()}, commit {commit()}, {machine()}."]
    print("\n".join(lines))
    if "--write" in sys.argv[1:]:
        write_table("decoder", lines)


if __name__ == "__main__":
    main()
