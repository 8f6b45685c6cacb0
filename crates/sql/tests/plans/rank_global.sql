CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
SELECT price FROM (SELECT price, RANK() OVER (ORDER BY price) AS r FROM bid) WHERE r < 4;
