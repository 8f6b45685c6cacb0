-- A decision of many features, for bench/decisions.py: those of a card, a device and an address over a minute, an hour and a
-- day. It costs far more than to send it, so that a core of a client can ask for three times what a core answers.
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
    CASE
        WHEN c1 > 100 OR d1 > 100 OR a1 > 100 THEN 'deny'
        WHEN cmost > 10 * cmean OR ch > 200 OR dh > 200 OR ah > 200 THEN 'deny'
        WHEN csum > 100000 OR dsum > 100000 OR asum > 100000 THEN 'review'
        ELSE 'allow'
    END AS decision,
    c1, ch, cd, d1, dh, dd, a1, ah, ad, cdev, ddev, adev, cleast, dleast, aleast, dmost, amost, dmean, amean
FROM (
    SELECT
        id,
        COUNT(*) OVER cm AS c1, SUM(amount) OVER cm AS c1sum, MAX(amount) OVER cm AS c1most, AVG(amount) OVER cm AS c1mean,
        COUNT(*) OVER ch AS ch, SUM(amount) OVER ch AS csum, MAX(amount) OVER ch AS cmost, AVG(amount) OVER ch AS cmean,
        COUNT(*) OVER cd AS cd, MIN(amount) OVER cd AS cleast, STDDEV_POP(amount) OVER cd AS cdev,
        COUNT(*) OVER dm AS d1, SUM(amount) OVER dm AS d1sum, MAX(amount) OVER dm AS d1most, AVG(amount) OVER dm AS d1mean,
        COUNT(*) OVER dh AS dh, SUM(amount) OVER dh AS dsum, MAX(amount) OVER dh AS dmost, AVG(amount) OVER dh AS dmean,
        COUNT(*) OVER dd AS dd, MIN(amount) OVER dd AS dleast, STDDEV_POP(amount) OVER dd AS ddev,
        COUNT(*) OVER am AS a1, SUM(amount) OVER am AS a1sum, MAX(amount) OVER am AS a1most, AVG(amount) OVER am AS a1mean,
        COUNT(*) OVER ah AS ah, SUM(amount) OVER ah AS asum, MAX(amount) OVER ah AS amost, AVG(amount) OVER ah AS amean,
        COUNT(*) OVER ad AS ad, MIN(amount) OVER ad AS aleast, STDDEV_POP(amount) OVER ad AS adev
    FROM payments
    WINDOW
        cm AS (PARTITION BY card ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW),
        ch AS (PARTITION BY card ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW),
        cd AS (PARTITION BY card ORDER BY FLOOR(seen TO HOUR) RANGE BETWEEN INTERVAL '24' HOUR PRECEDING AND CURRENT ROW),
        dm AS (PARTITION BY device ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW),
        dh AS (PARTITION BY device ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW),
        dd AS (PARTITION BY device ORDER BY FLOOR(seen TO HOUR) RANGE BETWEEN INTERVAL '24' HOUR PRECEDING AND CURRENT ROW),
        am AS (PARTITION BY address ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW),
        ah AS (PARTITION BY address ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW),
        ad AS (PARTITION BY address ORDER BY FLOOR(seen TO HOUR) RANGE BETWEEN INTERVAL '24' HOUR PRECEDING AND CURRENT ROW)
);
