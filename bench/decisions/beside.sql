-- What runs beside the endpoint: Nexmark's q16, and a count of a million groups that closes every ten seconds.
CREATE TABLE bid (
    auction    BIGINT,
    bidder     BIGINT,
    price      BIGINT,
    channel    STRING,
    `dateTime` TIMESTAMP(3)
) WITH ('connector' = 'nexmark', 'nexmark.table' = 'bid', 'rate' = '100000');

CREATE TABLE readings (
    sensor BIGINT,
    seen   AS PROCTIME()
) WITH (
    'connector' = 'datagen', 'rows-per-second' = '100000',
    'fields.sensor.kind' = 'random', 'fields.sensor.min' = '1', 'fields.sensor.max' = '1000000'
);

CREATE TABLE statistics (
    channel STRING, `day` STRING, bids BIGINT, bidders BIGINT, auctions BIGINT
) WITH ('connector' = 'blackhole');

CREATE TABLE counts (sensor BIGINT, ends TIMESTAMP(3), n BIGINT) WITH ('connector' = 'blackhole');

INSERT INTO statistics
SELECT channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), COUNT(*), COUNT(DISTINCT bidder), COUNT(DISTINCT auction)
FROM bid
GROUP BY channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd');

INSERT INTO counts
SELECT sensor, window_end, COUNT(*)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(seen), INTERVAL '10' SECOND))
GROUP BY sensor, window_start, window_end;
