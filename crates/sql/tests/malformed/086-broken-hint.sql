SELECT * FROM t /*+ OPTIONS(rows=10) */;
