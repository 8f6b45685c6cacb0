CREATE TABLE t (
  id BIGINT,
  id STRING
) WITH ('connector' = 'datagen');
