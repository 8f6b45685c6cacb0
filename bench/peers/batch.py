"""The batch form of each Nexmark query, as DuckDB reads it, over the NDJSON files that nexmark/tables.sql names.

Columns have the names of the query's sink, so that `check.py` can compare rows. q12 counts by processing time and has no
batch form.
"""

import duckdb

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

# The columns of each auction and of a bid on it while it was open.
BIDS_IN_TIME = """
        SELECT a.*, b.auction, b.bidder, b.price, b."dateTime" AS "bid_dateTime", b.extra AS bid_extra
        FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b."dateTime" BETWEEN a."dateTime" AND a.expires"""

# Each auction with its highest bid, the first of equal ones; of those of one millisecond any.
WINNERS = f"""
        SELECT * EXCLUDE (place) FROM (
            SELECT *, row_number() OVER (PARTITION BY id ORDER BY price DESC, "bid_dateTime") AS place FROM ({BIDS_IN_TIME})
        ) WHERE place = 1"""


def bucket(seconds):
    """The start of the tumbling window that `dateTime` is in."""
    return f"""time_bucket(INTERVAL '{seconds} seconds', "dateTime")"""


QUERIES = {
    "q0": 'SELECT auction, bidder, price, "dateTime", extra FROM bid',
    "q1": f'SELECT auction, bidder, {EURO} AS price, "dateTime", extra FROM bid',
    "q2": "SELECT auction, price FROM bid WHERE auction % 123 = 0",
    "q3": """
        SELECT p.name, p.city, p.state, a.id FROM auction AS a JOIN person AS p ON a.seller = p.id
        WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca')""",
    "q4": f"""
        SELECT category, CAST(sum(final) // count(*) AS BIGINT) AS avg_final
        FROM (SELECT max(price) AS final, category FROM ({BIDS_IN_TIME}) GROUP BY id, category)
        GROUP BY category""",
    # A window is five panes of two seconds.
    "q5": f"""
        WITH pane AS (SELECT auction, {bucket(2)} AS pane, count(*) AS bids FROM bid GROUP BY 1, 2),
        counted AS (
            SELECT auction, pane - back * INTERVAL 2 SECOND AS window_start, CAST(sum(bids) AS BIGINT) AS num
            FROM pane CROSS JOIN (SELECT unnest(range(5)) AS back) GROUP BY 1, 2
        )
        SELECT auction, num FROM (SELECT *, max(num) OVER (PARTITION BY window_start) AS most FROM counted) WHERE num >= most""",
    "q6": f"""
        SELECT seller, CAST(sum(price) // count(*) AS BIGINT) AS avg_price
        FROM (SELECT seller, price, row_number() OVER (PARTITION BY seller ORDER BY "bid_dateTime" DESC, id DESC) AS last
              FROM ({WINNERS}))
        WHERE last <= 10 GROUP BY seller""",
    "q7": f"""
        SELECT b.auction, b.bidder, b.price, b."dateTime", b.extra
        FROM bid AS b JOIN (
            SELECT max(price) AS most, {bucket(10)} + INTERVAL 10 SECOND AS window_end FROM bid GROUP BY window_end
        ) AS m ON b.price = m.most
        WHERE b."dateTime" BETWEEN m.window_end - INTERVAL 10 SECOND AND m.window_end""",
    "q8": f"""
        SELECT p.id, p.name, p.starttime
        FROM (SELECT DISTINCT id, name, {bucket(10)} AS starttime FROM person) AS p
        JOIN (SELECT DISTINCT seller, {bucket(10)} AS starttime FROM auction) AS a
            ON p.id = a.seller AND p.starttime = a.starttime""",
    "q9": WINNERS,
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
    "q13": """
        SELECT b.auction, b.bidder, b.price, b."dateTime", s."value"
        FROM bid AS b JOIN side_input AS s ON s."key" = b.auction % 10000""",
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
    "q18": """
        SELECT * EXCLUDE (place)
        FROM (SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY "dateTime" DESC) AS place FROM bid)
        WHERE place = 1""",
    "q19": """
        SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid)
        WHERE rank_number <= 10""",
    "q20": """
        SELECT b.auction, b.bidder, b.price, b.channel, b.url, b."dateTime" AS "bid_dateTime", b.extra AS bid_extra,
            a."itemName", a.description, a."initialBid", a.reserve, a."dateTime" AS "auction_dateTime", a.expires, a.seller,
            a.category, a.extra AS auction_extra
        FROM bid AS b JOIN auction AS a ON b.auction = a.id WHERE a.category = 10""",
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
    "q23": """
        SELECT b.bidder, b.price, b.channel, b.url, b.extra AS bid_extra, p.id AS person_id, p.name, p."emailAddress",
            p."creditCard", p.city, p.state, p.extra AS person_extra, a."itemName", a.description, a."initialBid", a.reserve,
            a."dateTime" AS "auction_dateTime", a.expires, a.seller, a.category, a.extra AS auction_extra
        FROM bid AS b JOIN person AS p ON p.id = b.bidder JOIN auction AS a ON a.seller = b.bidder""",
}

# Where rows are equal by what orders them, any may be the answer: the columns that have one answer all the same, and the rows
# that all others have to come from.
TIED = {
    "q9": (["id", "price", "bid_dateTime"], BIDS_IN_TIME),
    "q18": (["bidder", "auction", "dateTime"], "SELECT * FROM bid"),
    "q19": (["auction", "rank_number", "price"], "SELECT * FROM bid"),
}


def connect(data, threads):
    """A DuckDB connection with the tables as views over the files under `data`."""
    db = duckdb.connect()
    db.execute(f"SET threads = {threads}; SET memory_limit = '8GB'; SET enable_progress_bar = false")
    for table, columns in TABLES.items():
        types = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
        db.execute(
            f"CREATE VIEW {table} AS SELECT * FROM "
            f"read_json('{data}/{table}/*', format = 'newline_delimited', columns = {{{types}}})"
        )
    db.execute(
        f"CREATE VIEW side_input AS SELECT * FROM "
        f"read_csv('{data}/side_input/*', header = false, columns = {{'key': 'BIGINT', 'value': 'VARCHAR'}})"
    )
    return db
