CREATE TABLE auction (id BIGINT, category BIGINT, ts TIMESTAMP(3), expires TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'datagen');
CREATE VIEW closing AS SELECT a.id, a.category, a.expires, MAX(b.price) AS final FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.expires GROUP BY a.id, a.category, a.expires;
SELECT category, AVG(final) FROM closing GROUP BY category;
SELECT expires, COUNT(*) FROM closing GROUP BY expires;
SELECT id, expires, SUM(final) OVER (PARTITION BY expires ORDER BY id) AS total FROM closing;
SELECT DISTINCT auction, ts FROM bid;
