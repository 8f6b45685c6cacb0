-- A decision with features on three keys, for bench/decisions.py.
CREATE TABLE payments (
    id      BIGINT,
    card    STRING,
    device  STRING,
    address STRING,
    amount  DOUBLE,
    seen    AS PROCTIME()
) WITH ('connector' = 'http', 'durability' = 'process');

CREATE ENDPOINT score WITH (
    'record' = 'payments', 'durability' = 'process', 'deadline' = '50 ms', 'fallback' = '{"decision": "review"}'
) AS
SELECT id, CASE WHEN n > 20 OR total > 100000 OR m > 50 OR k > 50 THEN 'deny' ELSE 'allow' END AS decision, n, m, k
FROM (
    SELECT id, COUNT(*) OVER c AS n, SUM(amount) OVER c AS total, COUNT(*) OVER d AS m, COUNT(*) OVER a AS k
    FROM payments
    WINDOW
        c AS (PARTITION BY card ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW),
        d AS (PARTITION BY device ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW),
        a AS (PARTITION BY address ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW)
);
