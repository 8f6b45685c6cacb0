-- A decision with two features on one key, for bench/decisions.py.
CREATE TABLE payments (
    id     BIGINT,
    card   STRING,
    amount DOUBLE,
    seen   AS PROCTIME()
) WITH ('connector' = 'http', 'durability' = 'process');

CREATE ENDPOINT score WITH (
    'record' = 'payments', 'durability' = 'process', 'deadline' = '50 ms', 'fallback' = '{"decision": "review"}'
) AS
SELECT id, CASE WHEN n > 20 OR total > 100000 THEN 'deny' WHEN n > 10 THEN 'review' ELSE 'allow' END AS decision, n
FROM (
    SELECT id, COUNT(*) OVER w AS n, SUM(amount) OVER w AS total
    FROM payments
    WINDOW w AS (
        PARTITION BY card ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW
    )
);
