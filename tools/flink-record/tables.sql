CREATE TABLE events (
    k STRING,
    v INT,
    ts TIMESTAMP(3),
    WATERMARK FOR ts AS ts - INTERVAL '1' HOUR
) WITH ('connector' = 'filesystem', 'path' = '${data}events.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');

CREATE TABLE numbers (
    g INT,
    ti TINYINT,
    si SMALLINT,
    i INT,
    b BIGINT,
    f FLOAT,
    d DOUBLE,
    n DECIMAL(10, 2),
    s STRING,
    p BOOLEAN
) WITH ('connector' = 'filesystem', 'path' = '${data}numbers.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');
