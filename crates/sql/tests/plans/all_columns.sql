CREATE TABLE a (id BIGINT, seller BIGINT, category INT, price DECIMAL(10, 2), note STRING, ts TIMESTAMP(3), expires TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED, WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE b (auction BIGINT, bidder INT, amount BIGINT, note STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
SELECT id FROM a WHERE price > ALL (SELECT amount, ts FROM b);
