-- q6, average price of a seller: the mean of the prices at which the last ten auctions of each seller closed. The public
-- form has a row for each auction, by OVER in the order of time, and so depends on what comes first of one millisecond.
-- Here each seller has one row, and auctions that were won at the same time are in the order of their ids.

CREATE TABLE nexmark_q6 (
    seller    BIGINT,
    avg_price BIGINT
) WITH ('connector' = 'blackhole', 'digest' = 'true');

INSERT INTO nexmark_q6
SELECT seller, AVG(price) AS avg_price
FROM (
    SELECT seller, price, ROW_NUMBER() OVER (PARTITION BY seller ORDER BY won DESC, id DESC) AS place
    FROM (
        SELECT
            a.id,
            a.seller,
            b.price,
            b.`dateTime` AS won,
            ROW_NUMBER() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.`dateTime` ASC) AS rownum
        FROM auction AS a
        JOIN bid AS b ON a.id = b.auction
        WHERE b.`dateTime` BETWEEN a.`dateTime` AND a.expires
    ) AS bids
    WHERE rownum <= 1
) AS winners
WHERE place <= 10
GROUP BY seller;
