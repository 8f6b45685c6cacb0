CREATE TABLE t (id BIGINT) WIHT ('connector' = 'datagen');
