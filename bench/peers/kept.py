#!/usr/bin/env python3
"""Prints the bytes of the rows that a query has to keep.

usage: kept.py QUERY DATA

They are what it needs to go on answering, whatever comes next, as DuckDB finds them in the whole input.

Nothing says that an auction's id is never used again, so the winner of each stays; a join without bounds in time keeps every
row that may find a partner. Rows that a bound in time lets go are not counted, those under way neither.
A number or a time has eight bytes, a text its own.
"""

import sys

from batch import BIDS_IN_TIME, DAY, WINNERS, connect

KEPT = {
    "q3": [
        "SELECT id, name, city, state FROM person WHERE state IN ('or', 'id', 'ca')",
        "SELECT id, seller FROM auction WHERE category = 10",
    ],
    "q4": [f"SELECT id, category, max(price) AS price FROM ({BIDS_IN_TIME}) GROUP BY id, category"],
    "q6": [f'SELECT id, seller, price, "bid_dateTime" FROM ({WINNERS})'],
    "q9": [WINNERS],
    "q16": [f"SELECT DISTINCT channel, {DAY} AS day, {column} FROM bid" for column in ("bidder", "auction")],
    "q18": ["SELECT * EXCLUDE (place) FROM (SELECT *, row_number() OVER (PARTITION BY bidder, auction) AS place FROM bid) "
            "WHERE place = 1"],
    "q19": ["SELECT * EXCLUDE (place) FROM "
            "(SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS place FROM bid) WHERE place <= 10"],
    "q20": ["SELECT * FROM bid", "SELECT * FROM auction WHERE category = 10"],
}


def bytes_of(db, rows):
    columns = db.execute(f"DESCRIBE {rows}").fetchall()
    size = " + ".join(f'strlen("{name}")' if kind == "VARCHAR" else "8" for name, kind, *_ in columns)
    return db.execute(f"SELECT coalesce(sum({size}), 0) FROM ({rows})").fetchone()[0]


if __name__ == "__main__":
    query, data = sys.argv[1:]
    print(sum(bytes_of(connect(data, 2), rows) for rows in KEPT[query]))
