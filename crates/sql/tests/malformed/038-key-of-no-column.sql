CREATE TABLE t (user_id BIGINT, PRIMARY KEY (user_di) NOT ENFORCED) WITH ('connector' = 'datagen');
