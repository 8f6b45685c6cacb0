CREATE TABLE t (ts TIMESTAMP(12)) WITH ('connector' = 'datagen');
