"""The batch form of each Nexmark query, as DuckDB reads it, over the NDJSON files that nexmark/tables.sql names.

Columns have the names and types of the query's sink, so that `check.py` can compare rows. q12 counts by processing time
and has no batch form.
"""

TABLES = {
    "person": {
        "id": "BIGINT", "name": "VARCHAR", "emailAddress": "VARCHAR", "creditCard": "VARCHAR", "city": "VARCHAR",
        "state": "VARCHAR", "dateTime": "TIMESTAMP_MS", "extra": "VARCHAR",
    },
    "auction": {
        "id": "BIGINT", "itemName": "VARCHAR", "description": "VARCHAR", "initialBid": "BIGINT", "reserve": "BIGINT",
        "dateTime": "TIMESTAMP_MS", "expires": "TIMESTAMP_MS", "seller": "BIGINT", "category": "BIGINT",
        "extra": "VARCHAR",
    },
    "bid": {
        "auction": "BIGINT", "bidder": "BIGINT", "price": "BIGINT", "channel": "VARCHAR", "url": "VARCHAR",
        "dateTime": "TIMESTAMP_MS", "extra": "VARCHAR",
    },
}

DAY = """strftime("dateTime", '%Y-%m-%d')"""

# The three price bands of q15 to q17.
BANDS = ("price < 10000", "price >= 10000 AND price < 1000000", "price >= 1000000")


def banded(aggregate, name):
    """An aggregate over all rows, then over each price band."""
    each = [f"{aggregate} FILTER (WHERE {band}) AS rank{i}_{name}" for i, band in enumerate(BANDS, 1)]
    return ", ".join([f"{aggregate} AS total_{name}", *each])


STATISTICS = ", ".join([
    banded("count(*)", "bids"), banded("count(DISTINCT bidder)", "bidders"), banded("count(DISTINCT auction)", "auctions"),
])

EURO = "CAST(0.908 * price AS DECIMAL(23, 3))"

CHANNEL_ID = r"'(&|^)channel_id=([^&]*)'"

QUERIES = {
    "q0": 'SELECT auction, bidder, price, "dateTime", extra FROM bid',
    "q1": f'SELECT auction, bidder, {EURO} AS price, "dateTime", extra FROM bid',
    "q2": "SELECT auction, price FROM bid WHERE auction % 123 = 0",
    "q10": f"""SELECT auction, bidder, price, "dateTime", extra, {DAY} AS dt, strftime("dateTime", '%H:%M') AS hm FROM bid""",
    # A session ends when more than ten seconds pass.
    "q11": """
        SELECT bidder, count(*) AS bid_count, min("dateTime") AS starttime, max("dateTime") + INTERVAL 10 SECOND AS endtime
        FROM (
            SELECT bidder, "dateTime", sum(opens) OVER (PARTITION BY bidder ORDER BY "dateTime" ROWS UNBOUNDED PRECEDING) AS session
            FROM (
                SELECT bidder, "dateTime", CASE WHEN "dateTime" - lag("dateTime")
                    OVER (PARTITION BY bidder ORDER BY "dateTime") > INTERVAL 10 SECOND THEN 1 ELSE 0 END AS opens
                FROM bid
            )
        )
        GROUP BY bidder, session""",
    "q14": f"""
        SELECT auction, bidder, {EURO} AS price,
            CASE WHEN hour("dateTime") BETWEEN 8 AND 18 THEN 'dayTime'
                 WHEN hour("dateTime") <= 6 OR hour("dateTime") >= 20 THEN 'nightTime'
                 ELSE 'otherTime' END AS "bidTimeType",
            "dateTime", extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
        FROM bid WHERE {EURO} > 1000000 AND {EURO} < 50000000""",
    "q15": f'SELECT {DAY} AS "day", {STATISTICS} FROM bid GROUP BY 1',
    "q16": f"""SELECT channel, {DAY} AS "day", max(strftime("dateTime", '%H:%M')) AS "minute", {STATISTICS} FROM bid GROUP BY 1, 2""",
    "q17": f"""
        SELECT auction, {DAY} AS "day", {banded('count(*)', 'bids')}, min(price) AS min_price, max(price) AS max_price,
            CAST(sum(price) // count(*) AS BIGINT) AS avg_price, CAST(sum(price) AS BIGINT) AS sum_price
        FROM bid GROUP BY 1, 2""",
    "q21": f"""
        SELECT auction, bidder, price, channel,
            CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                ELSE regexp_extract(url, {CHANNEL_ID}, 2) END AS channel_id
        FROM bid
        WHERE regexp_matches(url, {CHANNEL_ID}) OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')""",
    "q22": """
        SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2,
            split_part(url, '/', 6) AS dir3
        FROM bid""",
}


def connect(data, threads):
    """A DuckDB connection with the three tables as views over the files under `data`."""
    import duckdb

    db = duckdb.connect()
    db.execute(f"SET threads = {threads}; SET memory_limit = '8GB'; SET enable_progress_bar = false")
    for table, columns in TABLES.items():
        types = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
        db.execute(
            f"CREATE VIEW {table} AS SELECT * FROM "
            f"read_json('{data}/{table}/*', format = 'newline_delimited', columns = {{{types}}})"
        )
    return db
