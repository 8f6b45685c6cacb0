-- keyed, ours: a running count and sum for each of a million keys, which bids fall on evenly.

CREATE TABLE keyed (
    `key` BIGINT,
    bids  BIGINT,
    total BIGINT
) WITH ('connector' = 'blackhole', 'digest' = 'true');

INSERT INTO keyed
SELECT MOD(auction * 31 + bidder * 7 + price, 1000000) AS `key`, COUNT(*) AS bids, SUM(price) AS total
FROM bid
GROUP BY MOD(auction * 31 + bidder * 7 + price, 1000000);
