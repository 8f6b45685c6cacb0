CREATE ENDPOINT score WITH ('record' = 'a', 'record' = 'b') AS SELECT 1 FROM a;
