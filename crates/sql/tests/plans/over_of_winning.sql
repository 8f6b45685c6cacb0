CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE VIEW winning AS SELECT auction, bidder, price, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, ts) AS rn FROM bid) WHERE rn = 1;
SELECT bidder, AVG(price) OVER (PARTITION BY bidder ORDER BY ts ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS a FROM winning;
