CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, `dateTime` TIMESTAMP(3), extra STRING, tags ARRAY<STRING>, attrs ROW<a INT, b STRING>, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
SELECT auction, tag, place FROM bid LEFT JOIN UNNEST(tags) WITH ORDINALITY AS t (tag, place) ON TRUE;
