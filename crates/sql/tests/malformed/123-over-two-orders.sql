SELECT MAX(price) OVER (PARTITION BY id ORDER BY ts, price) FROM bid;
