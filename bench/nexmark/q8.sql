-- q8, new users: who opened an auction in the ten seconds in which they registered.

CREATE TABLE nexmark_q8 (
    id        BIGINT,
    name      VARCHAR,
    starttime TIMESTAMP(3)
) WITH ('connector' = 'blackhole', 'digest' = 'true');

INSERT INTO nexmark_q8
SELECT p.id, p.name, p.window_start AS starttime
FROM (
    SELECT id, name, window_start, window_end
    FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
    GROUP BY id, name, window_start, window_end
) AS p
JOIN (
    SELECT seller, window_start, window_end
    FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
    GROUP BY seller, window_start, window_end
) AS a
    ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end;
