SELECT * FROM bid AS b RIGHT JOIN side FOR SYSTEM_TIME AS OF b.p AS s ON b.k = s.k;
