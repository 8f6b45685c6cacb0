CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
SELECT auction, channel, SUM(price) AS s FROM bid GROUP BY ROLLUP (auction, channel) HAVING GROUPING(channel) = 1;
