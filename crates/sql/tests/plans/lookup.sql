CREATE TABLE payments (id BIGINT, ip STRING, port INT, amount BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE blocklist (ip STRING, reason STRING, score INT, note STRING, PRIMARY KEY (ip) NOT ENFORCED) WITH ('connector' = 'versioned');
SELECT p.id, b.reason FROM payments AS p JOIN blocklist FOR SYSTEM_TIME AS OF p.p AS b ON p.ip = b.ip AND b.score > 3 WHERE p.amount > 10;
