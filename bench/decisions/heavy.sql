-- A decision of many features, for bench/decisions.py: one that costs far more than to send it, so that a core of a client can
-- ask for three times what a core answers.
CREATE TABLE payments (
    id      BIGINT,
    card    STRING,
    device  STRING,
    address STRING,
    amount  DOUBLE,
    seen    AS PROCTIME()
) WITH ('connector' = 'http', 'durability' = 'process');

CREATE ENDPOINT score WITH (
    'record' = 'payments', 'durability' = 'process', 'deadline' = '50 ms', 'fallback' = '{"decision": "review"}',
    'shed' = 'fallback'
) AS
SELECT
    id,
    CASE WHEN n + m + k > 100 OR total > 100000 OR most > 10 * mean OR h > 200 OR d > 1000 THEN 'deny' ELSE 'allow' END AS decision,
    n, m, k, h, d
FROM (
    SELECT
        id,
        COUNT(*) OVER c AS n, SUM(amount) OVER c AS total, MAX(amount) OVER c AS most, AVG(amount) OVER c AS mean,
        COUNT(*) OVER e AS m, MAX(amount) OVER e AS dearest, COUNT(*) OVER a AS k, MIN(amount) OVER a AS least,
        COUNT(*) OVER (
            PARTITION BY card ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW
        ) AS h,
        COUNT(*) OVER (
            PARTITION BY card ORDER BY FLOOR(seen TO HOUR) RANGE BETWEEN INTERVAL '24' HOUR PRECEDING AND CURRENT ROW
        ) AS d
    FROM payments
    WINDOW
        c AS (PARTITION BY card ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW),
        e AS (PARTITION BY device ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW),
        a AS (PARTITION BY address ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW)
);
