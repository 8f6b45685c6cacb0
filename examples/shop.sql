-- Orders and shipments: joined within a bound of time, and ranked. Run from this repository's folder.

CREATE TABLE orders (
    id       BIGINT,
    customer STRING,
    amount   DECIMAL(10, 2),
    at       TIMESTAMP(3),
    WATERMARK FOR at AS at - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'examples/shop/orders.ndjson', 'format' = 'json');

CREATE TABLE shipments (
    `order` BIGINT,
    carrier STRING,
    at      TIMESTAMP(3),
    WATERMARK FOR at AS at - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'examples/shop/shipments.ndjson', 'format' = 'json');

-- Orders and what carried them within four hours; those that nobody carried come out when that is sure.
SELECT o.id, o.customer, s.carrier
FROM orders o LEFT JOIN shipments s
  ON o.id = s.`order` AND s.at BETWEEN o.at AND o.at + INTERVAL '4' HOUR;

-- The two largest orders of each customer, whatever comes later.
SELECT customer, id, amount, rank
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC) AS rank FROM orders)
WHERE rank <= 2;
