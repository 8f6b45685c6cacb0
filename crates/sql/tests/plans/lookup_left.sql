CREATE TABLE payments (id BIGINT, ip STRING, port INT, amount BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE blocklist (ip STRING, reason STRING, score INT, note STRING, PRIMARY KEY (ip) NOT ENFORCED) WITH ('connector' = 'versioned');
SELECT p.id, b.reason, TABLE_VERSION(b) AS v FROM payments AS p LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON LOWER(p.ip) = b.ip AND b.score > p.amount;
