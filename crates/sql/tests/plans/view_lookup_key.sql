CREATE TABLE payments (id STRING, card STRING, device STRING, amount DOUBLE, ts TIMESTAMP_LTZ(3), seen AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'http');
CREATE MATERIALIZED VIEW cards AS SELECT card, COUNT(*) AS n, SUM(amount) AS total FROM payments GROUP BY card;
SELECT p.id, c.total FROM payments AS p LEFT JOIN cards FOR SYSTEM_TIME AS OF PROCTIME() AS c ON c.n = 3;
