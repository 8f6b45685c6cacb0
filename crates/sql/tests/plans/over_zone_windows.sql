SET 'table.local-time-zone' = 'America/New_York';
CREATE TABLE t (k INT, v INT, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'x');
SELECT SUM(v) OVER (PARTITION BY k ORDER BY ts) AS s FROM t;
SELECT COUNT(*) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
