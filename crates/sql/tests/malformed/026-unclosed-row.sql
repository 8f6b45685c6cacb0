CREATE TABLE t (p ROW<id BIGINT, name STRING) WITH ('connector' = 'datagen');
