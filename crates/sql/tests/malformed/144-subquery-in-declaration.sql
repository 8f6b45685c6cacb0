CREATE TABLE t (a INT, b AS (SELECT MAX(a) FROM u)) WITH ('connector' = 'x');
