CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE rate (currency STRING, rate DECIMAL(10, 4), at TIMESTAMP(3), WATERMARK FOR at AS at, PRIMARY KEY (currency) NOT ENFORCED) WITH ('connector' = 'y');
SELECT b.auction, r.rate FROM bid AS b ASOF JOIN rate AS r MATCH_CONDITION (b.ts > r.at) ON b.channel = r.currency;
