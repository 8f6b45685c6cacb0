SELECT * FROM t, LATERAL TABLE(split(line)) AS s (word);
