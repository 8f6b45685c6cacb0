CREATE TABLE t (tags MULTISET<STRING>) WITH ('connector' = 'datagen');
