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

CREATE TABLE orders (
    id INT,
    customer ROW<name STRING, address ROW<city STRING, zip INT>>,
    items ARRAY<ROW<sku STRING, qty INT, price DECIMAL(10, 2)>>,
    tags ARRAY<STRING>,
    props MAP<STRING, INT>,
    ts TIMESTAMP(3),
    WATERMARK FOR ts AS ts - INTERVAL '1' HOUR
) WITH ('connector' = 'filesystem', 'path' = '${data}orders.json', 'format' = 'json');

CREATE TABLE moments (
    k STRING,
    v INT,
    ms BIGINT,
    lt AS TO_TIMESTAMP_LTZ(ms, 3),
    WATERMARK FOR lt AS lt - INTERVAL '2' HOUR
) WITH ('connector' = 'filesystem', 'path' = '${data}moments.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');

CREATE TABLE lengths (
    id INT,
    c CHAR(5),
    v VARCHAR(3),
    s STRING
) WITH ('connector' = 'filesystem', 'path' = '${data}lengths.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');

CREATE TABLE written (
    id INT,
    c CHAR(5),
    v VARCHAR(3),
    s STRING
) WITH ('connector' = 'filesystem', 'path' = '${written}', 'format' = 'json');

CREATE VIEW per_group AS SELECT g, COUNT(*) AS c, SUM(i) AS s, MAX(n) AS m FROM numbers GROUP BY g;

CREATE VIEW large_groups AS SELECT g, c FROM per_group WHERE c > 1;

CREATE VIEW both_times AS
    SELECT k, v, ts FROM events UNION ALL SELECT CAST(id AS STRING), id, CAST(ts AS TIMESTAMP(3)) FROM orders;

CREATE VIEW few_events AS SELECT * FROM events WHERE v > 1000;

CREATE VIEW positive_events AS SELECT k, v, ts FROM events WHERE v > 0;

CREATE VIEW per_five AS
    SELECT k, window_start, window_end, window_time AS wt, COUNT(*) AS c, SUM(v) AS s
    FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' MINUTES))
    GROUP BY k, window_start, window_end, window_time;
