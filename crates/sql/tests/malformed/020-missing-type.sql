CREATE TABLE t (id, name STRING) WITH ('connector' = 'datagen');
