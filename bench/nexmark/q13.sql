-- q13, side input: each bid with what a file says of its auction's number, looked up when the bid comes.

CREATE TABLE side_input (
    `key`   BIGINT,
    `value` VARCHAR
) WITH (
    'connector' = 'filesystem',
    'path' = '${DATA}/side_input',
    'format' = 'csv'
);

CREATE TABLE nexmark_q13 (
    auction    BIGINT,
    bidder     BIGINT,
    price      BIGINT,
    `dateTime` TIMESTAMP(3),
    `value`    VARCHAR
) WITH ('connector' = 'blackhole', 'digest' = 'true');

INSERT INTO nexmark_q13
SELECT b.auction, b.bidder, b.price, b.`dateTime`, s.`value`
FROM (SELECT *, PROCTIME() AS p_time FROM bid) AS b
JOIN side_input FOR SYSTEM_TIME AS OF b.p_time AS s ON MOD(b.auction, 10000) = s.`key`;
