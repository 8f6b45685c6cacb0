-- q19, auction top ten: the ten highest bids on each auction, with their rank.

CREATE TABLE nexmark_q19 (
    auction     BIGINT,
    bidder      BIGINT,
    price       BIGINT,
    channel     VARCHAR,
    url         VARCHAR,
    `dateTime`  TIMESTAMP(3),
    extra       VARCHAR,
    rank_number BIGINT
) WITH ('connector' = 'blackhole', 'digest' = 'true');

INSERT INTO nexmark_q19
SELECT *
FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number
    FROM bid
) AS ranked
WHERE rank_number <= 10;
