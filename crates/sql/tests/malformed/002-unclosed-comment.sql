SELECT a /* what is b
FROM t
