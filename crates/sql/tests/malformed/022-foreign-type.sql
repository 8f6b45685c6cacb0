CREATE TABLE t (doc JSONB) WITH ('connector' = 'datagen');
