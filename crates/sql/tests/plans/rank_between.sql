CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
SELECT * FROM (SELECT auction, price, DENSE_RANK() OVER (PARTITION BY auction ORDER BY price % 10 DESC NULLS LAST, ts) AS r FROM bid) WHERE r BETWEEN 2 AND 5 AND r <> 3;
