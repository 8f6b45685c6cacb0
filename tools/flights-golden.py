#!/usr/bin/env python3
"""Answers the SELECTs of examples/flights.sql in batch, with DuckDB, as the NDJSON that tidemill must print.

usage: tools/flights-golden.py > examples/flights.golden.ndjson      (needs `pip install duckdb`; `make venv` has it)
"""

import datetime
import json
from pathlib import Path

import duckdb

DATA = Path(__file__).parent.parent / "examples" / "data"

ANSWERS = [
    """SELECT carrier, date_trunc('hour', sched_dep) AS "hour", count(dep_time) AS departures,
              round(avg(dep_delay), 1) AS mean_delay, max(dep_delay) AS worst_delay
       FROM flights GROUP BY ALL HAVING count(dep_time) >= 10
       ORDER BY mean_delay DESC, carrier LIMIT 8""",
    """SELECT time_bucket(INTERVAL 30 MINUTE, sched_dep) + back * INTERVAL 30 MINUTE AS "until", count(*) AS flights,
              count(*) FILTER (WHERE dep_delay > 60) AS over_an_hour_late, max(dep_delay) AS worst_delay_minutes
       FROM flights, unnest(range(1, 7)) AS pane (back)
       WHERE origin = 'JFK' GROUP BY "until"
       HAVING "until" BETWEEN '2013-07-22 20:00:00' AND '2013-07-23 02:00:00' ORDER BY "until" LIMIT 13""",
    """WITH opened AS (
           SELECT tailnum, sched_dep, distance, CASE WHEN sched_dep - lag(sched_dep)
               OVER (PARTITION BY tailnum ORDER BY sched_dep) > INTERVAL 12 HOUR THEN 1 ELSE 0 END AS opens
           FROM flights WHERE tailnum IS NOT NULL),
       session AS (
           SELECT *, sum(opens) OVER (PARTITION BY tailnum ORDER BY sched_dep) AS number FROM opened)
       SELECT tailnum, min(sched_dep) AS "from", max(sched_dep) + INTERVAL 12 HOUR AS "until", count(*) AS departures,
              CAST(sum(distance) AS BIGINT) AS miles
       FROM session GROUP BY tailnum, number ORDER BY departures DESC, miles DESC, tailnum LIMIT 5""",
    """SELECT origin, flight_date, count(*) AS scheduled, count(*) FILTER (WHERE dep_time IS NULL) AS cancelled,
              round(100e0 * cancelled / scheduled, 1) AS per_cent
       FROM flights GROUP BY ALL ORDER BY per_cent DESC, origin LIMIT 8""",
    """WITH airport_hours AS (
           SELECT origin, sched_dep_hour, scheduled, departed, delay, visib
           FROM (SELECT origin, date_trunc('hour', sched_dep) AS sched_dep_hour, count(*) AS scheduled,
                        count(dep_time) AS departed, sum(dep_delay) AS delay FROM flights GROUP BY ALL) AS f
           JOIN (SELECT origin, time_hour AS sched_dep_hour, visib FROM weather) AS w USING (origin, sched_dep_hour)
           WHERE visib IS NOT NULL)
       SELECT CASE WHEN visib < 1 THEN '1 fog: under a mile' WHEN visib < 3 THEN '2 poor: 1 to 3 miles'
                   WHEN visib < 7 THEN '3 hazy: 3 to 7 miles' ELSE '4 clear' END AS sight,
              count(*) AS airport_hours, CAST(sum(scheduled) AS BIGINT) AS flights,
              round(CAST(sum(delay) AS DOUBLE) / sum(departed), 1) AS mean_delay,
              round(100e0 * (sum(scheduled) - sum(departed)) / sum(scheduled), 1) AS per_cent_cancelled
       FROM airport_hours GROUP BY sight ORDER BY sight LIMIT 4""",
]


def plain(value):
    return str(value) if isinstance(value, datetime.date) else value


def main():
    db = duckdb.connect()
    for table in ("flights", "weather"):
        db.execute(f"CREATE VIEW {table} AS SELECT * FROM '{DATA}/{table}.parquet'")
    for sql in ANSWERS:
        answer = db.execute(sql)
        names = [column[0] for column in answer.description]
        for values in answer.fetchall():
            print(json.dumps(dict(zip(names, map(plain, values))), separators=(",", ":")))


if __name__ == "__main__":
    main()
