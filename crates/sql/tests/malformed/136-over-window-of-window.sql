SELECT SUM(price) OVER b FROM bid WINDOW a AS (ORDER BY ts), b AS a;
