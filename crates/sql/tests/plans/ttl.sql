SET 'state.ttl' = '2 h';
CREATE TABLE bid (auction BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
CREATE MATERIALIZED VIEW prices AS SELECT auction, MAX(price) AS highest FROM bid GROUP BY auction;
CREATE MATERIALIZED VIEW channels WITH ('state.ttl' = '0') AS SELECT DISTINCT channel FROM bid;
CREATE MATERIALIZED VIEW more WITH ('state.ttl' = '1 min') AS SELECT auction, MAX(price) AS highest FROM bid GROUP BY auction;
SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
SELECT a.auction, b.channel FROM bid AS a LEFT JOIN bid AS b ON a.auction = b.auction AND b.price > 7;
SELECT auction, price FROM (SELECT auction, price, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS n FROM bid) WHERE n <= 2;
