CREATE TABLE bid (auction BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
CREATE VIEW best AS SELECT auction, price, ts FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, ts ORDER BY price DESC) AS n
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) WHERE n = 1;
SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE best, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY window_start, window_end;
