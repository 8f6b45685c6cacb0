SELECT price::INT FROM bid;
