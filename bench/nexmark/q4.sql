-- q4, average price of a category: the mean of the prices at which its auctions close. Each new highest bid takes the one
-- before back out of the mean.

CREATE TABLE nexmark_q4 (
    category  BIGINT,
    avg_final BIGINT
) WITH ('connector' = 'blackhole', 'digest' = 'true');

INSERT INTO nexmark_q4
SELECT category, AVG(final) AS avg_final
FROM (
    SELECT MAX(b.price) AS final, a.category
    FROM auction AS a
    JOIN bid AS b ON a.id = b.auction
    WHERE b.`dateTime` BETWEEN a.`dateTime` AND a.expires
    GROUP BY a.id, a.category
) AS closed
GROUP BY category;
