SET 'table.local-time-zone' = 'Asia/Kathmandu'; CREATE TABLE bid (auction BIGINT, price BIGINT, ms BIGINT, lt AS TO_TIMESTAMP_LTZ(ms, 3), WATERMARK FOR lt AS lt - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
SELECT window_start, window_time, auction, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(lt), INTERVAL '1' DAY)) GROUP BY window_start, window_end, window_time, auction;
