CREATE TABLE payments (id STRING, card STRING, device STRING, amount DOUBLE, ts TIMESTAMP_LTZ(3), seen AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'http');
CREATE TABLE blocklist (card STRING, reason STRING, PRIMARY KEY (card) NOT ENFORCED) WITH ('connector' = 'versioned');
CREATE MATERIALIZED VIEW cards AS SELECT card, COUNT(*) AS n, SUM(amount) AS total FROM payments GROUP BY card;
CREATE ENDPOINT score (id STRING, card STRING, device STRING, amount DOUBLE) WITH ('record' = 'payments') AS
SELECT f.id, f.n, f.total, f.last_amount, b.reason
FROM (
  SELECT id, card,
    COUNT(*) OVER (PARTITION BY card ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW) AS n,
    SUM(amount) OVER (PARTITION BY device ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) AS total,
    LAG(amount) OVER (PARTITION BY card ORDER BY seen) AS last_amount
  FROM payments WHERE amount > 0
) AS f
LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON b.card = f.card
WHERE f.n > 1;
