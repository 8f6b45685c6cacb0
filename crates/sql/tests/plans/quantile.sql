CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, `dateTime` TIMESTAMP(3), extra STRING, tags ARRAY<STRING>, attrs ROW<a INT, b STRING>, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
SELECT APPROX_QUANTILE(price, 0.99), APPROX_COUNT_DISTINCT(bidder), STDDEV(price), BOOL_OR(price > 5) FROM bid;
