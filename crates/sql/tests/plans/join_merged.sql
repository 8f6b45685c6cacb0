CREATE TABLE a (id BIGINT, seller BIGINT, category INT, price DECIMAL(10, 2), note STRING, ts TIMESTAMP(3), expires TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED, WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE b (auction BIGINT, bidder INT, amount BIGINT, note STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
SELECT * FROM (SELECT id, price FROM a) AS a FULL JOIN (SELECT auction AS id, amount FROM b) AS b USING (id);
SELECT id, amount FROM a NATURAL RIGHT JOIN (SELECT auction AS id, amount FROM b) AS b;
