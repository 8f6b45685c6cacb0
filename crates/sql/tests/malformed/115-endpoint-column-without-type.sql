CREATE ENDPOINT score (card, amount DOUBLE) AS SELECT card FROM request;
