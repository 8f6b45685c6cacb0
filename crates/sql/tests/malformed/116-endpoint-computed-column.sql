CREATE ENDPOINT score (card STRING, twice AS amount * 2) AS SELECT card FROM request;
