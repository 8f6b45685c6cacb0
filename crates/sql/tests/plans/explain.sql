CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, `dateTime` TIMESTAMP(3), extra STRING, tags ARRAY<STRING>, attrs ROW<a INT, b STRING>, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (a BIGINT) WITH ('connector' = 'blackhole'); EXPLAIN INSERT INTO o SELECT auction FROM bid;
