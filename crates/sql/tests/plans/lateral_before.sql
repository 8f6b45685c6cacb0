CREATE TABLE a (id BIGINT, seller BIGINT, category INT, price DECIMAL(10, 2), note STRING, ts TIMESTAMP(3), expires TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED, WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE b (auction BIGINT, bidder INT, amount BIGINT, note STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
SELECT a.id, x.amount FROM a, LATERAL (SELECT amount FROM b WHERE b.auction = a.id AND b.ts <= a.ts ORDER BY b.ts DESC LIMIT 1) AS x;
