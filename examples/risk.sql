-- Card payments, judged while the request is open.
--
--     tidemill run examples/risk.sql
--
-- and in another terminal a payment, as often as you like; each answer counts the payment itself, once:
--
--     curl -H 'content-type: application/json' localhost:8080/v1/endpoints/score --data-binary '
--     {"id": "p1", "card": "4000-1", "device": "d1", "address": "203.0.113.7", "amount": 12.5}'
--
-- The fourth within a minute is reviewed (velocity), the seventh denied. 1,500.00 after one under 2.00 is denied too
-- (sequence). Payments that were decided elsewhere count as well:
--
--     curl -H 'content-type: application/json' localhost:8080/v1/sources/payments --data-binary '
--     {"id": "p0", "card": "4000-2", "device": "d1", "address": "203.0.113.7", "amount": 900}'
--
-- A card, a device or an address is blocked from the next payment on, without a restart, and so is a disputed card:
--
--     curl -H 'content-type: application/json' localhost:8080/v1/tables/blocklist/versions --data-binary '
--     {"puts": [{"kind": "device", "id": "d1", "reason": "emulator"}]}'
--     curl -H 'content-type: application/json' localhost:8080/v1/sources/disputes --data-binary '
--     {"card": "4000-3", "amount": 80}'

CREATE TABLE payments (
    id      STRING,
    card    STRING,
    device  STRING,
    address STRING,
    amount  DOUBLE,
    seen    AS PROCTIME()
) WITH (
    'connector' = 'http'
);

CREATE TABLE disputes (
    card   STRING,
    amount DOUBLE
) WITH (
    'connector' = 'http'
);

CREATE TABLE blocklist (
    kind   STRING,              -- card, device or address
    id     STRING,
    reason STRING,
    PRIMARY KEY (kind, id) NOT ENFORCED
) WITH (
    'connector' = 'versioned'
);

CREATE MATERIALIZED VIEW disputed AS
SELECT card, COUNT(*) AS disputes, SUM(amount) AS amount
FROM disputes
GROUP BY card;

-- What is known of a card, a device and an address once the payment is counted. Times are truncated to seconds or minutes:
-- then a key keeps one partial result for each of them instead of its payments.
CREATE VIEW featured AS
SELECT
    id, card, device, address, amount,
    COUNT(*)                OVER card_minute    AS card_minute_count,
    COUNT(*)                OVER card_hour      AS card_hour_count,
    SUM(amount)             OVER card_hour      AS card_hour_amount,
    AVG(amount)             OVER card_day       AS card_day_mean,
    MAX(amount)             OVER card_day       AS card_day_max,
    COUNT(*)                OVER card_day       AS card_day_count,
    COUNT(*)                OVER device_minute  AS device_minute_count,
    COUNT(DISTINCT card)    OVER device_hour    AS device_hour_cards,
    SUM(amount)             OVER device_day     AS device_day_amount,
    COUNT(*)                OVER address_minute AS address_minute_count,
    COUNT(DISTINCT card)    OVER address_hour   AS address_hour_cards,
    COUNT(DISTINCT device)  OVER address_day    AS address_day_devices,
    LAG(amount)             OVER card_minute    AS last_amount,
    TIMESTAMPDIFF(SECOND, LAG(seen) OVER card_minute, seen) AS last_seconds
FROM payments
WINDOW
    card_minute    AS (PARTITION BY card    ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1'  MINUTE PRECEDING AND CURRENT ROW),
    card_hour      AS (PARTITION BY card    ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '1'  HOUR   PRECEDING AND CURRENT ROW),
    card_day       AS (PARTITION BY card    ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '24' HOUR   PRECEDING AND CURRENT ROW),
    device_minute  AS (PARTITION BY device  ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1'  MINUTE PRECEDING AND CURRENT ROW),
    device_hour    AS (PARTITION BY device  ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '1'  HOUR   PRECEDING AND CURRENT ROW),
    device_day     AS (PARTITION BY device  ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '24' HOUR   PRECEDING AND CURRENT ROW),
    address_minute AS (PARTITION BY address ORDER BY FLOOR(seen TO SECOND) RANGE BETWEEN INTERVAL '1'  MINUTE PRECEDING AND CURRENT ROW),
    address_hour   AS (PARTITION BY address ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '1'  HOUR   PRECEDING AND CURRENT ROW),
    address_day    AS (PARTITION BY address ORDER BY FLOOR(seen TO MINUTE) RANGE BETWEEN INTERVAL '24' HOUR   PRECEDING AND CURRENT ROW);

-- Every rule that speaks, what it says, and how much it weighs.
CREATE VIEW judged AS
SELECT
    f.*,
    COALESCE(bc.reason, bd.reason, ba.reason) AS blocked,
    TABLE_VERSION(bc) AS blocklist,
    COALESCE(d.disputes, 0) AS disputes
FROM featured AS f
LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS bc ON bc.kind = 'card'    AND bc.id = f.card
LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS bd ON bd.kind = 'device'  AND bd.id = f.device
LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS ba ON ba.kind = 'address' AND ba.id = f.address
LEFT JOIN disputed  FOR SYSTEM_TIME AS OF PROCTIME() AS d  ON d.card = f.card;

CREATE ENDPOINT score WITH (
    'record'   = 'payments',
    'deadline' = '50 ms',
    'fallback' = '{"decision": "review", "reasons": "late"}'
) AS
SELECT
    id,
    CASE
        WHEN blocked IS NOT NULL OR disputes > 1 THEN 'deny'
        WHEN card_minute_count > 6 OR device_hour_cards > 5 THEN 'deny'
        WHEN amount >= 1000 AND last_amount < 2 AND last_seconds <= 60 THEN 'deny'
        WHEN card_minute_count > 3 OR device_minute_count > 10 OR address_minute_count > 20 THEN 'review'
        WHEN disputes > 0 OR address_hour_cards > 10 OR address_day_devices > 50 THEN 'review'
        WHEN amount > 500 AND card_day_count > 3 AND amount > 4 * card_day_mean THEN 'review'
        WHEN card_hour_amount > 3000 OR device_day_amount > 20000 THEN 'review'
        ELSE 'allow'
    END AS decision,
    CONCAT_WS(
        ', ',
        CASE WHEN blocked IS NOT NULL THEN 'blocked: ' || blocked END,
        CASE WHEN disputes > 0 THEN 'disputed' END,
        CASE WHEN card_minute_count > 3 OR device_minute_count > 10 OR address_minute_count > 20 THEN 'velocity' END,
        CASE WHEN amount >= 1000 AND last_amount < 2 AND last_seconds <= 60 THEN 'sequence' END,
        CASE WHEN device_hour_cards > 5 OR address_hour_cards > 10 OR address_day_devices > 50 THEN 'shared' END,
        CASE
            WHEN card_hour_amount > 3000 OR device_day_amount > 20000 THEN 'amount'
            WHEN amount > 500 AND card_day_count > 3 AND amount > 4 * card_day_mean THEN 'amount'
        END
    ) AS reasons,
    card_minute_count,
    card_hour_amount,
    blocklist
FROM judged;
