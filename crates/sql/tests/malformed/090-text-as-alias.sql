SELECT a AS 'the a' FROM t;
