CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, `dateTime` TIMESTAMP(3), extra STRING, tags ARRAY<STRING>, attrs ROW<a INT, b STRING>, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
SELECT auction, e FROM bid CROSS JOIN UNNEST(ARRAY[price, bidder]) AS t (e);
