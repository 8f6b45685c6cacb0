CREATE TABLE t (
  id BIGINT,
  order STRING
) WITH ('connector' = 'datagen');
