SELECT a, end FROM t;
