-- q5, hot items: the auctions with the most bids in the last ten seconds, every two seconds.

CREATE TABLE nexmark_q5 (
    auction BIGINT,
    num     BIGINT
) WITH ('connector' = 'blackhole', 'digest' = 'true');

CREATE VIEW auction_bids AS
SELECT auction, COUNT(*) AS num, window_start, window_end
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end;

INSERT INTO nexmark_q5
SELECT a.auction, a.num
FROM auction_bids AS a
JOIN (
    SELECT MAX(num) AS max_num, window_start, window_end
    FROM auction_bids
    GROUP BY window_start, window_end
) AS m
    ON a.window_start = m.window_start AND a.window_end = m.window_end AND a.num >= m.max_num;
