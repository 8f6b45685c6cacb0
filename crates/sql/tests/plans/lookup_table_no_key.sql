CREATE TABLE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE side_input (`key` BIGINT, `value` VARCHAR) WITH ('connector' = 'filesystem', 'path' = 'side', 'format' = 'csv');
SELECT b.auction, s.`value` FROM (SELECT *, PROCTIME() AS p_time FROM bid) AS b JOIN side_input FOR SYSTEM_TIME AS OF b.p_time AS s ON MOD(b.auction, 10000) = s.`key`;
