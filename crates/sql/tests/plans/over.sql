CREATE TABLE payments (id STRING, card STRING, device STRING, amount DOUBLE, ts TIMESTAMP_LTZ(3), seen AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'http');
SELECT id,
  COUNT(*) OVER card_hour AS n,
  SUM(amount) FILTER (WHERE amount > 1) OVER card_hour AS s,
  COUNT(DISTINCT device) OVER card_hour AS d,
  MAX(amount * 2) OVER (PARTITION BY card ORDER BY ts ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) AS m,
  ROW_NUMBER() OVER (PARTITION BY card ORDER BY ts) AS r,
  LAG(amount, 2, 0) OVER (PARTITION BY device ORDER BY ts) AS l,
  AVG(amount) OVER (ORDER BY ts) AS a
FROM payments
WINDOW card_hour AS (PARTITION BY card ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW);
