-- Writes the events of generator.sql as the NDJSON files that tables.sql reads, a file for each table. It runs behind
-- generator.sql.

CREATE TABLE person_file (
    id           BIGINT,
    name         VARCHAR,
    emailAddress VARCHAR,
    creditCard   VARCHAR,
    city         VARCHAR,
    state        VARCHAR,
    `dateTime`   TIMESTAMP(3),
    extra        VARCHAR
) WITH (
    'connector' = 'filesystem',
    'path' = '${DATA}/person',
    'format' = 'json',
    'json.timestamp-format.standard' = 'ISO-8601',
    'sink.rolling-policy.file-size' = '1 TB'
);

CREATE TABLE auction_file (
    id          BIGINT,
    itemName    VARCHAR,
    description VARCHAR,
    initialBid  BIGINT,
    reserve     BIGINT,
    `dateTime`  TIMESTAMP(3),
    expires     TIMESTAMP(3),
    seller      BIGINT,
    category    BIGINT,
    extra       VARCHAR
) WITH (
    'connector' = 'filesystem',
    'path' = '${DATA}/auction',
    'format' = 'json',
    'json.timestamp-format.standard' = 'ISO-8601',
    'sink.rolling-policy.file-size' = '1 TB'
);

CREATE TABLE bid_file (
    auction    BIGINT,
    bidder     BIGINT,
    price      BIGINT,
    channel    VARCHAR,
    url        VARCHAR,
    `dateTime` TIMESTAMP(3),
    extra      VARCHAR
) WITH (
    'connector' = 'filesystem',
    'path' = '${DATA}/bid',
    'format' = 'json',
    'json.timestamp-format.standard' = 'ISO-8601',
    'sink.rolling-policy.file-size' = '1 TB'
);

EXECUTE STATEMENT SET
BEGIN
    INSERT INTO person_file SELECT * FROM person;
    INSERT INTO auction_file SELECT * FROM auction;
    INSERT INTO bid_file SELECT * FROM bid;
END;
