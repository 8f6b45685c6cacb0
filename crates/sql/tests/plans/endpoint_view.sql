CREATE TABLE payments (id STRING, card STRING, device STRING, amount DOUBLE, ts TIMESTAMP_LTZ(3), seen AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'http');
CREATE MATERIALIZED VIEW cards AS SELECT card, COUNT(*) AS n, SUM(amount) AS total FROM payments GROUP BY card;
CREATE MATERIALIZED VIEW by_device AS SELECT device, COUNT(DISTINCT card) AS cards FROM payments GROUP BY device;
CREATE ENDPOINT score (id STRING, card STRING, device STRING, amount DOUBLE) WITH ('record' = 'payments') AS
SELECT p.id, c.n, c.total, d.cards
FROM payments AS p
JOIN cards FOR SYSTEM_TIME AS OF PROCTIME() AS c ON c.card = p.card AND c.n < 1000
LEFT JOIN by_device FOR SYSTEM_TIME AS OF p.seen AS d ON d.device = p.device AND d.cards > 1;
