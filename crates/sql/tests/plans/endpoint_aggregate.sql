CREATE TABLE payments (id STRING, card STRING, device STRING, amount DOUBLE, ts TIMESTAMP_LTZ(3), seen AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'http');
CREATE ENDPOINT score WITH ('record' = 'payments') AS
SELECT card, COUNT(*) AS n
FROM payments GROUP BY card;
