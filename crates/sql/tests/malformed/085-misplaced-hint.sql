SELECT * FROM t WHERE a > 1 /*+ OPTIONS('rows'='10') */;
