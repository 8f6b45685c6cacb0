CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE side (k BIGINT, name STRING, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'filesystem', 'path' = 'side.csv', 'format' = 'csv');
SELECT b.auction, s.name FROM (SELECT *, PROCTIME() AS p FROM bid) AS b JOIN side FOR SYSTEM_TIME AS OF b.p AS s ON b.auction % 10000 = s.k;
