CREATE TABLE blocklist (card STRING, reason STRING, PRIMARY KEY (card) NOT ENFORCED) WITH ('connector' = 'versioned');
CREATE ENDPOINT score (card STRING, amount DOUBLE) WITH ('deadline' = '5 ms', 'fallback' = '{"decision": "review"}') AS
SELECT r.card, CASE WHEN b.card IS NOT NULL THEN 'deny' WHEN r.amount > 100 THEN 'review' ELSE 'allow' END AS decision, UUID() AS ticket
FROM request AS r LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON b.card = r.card
WHERE r.amount > 0;
