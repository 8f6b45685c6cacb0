SELECT *
FROM bid
JOIN auction ON bid.auction = auction.id;
