-- q3, local item: who sells in category 10 and lives in Oregon, Idaho or California. The generator writes states small.

CREATE TABLE nexmark_q3 (
    name  VARCHAR,
    city  VARCHAR,
    state VARCHAR,
    id    BIGINT
) WITH ('connector' = 'blackhole', 'digest' = 'true');

INSERT INTO nexmark_q3
SELECT p.name, p.city, p.state, a.id
FROM auction AS a
JOIN person AS p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca');
