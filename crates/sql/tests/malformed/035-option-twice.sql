CREATE TABLE t (id BIGINT) WITH ('path' = 'a', 'path' = 'b');
