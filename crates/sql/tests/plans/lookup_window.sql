CREATE TABLE payments (id BIGINT, ip STRING, port INT, amount BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE blocklist (ip STRING, reason STRING, score INT, note STRING, PRIMARY KEY (ip) NOT ENFORCED) WITH ('connector' = 'versioned');
SELECT window_start, b.reason, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) AS p LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON p.ip = b.ip GROUP BY window_start, window_end, b.reason;
