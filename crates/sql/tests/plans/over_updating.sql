CREATE TABLE t (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'x', 'changelog' = 'true');
SELECT SUM(v) OVER (PARTITION BY k ORDER BY ts) FROM t;
