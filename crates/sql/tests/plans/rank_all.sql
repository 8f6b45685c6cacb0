CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
SELECT auction, RANK() OVER (PARTITION BY auction ORDER BY price DESC) AS r, SUM(price) OVER (PARTITION BY auction ORDER BY price DESC) AS s, LEAD(price, 2, 0) OVER (PARTITION BY bidder ORDER BY ts) AS l FROM bid;
