SELECT a, b, COUNT(*) FROM t GROUP BY ROLLUP ((a, b), c);
