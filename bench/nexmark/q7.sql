-- q7, highest bid: the bids with the highest price of each ten seconds.

CREATE TABLE nexmark_q7 (
    auction    BIGINT,
    bidder     BIGINT,
    price      BIGINT,
    `dateTime` TIMESTAMP(3),
    extra      VARCHAR
) WITH ('connector' = 'blackhole', 'digest' = 'true');

INSERT INTO nexmark_q7
SELECT b.auction, b.bidder, b.price, b.`dateTime`, b.extra
FROM bid AS b
JOIN (
    SELECT MAX(price) AS max_price, window_end
    FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
    GROUP BY window_start, window_end
) AS m
    ON b.price = m.max_price
WHERE b.`dateTime` BETWEEN m.window_end - INTERVAL '10' SECOND AND m.window_end;
