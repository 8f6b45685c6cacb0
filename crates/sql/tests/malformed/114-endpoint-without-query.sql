CREATE ENDPOINT score (card STRING) WITH ('deadline' = '5 ms');
