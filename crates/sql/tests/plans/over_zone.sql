SET 'table.local-time-zone' = 'America/New_York';
CREATE TABLE t (k INT, v INT, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'x');
SELECT SUM(v) OVER (PARTITION BY k ORDER BY ts) AS s FROM t;
