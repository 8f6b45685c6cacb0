CREATE ENDPOINT score (card STRING, card INT) AS SELECT card FROM request;
