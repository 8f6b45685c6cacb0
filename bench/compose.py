"""Puts a Nexmark query behind the tables it reads, and fills in the placeholders."""

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEXMARK = HERE / "nexmark"

QUERIES = [f"q{number}" for number in range(24)]

# The options of every query's sink but q10's, which writes files.
BLACKHOLE = "'connector' = 'blackhole', 'digest' = 'true'"


def compose(query, tables="tables.sql", sink=BLACKHOLE, **placeholders):
    """The pipeline of a query: `tables` and the query's file, with `sink` as the options of its sink, and `${NAME}` replaced
    by each placeholder's value."""
    text = (NEXMARK / tables).read_text() + "\n" + (NEXMARK / f"{query}.sql").read_text()
    text = text.replace(BLACKHOLE, sink)
    for name, value in placeholders.items():
        text = text.replace("${" + name + "}", str(value))
    return text


def refusal(tidemill, pipeline):
    """Why the pipeline in a file cannot be run, in one line; none when it can."""
    done = subprocess.run([tidemill, "check", pipeline], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return said[0] if said else f"`check` ended with {done.returncode}"
