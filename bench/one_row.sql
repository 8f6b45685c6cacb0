-- A filter and a tumbling count, fed one row at a time by bench/one_row.py.

CREATE TABLE reading (
    sensor INT,
    degrees INT,
    at_time TIMESTAMP(3),
    WATERMARK FOR at_time AS at_time
) WITH ('connector' = 'stdin', 'format' = 'json');

CREATE TABLE hot (
    window_start TIMESTAMP(3),
    sensor INT,
    readings BIGINT
) WITH ('connector' = 'blackhole');

INSERT INTO hot
SELECT window_start, sensor, COUNT(*)
FROM TABLE(TUMBLE(TABLE reading, DESCRIPTOR(at_time), INTERVAL '1' SECOND))
WHERE degrees > 30
GROUP BY sensor, window_start, window_end;
