CREATE TABLE payments (id BIGINT, ip STRING, port INT, amount BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE blocklist (ip STRING, reason STRING, score INT, note STRING, PRIMARY KEY (ip) NOT ENFORCED) WITH ('connector' = 'versioned');
CREATE MATERIALIZED VIEW kept AS SELECT p.id, TABLE_VERSION(blocklist) AS v FROM payments AS p LEFT JOIN blocklist FOR SYSTEM_TIME AS OF p.p ON p.ip = blocklist.ip; SELECT v, COUNT(*) AS n FROM kept GROUP BY v;
