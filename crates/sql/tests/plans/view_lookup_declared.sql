CREATE TABLE payments (id STRING, card STRING, device STRING, amount DOUBLE, ts TIMESTAMP_LTZ(3), seen AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'http');
CREATE MATERIALIZED VIEW latest (PRIMARY KEY (card) NOT ENFORCED) AS SELECT card, device, amount FROM payments;
SELECT p.id, l.device FROM payments AS p JOIN latest FOR SYSTEM_TIME AS OF PROCTIME() AS l ON l.card = p.card AND l.device <> p.device;
