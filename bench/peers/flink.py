"""Apache Flink as a peer: one process a run, with the whole cluster in it.

The queries are ours, in Flink's dialect; what is not Flink's is the digest of the sink, which is left out, and that a file
can be looked up in (q13), for which `flink/SideInput.java` stands in.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from compose import BLACKHOLE, compose  # noqa: E402
from measured import measure  # noqa: E402

# Heaps are tried in steps of so many megabytes.
HEAP_STEP = 512

OPENED = ["java.util", "java.util.concurrent", "java.lang", "java.lang.reflect", "java.net", "java.nio", "java.text", "java.time"]


def prepare(libs, scratch):
    """Compiles the peer against the jars in `libs`/lib (tools/flink-libs.sh); returns the class path."""
    if not list((Path(libs) / "lib").glob("flink-dist-*.jar")):
        raise RuntimeError(f"{libs}/lib has no Flink; tools/flink-libs.sh {libs} fetches it")
    classes = Path(scratch) / "flink-classes"
    sources = sorted((HERE / "flink").glob("*.java"))
    done = subprocess.run(["javac", "-nowarn", "-cp", f"{libs}/lib/*", "-d", classes, *sources], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the Flink peer does not compile (it needs Java 17):\n{done.stderr}")
    services = classes / "META-INF" / "services"
    services.mkdir(parents=True, exist_ok=True)
    for file in (HERE / "flink" / "META-INF" / "services").iterdir():
        (services / file.name).write_text(file.read_text())
    return f"{classes}:{Path(libs).resolve()}/lib/*"


def pipeline(query, data, out, sink=BLACKHOLE):
    """The text of a query for Flink."""
    text = compose(query, sink=sink, DATA=data, OUT=out).replace(", 'digest' = 'true'", "")
    return re.sub(r"(CREATE TABLE side_input .*?'connector' = )'filesystem'", r"\1'side-input'", text, flags=re.S)


def command(libs, class_path, sql, scratch, heap_megabytes, parallelism=2):
    """The command that runs a file of SQL on a heap of at most so many megabytes."""
    opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
    return ["java", f"-Xmx{heap_megabytes}m", "-XX:+UseParallelGC", "-XX:+ExitOnOutOfMemoryError", "-Duser.timezone=UTC",
            f"-Dlog4j.configurationFile={libs}/log4j2.properties", f"-Djava.io.tmpdir={scratch}", *opens,
            "-cp", class_path, "Peer", str(sql), str(parallelism), str(scratch)]


def run(libs, class_path, query, data, scratch, heap_megabytes, seconds_max):
    """What a query costs; a RuntimeError when it does not finish."""
    sql = Path(scratch) / f"{query}.flink.sql"
    sql.write_text(pipeline(query, data, Path(scratch) / "out"))
    _, err, cost = measure(command(libs, class_path, sql, scratch, heap_megabytes), seconds_max)
    told = [line for line in err.splitlines() if line.startswith('{"job_seconds"')]
    return {**cost, **json.loads(told[-1]), "heap_megabytes": heap_megabytes}


def smallest_heap(attempt, most):
    """The run on the smallest heap that is enough, in steps; `attempt(heap)` is a run, or none when it did not finish."""
    enough, low, high = None, 0, HEAP_STEP
    while enough is None:
        if high > most:
            raise RuntimeError(f"it does not finish with {most} MB")
        enough = attempt(high)
        low, high = (low, high) if enough else (high, high * 2)
    while high - low > HEAP_STEP:
        middle = (low + high) // 2 // HEAP_STEP * HEAP_STEP
        if found := attempt(middle):
            enough, high = found, middle
        else:
            low = middle
    return enough
