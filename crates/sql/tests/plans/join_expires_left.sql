CREATE TABLE a (id BIGINT, ts TIMESTAMP(3), expires TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE b (id BIGINT, x BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
SELECT a.id, b.x FROM a LEFT JOIN b ON a.id = b.id AND b.ts BETWEEN a.ts AND a.expires;
