-- q12, windows of processing time: the bids of each bidder in every ten seconds of the wall clock.

CREATE TABLE nexmark_q12 (
    bidder    BIGINT,
    bid_count BIGINT,
    starttime TIMESTAMP(3),
    endtime   TIMESTAMP(3)
) WITH ('connector' = 'blackhole', 'digest' = 'true');

CREATE VIEW bid_seen AS
SELECT *, PROCTIME() AS seen
FROM bid;

INSERT INTO nexmark_q12
SELECT bidder, COUNT(*) AS bid_count, window_start AS starttime, window_end AS endtime
FROM TABLE(TUMBLE(TABLE bid_seen, DESCRIPTOR(seen), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end;
