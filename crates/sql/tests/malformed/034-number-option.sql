CREATE TABLE t (id BIGINT) WITH ('connector' = 'datagen', 'rows' = 10);
