CREATE TABLE payments (id STRING, card STRING, device STRING, amount DOUBLE, ts TIMESTAMP_LTZ(3), seen AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'http');
CREATE ENDPOINT score WITH ('record' = 'payments') AS SELECT card, amount FROM payments WHERE amount > 1;
CREATE ENDPOINT other (card STRING) WITH ('record' = 'payments') AS SELECT card, e FROM payments CROSS JOIN UNNEST(ARRAY[amount, 1e0]) AS u (e);
CREATE ENDPOINT apart (card STRING) WITH ('shed' = 'reject', 'durability' = 'process') AS SELECT UPPER(card) AS card FROM request;
SELECT card, COUNT(*) AS n FROM payments GROUP BY card;
