SELECT * FROM my_catalog.my_db.orders;
