CREATE TABLE a (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE b (id BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH ('connector' = 'datagen');
CREATE TABLE c (id BIGINT, name STRING, at TIMESTAMP(3)) WITH ('connector' = 'datagen');
SELECT a.id, b.at, c.name FROM a JOIN c ON a.id = c.id JOIN b ON a.id = b.id AND b.at BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE;
SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
SELECT a.id, c.name FROM a JOIN c /*+ OPTIONS('x' = 'y') */ ON a.id = c.id;
SELECT a.id, v.n FROM a JOIN (VALUES (1, 2)) AS v (id, n) ON a.id = v.id JOIN b ON a.id = b.id AND a.ts = b.at;
