-- A year of flights from New York, read as a stream: 336,776 departures and 26,115 hours of weather.
--
--     tidemill run examples/flights.sql
--
-- Run it from the folder that holds `examples`. Each materialised view is kept up to date row by row; the files end, so
-- the run ends too, and the SELECTs below print what the views then hold. All times are UTC.

CREATE TABLE flights (
    sched_dep   TIMESTAMP(3),
    flight_date DATE,
    dep_delay   INT,              -- minutes; null when the flight was cancelled
    carrier     STRING,
    tailnum     STRING,
    origin      STRING,
    distance    INT,              -- miles
    dep_time    INT,              -- null when the flight was cancelled
    WATERMARK FOR sched_dep AS sched_dep
) WITH (
    'connector' = 'filesystem',
    'path' = 'examples/data/flights.parquet',
    'format' = 'parquet'
);

CREATE TABLE weather (
    time_hour  TIMESTAMP(3),
    origin     STRING,
    visib      DOUBLE,            -- miles
    wind_speed DOUBLE,            -- miles an hour
    WATERMARK FOR time_hour AS time_hour
) WITH (
    'connector' = 'filesystem',
    'path' = 'examples/data/weather.parquet',
    'format' = 'parquet'
);

-- 1. Departures of each carrier in each hour: a tumbling window.
CREATE MATERIALIZED VIEW departures AS
SELECT
    carrier,
    window_start,
    COUNT(dep_time) AS departures,
    AVG(CAST(dep_delay AS DOUBLE)) AS mean_delay,
    MAX(dep_delay) AS worst_delay
FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR))
GROUP BY carrier, window_start, window_end;

-- 2. The worst delay of the last three hours, every half hour: a hopping window.
CREATE MATERIALIZED VIEW rolling_delay AS
SELECT
    origin,
    window_end,
    COUNT(*) AS flights,
    COUNT(*) FILTER (WHERE dep_delay > 60) AS late,
    MAX(dep_delay) AS worst_delay
FROM TABLE(HOP(TABLE flights, DESCRIPTOR(sched_dep), INTERVAL '30' MINUTE, INTERVAL '3' HOUR))
GROUP BY origin, window_start, window_end;

-- 3. The busiest aircraft: runs of departures with less than twelve hours between one and the next, a session window.
CREATE VIEW known_aircraft AS
SELECT tailnum, sched_dep, distance FROM flights WHERE tailnum IS NOT NULL;

CREATE MATERIALIZED VIEW aircraft_sessions AS
SELECT
    tailnum,
    window_start,
    window_end,
    COUNT(*) AS departures,
    SUM(distance) AS miles
FROM TABLE(SESSION(TABLE known_aircraft PARTITION BY tailnum, DESCRIPTOR(sched_dep), INTERVAL '12' HOUR))
GROUP BY tailnum, window_start, window_end;

-- 4. The cancelled share of each airport and day: no window, each row changes its day's answer.
CREATE MATERIALIZED VIEW cancelled AS
SELECT
    origin,
    flight_date,
    COUNT(*) AS scheduled,
    COUNT(*) FILTER (WHERE dep_time IS NULL) AS cancelled
FROM flights
GROUP BY origin, flight_date;

-- 5. What bad sight does to departures: both streams, hour by hour, and a total over the closed hours.
CREATE VIEW flights_and_weather AS
SELECT sched_dep AS event_time, origin, 1 AS flight, dep_time, dep_delay, CAST(NULL AS DOUBLE) AS visib FROM flights
UNION ALL
SELECT time_hour AS event_time, origin, CAST(NULL AS INT), CAST(NULL AS INT), CAST(NULL AS INT), visib FROM weather;

CREATE VIEW airport_hours AS
SELECT
    origin,
    window_start,
    COUNT(flight) AS scheduled,
    COUNT(dep_time) AS departed,
    SUM(dep_delay) AS delay,
    MIN(visib) AS visib
FROM TABLE(TUMBLE(TABLE flights_and_weather, DESCRIPTOR(event_time), INTERVAL '1' HOUR))
GROUP BY origin, window_start, window_end;

CREATE MATERIALIZED VIEW delay_by_sight AS
SELECT
    sight,
    COUNT(*) AS airport_hours,
    SUM(scheduled) AS flights,
    SUM(delay) AS delay,
    SUM(departed) AS departed
FROM (
    SELECT
        scheduled,
        departed,
        delay,
        CASE
            WHEN visib < 1 THEN '1 fog: under a mile'
            WHEN visib < 3 THEN '2 poor: 1 to 3 miles'
            WHEN visib < 7 THEN '3 hazy: 3 to 7 miles'
            ELSE '4 clear'
        END AS sight
    FROM airport_hours
    WHERE scheduled > 0 AND visib IS NOT NULL
)
GROUP BY sight;

-- What the views hold at the end.

-- The worst hours of a carrier that had ten departures in it
SELECT carrier, window_start AS `hour`, departures, ROUND(mean_delay, 1) AS mean_delay, worst_delay
FROM departures
WHERE departures >= 10
ORDER BY mean_delay DESC, carrier
LIMIT 8;

-- JFK on the evening of 22 July: departures of the last three hours, every half hour
SELECT window_end AS `until`, flights, late AS over_an_hour_late, worst_delay AS worst_delay_minutes
FROM rolling_delay
WHERE origin = 'JFK'
  AND window_end BETWEEN TIMESTAMP '2013-07-22 20:00:00' AND TIMESTAMP '2013-07-23 02:00:00'
ORDER BY `until`
LIMIT 13;

-- The busiest aircraft: never twelve hours without a departure from New York
SELECT tailnum, window_start AS `from`, window_end AS `until`, departures, miles
FROM aircraft_sessions
ORDER BY departures DESC, miles DESC, tailnum
LIMIT 5;

-- The days with the most cancelled flights
SELECT origin, flight_date, scheduled, cancelled, ROUND(100e0 * cancelled / scheduled, 1) AS per_cent
FROM cancelled
ORDER BY per_cent DESC, origin
LIMIT 8;

-- Delays and cancellations by how far one could see
SELECT
    sight,
    airport_hours,
    flights,
    ROUND(CAST(delay AS DOUBLE) / departed, 1) AS mean_delay,
    ROUND(100e0 * (flights - departed) / flights, 1) AS per_cent_cancelled
FROM delay_by_sight
ORDER BY sight
LIMIT 4;
