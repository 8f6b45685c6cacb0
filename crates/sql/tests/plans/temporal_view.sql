CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE change (currency STRING, rate DECIMAL(10, 4), at TIMESTAMP(3), WATERMARK FOR at AS at) WITH ('connector' = 'y');
CREATE VIEW rate AS SELECT currency, rate, at FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY currency ORDER BY at DESC) AS n FROM change) WHERE n = 1;
SELECT b.auction, b.price * r.rate AS p FROM bid AS b LEFT JOIN rate FOR SYSTEM_TIME AS OF b.ts AS r ON b.channel = r.currency;
