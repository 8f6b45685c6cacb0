SELECT * FROM t AS emit;
