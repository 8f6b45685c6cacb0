CREATE TABLE t (id BIGNT) WITH ('connector' = 'datagen');
