-- q10, log to files: every bid, in a folder for its day and minute under ${OUT}.

CREATE TABLE nexmark_q10 (
    auction    BIGINT,
    bidder     BIGINT,
    price      BIGINT,
    `dateTime` TIMESTAMP(3),
    extra      VARCHAR,
    dt         VARCHAR,
    hm         VARCHAR
) PARTITIONED BY (dt, hm) WITH (
    'connector' = 'filesystem',
    'path' = '${OUT}',
    'format' = 'csv'
);

INSERT INTO nexmark_q10
SELECT
    auction,
    bidder,
    price,
    `dateTime`,
    extra,
    DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'),
    DATE_FORMAT(`dateTime`, 'HH:mm')
FROM bid;
