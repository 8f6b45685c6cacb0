SELECT SUM(price) OVER card_hour, MIN(price) OVER card_huor FROM bid WINDOW card_hour AS (PARTITION BY id ORDER BY ts);
