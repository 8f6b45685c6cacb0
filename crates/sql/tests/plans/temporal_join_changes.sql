CREATE TABLE orders (id BIGINT, currency STRING, price DECIMAL(10, 2), ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'x');
CREATE TABLE rate (currency STRING, rate DECIMAL(10, 4), at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '1' MINUTE, PRIMARY KEY (currency) NOT ENFORCED)
  WITH ('connector' = 'http', 'format' = 'debezium-json');
SELECT o.id, o.price * r.rate AS price FROM orders AS o LEFT JOIN rate FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency;
SELECT currency, rate FROM rate;
