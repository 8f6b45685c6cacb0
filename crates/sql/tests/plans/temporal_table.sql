CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE rate (currency STRING, rate DECIMAL(10, 4), at TIMESTAMP(3), WATERMARK FOR at AS at, PRIMARY KEY (currency) NOT ENFORCED) WITH ('connector' = 'y');
SELECT b.auction, b.price * r.rate AS p FROM bid AS b JOIN rate FOR SYSTEM_TIME AS OF b.ts AS r ON b.channel = r.currency;
