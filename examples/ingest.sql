-- Events in over HTTP, counted into windows of ten seconds.
--
--     tidemill run examples/ingest.sql
--
-- and in another terminal, as often as you like (one record, an array of records, or one a line):
--
--     curl -H 'content-type: application/x-ndjson' localhost:8080/v1/sources/clicks --data-binary '
--     {"page": "/home", "ms": 12}
--     {"page": "/cart", "ms": 48}'
--
-- What the view holds by now:
--
--     curl localhost:8080/v1/views/pages
--
-- Closed windows are printed as they close; Ctrl-C stops the run in order.

CREATE TABLE clicks (
    page STRING,
    ms   INT,
    seen AS PROCTIME()
) WITH (
    'connector' = 'http'
);

CREATE TABLE console (
    window_start TIMESTAMP(3),
    page         STRING,
    clicks       BIGINT,
    slowest_ms   INT
) WITH (
    'connector' = 'print'
);

CREATE MATERIALIZED VIEW pages AS
SELECT page, COUNT(*) AS clicks, AVG(CAST(ms AS DOUBLE)) AS mean_ms
FROM clicks
GROUP BY page;

INSERT INTO console
SELECT window_start, page, COUNT(*), MAX(ms)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(seen), INTERVAL '10' SECOND))
GROUP BY page, window_start, window_end;
